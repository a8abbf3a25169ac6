"""How clients are run: ours in the turn, a user's on a thread of its own that can hold up nobody."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from p2pnet.broadcast import Artifact, BlobClient, Broadcast, Change, Inspected, Pool
from p2pnet.broadcast.inputs import ClientAnswered
from p2pnet.broadcast.pool import ChangeKind, MoveToValidated, PoolView
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.node import client_executor
from p2pnet.node.client_executor import runs_of
from p2pnet.node.events import EventRing

ID = ArtifactId(bytes(32))
CHANGES = [Change(ChangeKind.INSERTED, ID)]
PATIENCE_S = 10.0


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
        self.runs = runs_of(broadcast, self.client, self.ring, self.take, inline=inline)

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
async def test_a_slow_call_is_reported_with_where_it_ran(*, inline: bool, where: str) -> None:
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
