"""How clients are run: ours in the turn, a user's on a thread of its own that can hold up nobody."""

import asyncio
import logging
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast

import pytest
from tests.node.kinds import RAISE, SLEEP, SPIN
from tests.node.kit import Bench, ended, port_of, run_node, until
from tests.patience import PATIENCE_S

from p2pnet.broadcast import Artifact, BlobClient, Broadcast, Change, Inspected, Pool
from p2pnet.broadcast.inputs import ClientAnswered
from p2pnet.broadcast.pool import ChangeKind, MoveToValidated, PoolView
from p2pnet.model.config import ClientConfig
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.node import client_executor
from p2pnet.node.client_executor import make_executor
from p2pnet.node.events import EventRing

ID = ArtifactId(bytes(32))
CHANGES = [Change(ChangeKind.INSERTED, ID)]


class Scripted(BlobClient):
    """Does in `on_state_change` what a test says; knows on which threads."""

    def __init__(self, script: Callable[[list[Change], PoolView], Any]) -> None:
        self.script = script
        self.threads: list[threading.Thread] = []

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> Any:
        self.threads.append(threading.current_thread())
        return self.script(changes, pool)


class World:
    def __init__(self, script: Callable[[list[Change], PoolView], Any], *, inline: bool = False) -> None:
        self.client = Scripted(script)
        self.pool = Pool()
        self.ring = EventRing("a1", "boot")
        self.answers: list[ClientAnswered] = []
        self.news = asyncio.Event()
        broadcast = cast("Broadcast", self)
        self.runs = make_executor(broadcast, self.client, self.ring, self.take, inline=inline)

    def take(self, answer: ClientAnswered) -> None:
        self.answers.append(answer)
        self.news.set()

    async def answer(self) -> ClientAnswered:
        await asyncio.wait_for(self.news.wait(), PATIENCE_S)
        self.news.clear()
        return self.answers[-1]

    def events(self) -> list[tuple[EventKind, str]]:
        return [(event.kind, event.detail) for event in self.ring.read(0).events]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a stuck client waits for; opened at the end, so that no test leaves its thread behind."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_ours_answers_at_once_on_the_loop() -> None:
    world = World(lambda changes, _: [MoveToValidated(changes[0].artifact)], inline=True)
    world.runs.start(CHANGES)
    [answer] = world.answers
    assert answer.actions == [MoveToValidated(ID)]
    assert world.client.threads == [threading.current_thread()]


async def test_a_users_client_runs_on_one_thread_of_its_own_and_answers_on_the_loop() -> None:
    world = World(lambda changes, _: [MoveToValidated(changes[0].artifact)])
    for _ in range(3):
        world.runs.start(CHANGES)
        answer = await world.answer()
        assert (answer.actions, answer.failed) == ([MoveToValidated(ID)], "")
        assert answer.took_ns > 0
    [thread] = set(world.client.threads)
    assert thread is not threading.current_thread()
    assert thread.daemon
    world.runs.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


