"""The operator asks a lab with its token, and does not wait for one that is silent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from tests.operator.kit import World

from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.model.registry import Membership, Registry
from p2pnet.model.report import CertificateCounts, LinkCounts, NodeCounts, Status
from p2pnet.operator.kube.api import POD
from p2pnet.operator.subnet import lab

SUMMARY = Status(
    name="demo",
    target="cluster",
    nodes=NodeCounts(1, 1, 1, 1),
    links=LinkCounts(0, 0),
    certificates=CertificateCounts(1, None),
)


@pytest.fixture
async def door() -> AsyncIterator[tuple[str, list[Any]]]:
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        if request.headers.get("X-P2pnet-Token") != "secret":
            return web.json_response({"error": "wrong token"}, status=401)
        if request.path == "/v1/members":
            seen.append(msgspec.json.decode(await request.read(), type=Membership))
            return web.json_response({})
        if seen == ["hang"]:
            await asyncio.sleep(10)
        return web.Response(body=msgspec.json.encode(SUMMARY))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}", seen
    await runner.cleanup()


async def test_the_summary_is_read_and_members_are_given_with_the_token(door: tuple[str, list[Any]]) -> None:
    address, seen = door
    assert await lab.HttpLabs().summary(address, "secret") == SUMMARY
    await lab.HttpLabs().push_members(address, "secret", Membership(Registry(7)))
    assert seen == [Membership(Registry(7))]
    with pytest.raises(ProblemError, match="wrong token"):
        await lab.HttpLabs().summary(address, "guess")


async def test_a_silent_or_absent_lab_is_a_target_error_in_time(
    door: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "ANSWER_S", 0.2)
    address, seen = door
    seen.append("hang")
    with pytest.raises(TargetError):
        await lab.HttpLabs().summary(address, "secret")
    with pytest.raises(TargetError):
        await lab.HttpLabs().summary("127.0.0.1:9", "secret")


async def test_only_a_ready_lab_with_an_address_is_asked() -> None:
    world = World(nodes=2)
    await world.look()
    assert lab.address_of(world.site(), world.observed()) is None
    await world.converge()
    found = lab.address_of(world.site(), world.observed())
    assert found is not None
    assert found[0].endswith(":8090")
    assert len(found[1]) == 64
    pod = world.api.one(POD, "demo-lab")
    pod["status"]["podIP"] = "fd00::1"
    assert (lab.address_of(world.site(), world.observed()) or ("", ""))[0] == "[fd00::1]:8090"
    pod["status"]["podIP"] = ""
    assert lab.address_of(world.site(), world.observed()) is None
