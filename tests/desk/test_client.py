"""The desk when its lab is gone, slow or odd; what it does with a lab that answers is tested with the lab."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from p2pnet.desk import Desk, ProblemError
from p2pnet.desk.client import wait_until_up
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
    async with Desk.unix(tmp_path / "none.sock") as desk:
        with pytest.raises(TargetError) as caught:
            await desk.summary()
    assert caught.value.exit_code == 3
    assert "up" in caught.value.hint


async def test_a_lab_that_dies_in_the_middle_is_exit_3(serve):
    async def die(request):
        request.transport.abort()
        return web.Response()

    async with Desk.unix(await serve(die)) as desk:
        with pytest.raises(TargetError) as caught:
            await desk.run("r-1")
    assert caught.value.exit_code == 3


async def test_an_answer_of_another_version_is_no_traceback(serve):
    async def odd(request):
        return web.json_response({"schema": "p2pnet.io/status/v9"})

    async with Desk.unix(await serve(odd)) as desk:
        with pytest.raises(TargetError, match="version"):
            await desk.summary()


async def test_an_error_without_a_problem_is_still_one(serve):
    async def fail(request):
        return web.Response(status=500, text="oops")

    async with Desk.unix(await serve(fail)) as desk:
        with pytest.raises(ProblemError, match="oops") as caught:
            await desk.runs()
    assert caught.value.exit_code == 70


async def test_waiting_ends_without_a_subnet_that_is_ready(serve):
    async def never(request):
        await asyncio.sleep(30)

    async with Desk.unix(await serve(never)) as desk:
        assert await wait_until_up(desk, timeout_s=0.1) is None
