"""The operator asks a lab for a run by key and process, and takes no other run, no answer and no lab for one."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import Payload, Revision, RunList, RunRequest, RunState, Upload
from p2pnet.model.report import InjectionRef
from p2pnet.operator.injection import lab
from p2pnet.operator.injection.lab import HttpRunLabs

REQUEST = RunRequest([Payload("x", size=1)], injection=InjectionRef("smoke", "uid-1"))
RUN = RunState("r-1", "running", REQUEST, 0.0)
TOKEN = "secret"


class Heard:
    """What a lab was asked, and what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.runs = [RUN]
        self.parts: list[bytes] = []
        self.hangs = False
        self.address = ""

    async def handle(self, request: web.Request) -> web.Response:
        if request.headers.get("X-P2pnet-Token") != TOKEN:
            return web.json_response({"error": "wrong token"}, status=401)
        self.asked.append((request.method, request.path_qs, dict(request.headers)))
        if self.hangs:
            await asyncio.sleep(10)
        found: msgspec.Struct = RUN
        match request.method, request.path.split("/")[2:]:
            case "GET", ["revision"]:
                found = Revision("boot.7", "boot")
            case "GET", ["runs"]:
                found = RunList(self.runs)
            case "GET", ["runs", run] if run != "r-1":
                return web.json_response({"error": "no such run"}, status=404)
            case "POST", ["uploads"]:
                found = Upload("u-1", "a.txt", 3, 0)
            case "PUT", ["uploads", _]:
                self.parts.append(await request.read())
                found = Upload("u-1", "a.txt", 3, 3)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    found = Heard()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_a_run_is_asked_for_with_the_uid_as_key_and_the_process_that_is_meant(heard: Heard) -> None:
    labs = HttpRunLabs()
    assert await labs.process(heard.address, TOKEN) == "boot"
    assert await labs.start(heard.address, TOKEN, REQUEST, process="boot") == RUN
    method, path, headers = heard.asked[-1]
    assert (method, path) == ("POST", "/v1/runs")
    assert (headers["Idempotency-Key"], headers["X-P2pnet-Lab"]) == ("uid-1", "boot")
    assert await labs.upload(heard.address, TOKEN, "a.txt", b"abc") == "u-1"
    assert heard.parts == [b"abc"]
    await labs.cancel(heard.address, TOKEN, "r-1")
    assert heard.asked[-1][:2] == ("POST", "/v1/runs/r-1/cancel")


async def test_a_run_is_found_by_id_and_by_key_and_another_ones_is_none(heard: Heard) -> None:
    labs = HttpRunLabs()
    assert await labs.run(heard.address, TOKEN, "r-1") == RUN
    assert await labs.run(heard.address, TOKEN, "r-2") is None
    assert await labs.run_of(heard.address, TOKEN, "uid-1") == RUN
    assert heard.asked[-1][1] == "/v1/runs?key=uid-1"
    assert await labs.run_of(heard.address, TOKEN, "uid-2") is None, "an older lab answers with all it has"
    heard.runs = []
    assert await labs.run_of(heard.address, TOKEN, "uid-1") is None


async def test_a_silent_an_absent_and_an_unfriendly_lab_are_errors_in_time(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "ANSWER_S", 0.2)
    with pytest.raises(ProblemError, match="wrong token"):
        await HttpRunLabs().process(heard.address, "guess")
    heard.hangs = True
    with pytest.raises(TargetError, match="silent"):
        await HttpRunLabs().process(heard.address, TOKEN)
    with pytest.raises(TargetError):
        await HttpRunLabs().process("127.0.0.1:9", TOKEN)