async def test_it_sees_the_pool_as_it_was_when_it_was_called(gate: threading.Event) -> None:
    seen: list[int] = []

    def look(_: list[Change], pool: PoolView) -> list[Any]:
        gate.wait(PATIENCE_S)
        seen.append(len(pool.unvalidated))
        return []

    world = World(look)
    world.pool.unvalidated[ID] = Artifact(id=ID, data=b"", parts=b"", inspected=Inspected(size=0))
    world.runs.start(CHANGES)
    world.pool.unvalidated.clear()
    gate.set()
    await world.answer()
    assert seen == [1]
    world.runs.stop()


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("script", "failed"),
    [
        (lambda changes, _: changes[9], "IndexError: list index out of range"),
        (lambda *_: exit_now(), "SystemExit: 3"),
        (lambda *_: None, "TypeError: on_state_change returned NoneType, not a list of change actions"),
        (lambda *_: [MoveToValidated(ID), "x"], "TypeError: on_state_change returned a list with a str in it: no change action"),
    ],
)  # fmt: skip
async def test_a_call_that_fails_is_answered_with_why_and_the_next_one_is_made(
    script: Callable[..., Any], failed: str, *, inline: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(script, inline=inline)
    world.runs.start(CHANGES)
    answer = await world.answer()
    assert (answer.actions, answer.failed) == ([], failed)
    assert "client blob: on_state_change failed" in caplog.text
    world.client.script = lambda *_: []
    world.runs.start(CHANGES)
    assert (await world.answer()).failed == ""
    world.runs.stop()


@pytest.mark.parametrize(("inline", "where"), [(True, "on the loop"), (False, "on its own thread")])
async def test_a_slow_call_is_reported_with_where_it_ran(
    monkeypatch: pytest.MonkeyPatch, *, inline: bool, where: str
) -> None:
    monkeypatch.setattr(client_executor, "STUCK_S", PATIENCE_S)
    world = World(lambda *_: threading.Event().wait(0.03) or [], inline=inline)
    world.runs.start(CHANGES)
    answer = await world.answer()
    assert world.events() == [(EventKind.CLIENT_SLOW, where)]
    assert world.ring.read(0).events[0].bytes == answer.took_ns // 1000 >= 30_000
    world.runs.stop()


async def test_a_stuck_call_holds_up_nothing_and_is_reported_while_it_lasts(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_executor, "STUCK_S", 0.01)
    stuck, free = World(lambda *_: gate.wait(60) and []), World(lambda *_: [])
    stuck.runs.start(CHANGES)
    free.runs.start(CHANGES)
    await free.answer()
    async with asyncio.timeout(PATIENCE_S):
        while not stuck.events():
            await asyncio.sleep(0.005)
    assert stuck.events() == [(EventKind.CLIENT_SLOW, "on its own thread, and not over")]
    assert "has not returned after" in caplog.text
    assert not stuck.answers
    stuck.runs.stop()
    free.runs.stop()


async def test_a_stop_waits_for_no_client_and_nothing_is_reported_afterwards(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_executor, "STUCK_S", 0.0)
    world = World(lambda *_: gate.wait(60) and [])
    world.runs.start(CHANGES)
    world.runs.stop()
    await asyncio.sleep(0.01)
    assert world.events() == []
    assert [thread.is_alive() for thread in world.client.threads] == [True]


def test_a_thread_that_comes_back_when_the_loop_has_ended_ends_too(gate: threading.Event) -> None:
    async def life() -> threading.Thread:
        world = World(lambda *_: gate.wait(60) and [])
        world.runs.start(CHANGES)
        while not world.client.threads:
            await asyncio.sleep(0)
        return world.client.threads[0]

    thread = asyncio.run(life())
    gate.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


async def test_what_a_client_logs_goes_where_its_node_logs(caplog: pytest.LogCaptureFixture) -> None:
    from contextvars import ContextVar

    node: ContextVar[str] = ContextVar("node", default="nobody")
    heard: list[str] = []

    class Ears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(node.get())

    node.set("node-3")
    ears, mine = Ears(), logging.getLogger("somebodys.client")
    mine.addHandler(ears)
    try:
        world = World(lambda *_: [mine.warning("hello")][:0])  # type: ignore[func-returns-value]
        world.runs.start(CHANGES)
        await world.answer()
    finally:
        mine.removeHandler(ears)
    assert heard == ["node-3"]
    world.runs.stop()


def exit_now() -> None:
    raise SystemExit(3)


NAMES = [f"node-{index}" for index in range(4)]


ROUNDS = 6
HELD_UP_NS = 5_000_000_000
"""What a busy machine alone may make of a median."""


KINDS: dict[str, dict[str, Any]] = {
    "consensus": {"key": "height-7", "sizes": {"least": 100, "most": 4_000}, "push": True},
    "certifier": {"key": "share", "sizes": {"least": 100, "most": 300}, "relay": "none"},
    "httpoutcalls": {"key": "canister", "sizes": {"least": 100_000, "most": 300_000}},
    "dkg": {"key": "dealing", "sizes": {"least": 5, "most": 20_000}, "push": True},
    "ecdsa": {"key": "quadruple", "sizes": {"least": 5, "most": 2_000}, "relay": "none"},
    "ingress": {"key": "", "sizes": {"least": 1_000, "most": 1_000}, "work_ms": 3},
}


FREE = {"consensus": 400, "certifier": 150, "httpoutcalls": 200_000}


"""Those that nobody disturbs, and the bytes of an artifact."""


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[ClientConfig]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return [ClientConfig(name, "tests.node.kinds:Kind", settings) for name, settings in KINDS.items()]


async def until_pools(bench: Bench, expected: dict[str, int]) -> None:
    """Every node's pools hold as many artifacts."""
    for name in NAMES:

        async def full(name: str = name) -> bool:
            pool = (await bench.peers(name)).pool
            return all(pool[client] >= count for client, count in expected.items())

        await until(full, f"{name} holds {expected}")


async def rounds(bench: Bench, held: int) -> dict[str, float]:
    """Artifacts of every free client, one after another; the median nanoseconds until the last node had one."""
    published: dict[str, str] = {}
    for number in range(1, ROUNDS + 1):
        for client, size in FREE.items():
            [injected] = await bench.inject("node-0", os.urandom(size), client=client)
            published[injected.hex()] = client
        await until_pools(bench, dict.fromkeys(FREE, held + number))
    times: dict[str, list[int]] = defaultdict(list)
    for name in NAMES:
        for event in await all_events(bench, name):
            if event.artifact in published and event.kind in (EventKind.PUBLISHED, EventKind.VALIDATED):
                assert event.client == published[event.artifact]
                times[event.artifact].append(event.mono_ns)
    assert {len(seen) for seen in times.values()} == {len(NAMES)}
    took = defaultdict(list)
    for artifact, seen in times.items():
        took[published[artifact]].append(max(seen) - min(seen))
    return {client: median(each) for client, each in took.items()}


async def all_events(bench: Bench, name: str) -> list[Any]:
    found: list[Any] = []
    while (page := await bench.events(name, len(found))).events:
        found += page.events
    return found


async def flood(bench: Bench) -> None:
    """More than the client can judge, for as long as it goes on."""
    for _ in range(200):
        await bench.inject("node-1", *(os.urandom(1_000) for _ in range(20)), client="ingress")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("word", "ratio_max"), [(SLEEP, 10.0), (SPIN, 30.0)], ids=["sleeps", "computes"])
