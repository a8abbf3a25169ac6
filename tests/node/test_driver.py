"""The shell around a broadcast, with a scripted core and a scripted connection."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from p2pnet.broadcast import BlobClient, Broadcast, Change, ChangeAction, Pool
from p2pnet.broadcast.effects import (
    AnswerUpdates,
    Cancel,
    Effect,
    Emit,
    Fetch,
    Published,
    PublishRefused,
    RunClient,
    SendSynced,
    SendUpdates,
)
from p2pnet.broadcast.inputs import (
    ClientAnswered,
    FetchAnswered,
    Input,
    MembersChanged,
    PeerUp,
    Publish,
    SyncedAnswered,
    UpdatesAnswered,
    UpdatesReceived,
    Wake,
)
from p2pnet.broadcast.pool import PoolView
from p2pnet.model.control import ControlRefusal
from p2pnet.model.errors import LimitError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.node.driver import BroadcastDriver
from p2pnet.node.events import EventRing
from p2pnet.peering.clock import mono_ns
from p2pnet.quic import Connection, Message, RequestTimeout

ID = ArtifactId(bytes(32))
Answer = list[Effect] | Exception


class Core:
    """Answers each input as scripted, by its type; remembers all."""

    def __init__(self, script: dict[type[Input], Answer]) -> None:
        self.script = script
        self.inputs: list[Input] = []
        self.due: int | None = None
        self.pool = Pool()

    def handle(self, what: Input, now: int, wall: float) -> list[Effect]:
        assert abs(now - mono_ns()) < 5_000_000_000
        assert abs(wall - time.time()) < 5
        self.inputs.append(what)
        answer = self.script.get(type(what), [])
        if isinstance(what, Wake):
            self.due = None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def next_wakeup(self) -> int | None:
        return self.due

    def of(self, kind: type[Any]) -> list[Any]:
        return [item for item in self.inputs if isinstance(item, kind)]


class Line:
    """A connection that does nothing by itself."""

    id = 7
    closed = False

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Any, Callable[[Any], None]]] = []
        self.cancelled = 0
        self.full = False

    def start_request(self, header: bytes, payload: Any, done: Callable[[Any], None], **_: object) -> "Line":
        if self.full:
            raise LimitError("full")
        self.asked.append((header, payload, done))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


class Asked:
    """A peer's request."""

    header = b"/blob/update"
    wants_reply = True
    cancelled = False

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.replies: list[object] = []

    def reply(self, body: object) -> None:
        self.replies.append(body)


class Slow(BlobClient):
    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        time.sleep(0.03)
        return super().on_state_change(changes, pool, now)


class Broken(BlobClient):
    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        raise ZeroDivisionError("no reason")


