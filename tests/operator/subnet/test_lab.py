"""The operator asks a lab with its token, does not wait for a silent one, and reconciles at once when a lab reports a change."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from tests.operator.kit import KEY, World
from tests.patience import PATIENCE_S

from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.model.registry import Membership, Registry
from p2pnet.model.report import CertificateCounts, LinkCounts, NodeCounts, Status
from p2pnet.operator.kube.api import POD
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet import lab
from p2pnet.operator.subnet.lab import LabWatcher
from p2pnet.operator.subnet.reconcile import Reconciler

SUMMARY = Status(
    name="demo",
    target="cluster",
    nodes=NodeCounts(1, 1, 1, 1),
    links=LinkCounts(0, 0),
    certificates=CertificateCounts(1, None),
)


@pytest.fixture
async def lab_server() -> AsyncIterator[tuple[str, list[Any]]]:
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
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}", seen
    await runner.cleanup()


async def test_the_summary_is_read_and_members_are_given_with_the_token(lab_server: tuple[str, list[Any]]) -> None:
    address, seen = lab_server
    assert await lab.HttpLabs().summary(address, "secret") == SUMMARY
    await lab.HttpLabs().push_members(address, "secret", Membership(Registry(7)))
    assert seen == [Membership(Registry(7))]
    with pytest.raises(ProblemError, match="wrong token"):
        await lab.HttpLabs().summary(address, "guess")


async def test_a_silent_or_absent_lab_is_a_target_error_in_time(
    lab_server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "ANSWER_S", 0.2)
    address, seen = lab_server
    seen.append("hang")
    with pytest.raises(TargetError):
        await lab.HttpLabs().summary(address, "secret")
    with pytest.raises(TargetError):
        await lab.HttpLabs().summary("127.0.0.1:9", "secret")


async def test_only_a_ready_lab_with_an_address_is_asked() -> None:
    world = World(nodes=2)
    await world.reconcile()
    assert lab.address_of(world.context(), world.observed()) is None
    await world.converge()
    found = lab.address_of(world.context(), world.observed())
    assert found is not None
    assert found[0].endswith(":8090")
    assert len(found[1]) == 64
    pod = world.api.one(POD, "demo-lab")
    pod["status"]["podIP"] = "fd00::1"
    assert (lab.address_of(world.context(), world.observed()) or ("", ""))[0] == "[fd00::1]:8090"
    pod["status"]["podIP"] = ""
    assert lab.address_of(world.context(), world.observed()) is None


class ScriptedLab:
    """Answers as the test scripts it."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.answers: asyncio.Queue[str | Exception] = asyncio.Queue()

    async def revision(self, address: str, token: str, after: str) -> str:
        assert (address, token) == ("10.0.0.1:8090", "secret")
        self.asked.put_nowait(after)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def scripted() -> ScriptedLab:
    return ScriptedLab()


@pytest.fixture
async def woken() -> asyncio.Queue[Key]:
    return asyncio.Queue()


@pytest.fixture
async def watcher(scripted: ScriptedLab, woken: asyncio.Queue[Key]) -> AsyncIterator[LabWatcher]:
    watcher = LabWatcher(scripted, pause_s=0.0)
    watcher.on_change = woken.put_nowait
    yield watcher
    await watcher.close()


async def test_a_new_revision_triggers_once_and_a_minute_without_one_asks_again(
    scripted: ScriptedLab, watcher: LabWatcher, woken: asyncio.Queue[Key]
) -> None:
    watcher.watch(KEY, "10.0.0.1:8090", "secret", "a.1")
    scripted.answers.put_nowait("a.1")
    for _ in range(2):
        assert await asyncio.wait_for(scripted.asked.get(), PATIENCE_S) == "a.1"
    assert woken.empty()
    scripted.answers.put_nowait("a.2")
    assert await asyncio.wait_for(woken.get(), PATIENCE_S) == KEY
    assert scripted.asked.empty(), "the reconciliation that follows says what to wait for next"


async def test_watching_for_the_same_revision_is_one_request_and_for_a_newer_one_another(
    scripted: ScriptedLab, watcher: LabWatcher
) -> None:
    watcher.watch(KEY, "10.0.0.1:8090", "secret", "a.1")
    assert await asyncio.wait_for(scripted.asked.get(), PATIENCE_S) == "a.1"
    watcher.watch(KEY, "10.0.0.1:8090", "secret", "a.1")
    watcher.watch(KEY, "10.0.0.1:8090", "secret", "a.2")
    assert await asyncio.wait_for(scripted.asked.get(), PATIENCE_S) == "a.2"
    assert scripted.asked.empty()


async def test_a_lab_that_is_gone_is_left_to_the_next_reconciliation(
    scripted: ScriptedLab, watcher: LabWatcher, woken: asyncio.Queue[Key]
) -> None:
    watcher.watch(KEY, "10.0.0.1:8090", "secret", "a.1")
    scripted.answers.put_nowait(TargetError("the lab is silent"))
    await asyncio.wait_for(scripted.asked.get(), PATIENCE_S)
    watcher.forget(KEY)
    watcher.watch(KEY, "10.0.0.1:8090", "secret", "a.1")
    assert await asyncio.wait_for(scripted.asked.get(), PATIENCE_S) == "a.1"
    assert woken.empty()


async def test_a_reconciliation_watches_the_lab_it_has_reached_and_forgets_that_of_a_deleted_subnet() -> None:
    heard: list[object] = []

    class RecordingWatcher(LabWatcher):
        def watch(self, key: Key, address: str, token: str, after: str) -> None:
            heard.append((key, after))

        def forget(self, key: Key) -> None:
            heard.append(("forgotten", key))

    world = World(nodes=2)
    world.lab.revision_now = "b.3"
    world.operator = Reconciler(
        world.api, world.lab, image="some:1", now=lambda: world.now, lab_watcher=RecordingWatcher(world.lab)
    )
    await world.converge()
    assert set(heard) == {(KEY, "b.3")}
    del world.api.objects[next(place for place in world.api.objects if place[0].kind == "Subnet")]
    await world.reconcile()
    assert heard[-1] == ("forgotten", KEY)