async def test_a_client_that_is_stuck_raises_or_is_flooded_slows_no_other(
    bench: Bench, clients: list[ClientConfig], word: bytes, ratio_max: float
) -> None:
    """The same order of magnitude: a client that another one holds up is held up for good, or for seconds.

    One that computes takes half of its node's only interpreter, and all nodes share the machine's cores.
    """
    supervisor = await bench.up(NAMES, clients=clients)
    await rounds(bench, 0)  # the first ones wait for imports and slow starts
    clean = await rounds(bench, ROUNDS)

    await bench.inject("node-0", word, client="dkg")
    await bench.inject("node-0", RAISE, client="ecdsa")
    flooding = asyncio.create_task(flood(bench))
    await until_pools(bench, {"ingress": 20})
    troubled = await rounds(bench, 2 * ROUNDS)
    flooding.cancel()

    for client in FREE:
        assert troubled[client] < max(ratio_max * clean[client], HELD_UP_NS), (client, clean, troubled)
    for name in NAMES[1:]:
        pool = (await bench.peers(name)).pool
        assert (pool["dkg"], pool["ecdsa"]) == (0, 0)
    for name in NAMES:
        supervisor.ask(op="stop", name=name)
    for name in NAMES:
        assert (await supervisor.event("exited", name))["code"] == 0, "a stuck client holds up no stop"


async def test_a_lone_node_with_a_stuck_client_ends_in_time_when_asked(
    bench: Bench, clients: list[ClientConfig]
) -> None:
    bench.subnet.ports["node-0"] = 1
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0"]))
    process = await run_node(bench.subnet.write_node("node-0", port=0, clients=clients))
    bench.subnet.ports["node-0"] = await port_of(process)
    await bench.inject("node-0", SLEEP, client="dkg")
    await bench.inject("node-0", bytes(200), client="certifier")
    assert (await bench.peers("node-0")).pool["certifier"] == 1
    process.send_signal(signal.SIGTERM)
    code, _ = await ended(process)
    assert code == 0