class World:
    def __init__(self, script: dict[type[Input], Answer], client: BlobClient | None = None) -> None:
        self.core = Core(script)
        self.line = Line()
        self.ring = EventRing("a1", "boot")
        self.driver = BroadcastDriver(
            cast("Broadcast", self.core),
            client or BlobClient(),
            self.ring,
            lambda number: cast("Connection", self.line) if number == Line.id else None,
        )

    async def turn(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    def events(self) -> list[EventKind]:
        return [event.kind for event in self.ring.read(0).events]


async def test_inputs_of_one_turn_are_handled_together_and_then_it_wakes() -> None:
    world = World({})
    world.core.due = mono_ns()
    world.driver.feed(MembersChanged(frozenset()))
    world.driver.peer_up("node-1", cast("Connection", world.line))
    assert world.core.inputs == []
    await world.turn()
    assert world.core.inputs == [MembersChanged(frozenset()), PeerUp("node-1", 7), Wake()]


async def test_the_timer_rings_when_the_core_said() -> None:
    world = World({})
    due = world.core.due = mono_ns() + 30_000_000
    world.driver.feed(PeerUp("node-1", 7))
    await world.turn()
    assert world.core.of(Wake) == []
    while not world.core.of(Wake):
        await asyncio.sleep(0.005)
    assert mono_ns() >= due


async def test_several_publications_wait_for_one_wake() -> None:
    world = World({Publish: [Published(ID)]})
    world.core.due = mono_ns()
    assert [world.driver.publish(b"x", 1) for _ in range(3)] == [bytes(32)] * 3
    assert world.core.of(Wake) == []
    await world.turn()
    assert world.core.of(Wake) == [Wake()]


async def test_a_refused_publication_says_why() -> None:
    world = World({Publish: [PublishRefused("no-slot", "full")]})
    assert world.driver.publish(b"x", 1) == ControlRefusal("no-slot", "full")


async def test_a_request_is_answered_with_its_reply_or_with_nothing() -> None:
    effects: list[Effect] = [
        SendUpdates(1, "p", 7, [b"a", b"b"], False),
        SendSynced(2, "p", 7),
        SendUpdates(3, "p", 8, [], False),
    ]
    world = World({PeerUp: effects})
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    assert world.core.of(UpdatesAnswered) == [UpdatesAnswered(3, None)]  # its connection is gone
    (update, body, done), (synced, _, lost) = world.line.asked
    assert (update, body, synced) == (b"/blob/update", [b"a", b"b"], b"/blob/synced")
    done(cast("Message", Asked(b"\0")))
    lost(RequestTimeout("late"))
    await world.turn()
    assert world.core.inputs[-2:] == [UpdatesAnswered(1, b"\0"), SyncedAnswered(2, False)]


async def test_a_connection_that_takes_no_more_requests_fails_this_one() -> None:
    world = World({PeerUp: [SendUpdates(1, "p", 7, [b"a"], False)]})
    world.line.full = True
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    assert world.core.inputs[-1] == UpdatesAnswered(1, None)


async def test_a_cancelled_request_is_reset_and_never_answered() -> None:
    world = World({PeerUp: [SendUpdates(1, "p", 7, [b"a"], False)], MembersChanged: [Cancel(1), Cancel(1), Cancel(99)]})
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    world.driver.feed(MembersChanged(frozenset()))
    await world.turn()
    assert world.line.cancelled == 1
    assert world.core.of(UpdatesAnswered) == []


async def test_a_fetch_that_takes_too_long_is_cancelled_and_answered_with_nothing() -> None:
    world = World({PeerUp: [Fetch(1, "p", 7, b"?", 0.02)]})
    world.driver.feed(PeerUp("p", 7))
    while not world.core.of(FetchAnswered):
        await asyncio.sleep(0.005)
    assert world.core.of(FetchAnswered) == [FetchAnswered(1, None)]
    assert world.line.cancelled == 1


async def test_a_peers_request_is_answered_when_the_core_says() -> None:
    world = World({UpdatesReceived: [], MembersChanged: [AnswerUpdates(1, b"ok"), AnswerUpdates(1, b"twice")]})
    asked = Asked(b"body")
    world.driver.routes[b"/blob/update"]("p", cast("Connection", world.line), cast("Message", asked))
    await world.turn()
    assert world.core.of(UpdatesReceived) == [UpdatesReceived("p", 7, 1, b"body")]
    assert asked.replies == []
    world.driver.feed(MembersChanged(frozenset()))
    await world.turn()
    assert asked.replies == [b"ok"]


async def test_a_client_runs_in_the_turn_and_its_answer_says_how_long_it_took() -> None:
    world = World({PeerUp: [RunClient([])]})
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    [answer] = world.core.of(ClientAnswered)
    assert answer.actions == []
    assert 0 < answer.took_ns < 20_000_000
    assert world.events() == []


async def test_a_client_that_takes_over_20_ms_is_reported() -> None:
    world = World({PeerUp: [RunClient([])]}, Slow())
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    [event] = world.ring.read(0).events
    assert (event.kind, event.client) == (EventKind.CLIENT_SLOW, "blob")
    assert event.bytes >= 30_000


async def test_a_client_that_raises_costs_its_answer_and_not_the_node(caplog: pytest.LogCaptureFixture) -> None:
    world = World({PeerUp: [RunClient([])]}, Broken())
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    [answer] = world.core.of(ClientAnswered)
    assert (answer.actions, answer.failed) == ([], "ZeroDivisionError: no reason")
    assert "on_state_change failed" in caplog.text


async def test_a_fault_in_the_core_costs_one_input(caplog: pytest.LogCaptureFixture) -> None:
    world = World({PeerUp: RuntimeError("a fault")})
    world.driver.feed(PeerUp("p", 7))
    world.driver.feed(MembersChanged(frozenset()))
    await world.turn()
    assert world.core.of(MembersChanged) == [MembersChanged(frozenset())]
    assert "PeerUp failed" in caplog.text


async def test_an_event_of_the_core_gets_time_and_client() -> None:
    world = World({PeerUp: [Emit(EventKind.RECEIVED, ID, "p", 2, 10, "x")]})
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    [event] = world.ring.read(0).events
    assert (event.kind, event.client, event.artifact, event.peer) == (EventKind.RECEIVED, "blob", "00" * 32, "p")
    assert (event.hop, event.bytes, event.detail) == (2, 10, "x")


async def test_after_stop_nothing_is_handled() -> None:
    world = World({})
    world.driver.stop()
    world.driver.feed(PeerUp("p", 7))
    await world.turn()
    assert world.core.inputs == []
