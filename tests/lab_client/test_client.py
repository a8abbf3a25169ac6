"""The lab_client when its lab is gone, slow or odd; what it does with a lab that answers is tested with the lab."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.lab_client.client import wait_until_up
from p2pnet.model.errors import TargetError


@pytest.fixture
async def serve(tmp_path_factory) -> AsyncIterator:
    runners = []

    async def start(handler):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        path = tmp_path_factory.mktemp("s") / "s.sock"
        await web.UnixSite(runner, str(path)).start()
        runners.append(runner)
        return path

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_lab_that_is_gone_is_exit_3_and_names_up(tmp_path):
    async with LabClient.unix(tmp_path / "none.sock") as lab_client:
        with pytest.raises(TargetError) as caught:
            await lab_client.summary()
    assert caught.value.exit_code == 3
    assert "up" in caught.value.hint


async def test_a_lab_that_dies_in_the_middle_is_exit_3(serve):
    async def die(request):
        request.transport.abort()
        return web.Response()

    async with LabClient.unix(await serve(die)) as lab_client:
        with pytest.raises(TargetError) as caught:
            await lab_client.run("r-1")
    assert caught.value.exit_code == 3


async def test_an_answer_of_another_version_is_no_traceback(serve):
    async def odd(request):
        return web.json_response({"schema": "p2pnet.io/status/v9"})

    async with LabClient.unix(await serve(odd)) as lab_client:
        with pytest.raises(TargetError, match="version"):
            await lab_client.summary()


async def test_an_error_without_a_problem_is_still_one(serve):
    async def fail(request):
        return web.Response(status=500, text="oops")

    async with LabClient.unix(await serve(fail)) as lab_client:
        with pytest.raises(ProblemError, match="oops") as caught:
            await lab_client.runs()
    assert caught.value.exit_code == 70


async def test_waiting_ends_without_a_subnet_that_is_ready(serve):
    async def never(request):
        await asyncio.sleep(30)

    async with LabClient.unix(await serve(never)) as lab_client:
        assert await wait_until_up(lab_client, timeout_s=0.1) is None


async def test_a_command_that_is_cancelled_lets_go_of_a_silent_lab_at_once(serve):
    asked = asyncio.Event()

    async def never(request):
        asked.set()
        await asyncio.sleep(30)

    async with LabClient.unix(await serve(never)) as lab_client:
        waiting = asyncio.create_task(lab_client.run("r-1"))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_refusal_that_comes_before_the_whole_body_is_read_is_what_counts(serve, tmp_path):
    async def refuse(request):
        return web.json_response({"error": "too large", "hint": "", "exit_code": 2}, status=413)

    large = tmp_path / "large"
    large.write_bytes(bytes(3 << 20))
    async with LabClient.unix(await serve(refuse)) as lab_client:
        with pytest.raises(ProblemError, match="too large"):
            await lab_client.upload(large, "large")


async def test_what_does_not_speak_http_is_exit_3(tmp_path):
    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_unix_server(greet, tmp_path / "s.sock"),
        LabClient.unix(tmp_path / "s.sock") as lab_client,
    ):
        with pytest.raises(TargetError) as caught:
            await lab_client.summary()
    assert caught.value.exit_code == 3


async def test_lines_come_as_they_are_written_whole_however_they_are_cut(serve):
    parts = [
        b'{"t":1,"node":"a","li',
        b'ne":"x"}\n\n{"t":2,"node":"b","line":"y"}\n{"t":3',
        b',"node":"c","line":"z"}\n',
    ]
    told = asyncio.Event()

    async def logs(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            if part is parts[1]:
                await told.wait()  # until the reader has had the lines so far
        await response.write_eof()
        return response

    async with LabClient.unix(await serve(logs)) as lab_client:
        lines = lab_client.logs(follow=True)
        assert [(await anext(lines)).node, (await anext(lines)).node] == ["a", "b"]
        told.set()
        assert [line.node async for line in lines] == ["c"]
