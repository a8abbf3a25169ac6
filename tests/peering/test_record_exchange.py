"""Peer exchange against peers that only pretend: who is told and asked what, how often, and what strange bytes cost."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pnet.model import limits
from p2pnet.model.errors import LimitError
from p2pnet.model.ids import member_uri
from p2pnet.model.peer_messages import ROUTE_RECORDS, Record, RecordsReply, RecordsRequest
from p2pnet.peering import clock, record_exchange
from p2pnet.peering.discovery import RecordDirectory
from p2pnet.peering.record_exchange import ANSWERS_PER_S, PULL_FIRST_S, PULL_MAX_S, RecordExchange
from p2pnet.peering.records import OwnRecord, write_record
from p2pnet.quic import CloseCode, ConnectionLost, FixedIdentity
from p2pnet.trust import Authority, Identity

SCOPE = ("p2pnet", "local", "demo")
NOW = clock.utc_now()
AUTHORITY = Authority.create("demo", now=NOW, ttl=timedelta(days=1))


@cache
def identity(name: str) -> Identity:
    leaf = AUTHORITY.issue(member_uri(*SCOPE, name), now=NOW, ttl=timedelta(hours=5))
    return Identity.of(leaf, AUTHORITY.certificate_pem)


def record(name: str, sequence: int = 0) -> bytes:
    written = Record(7, sequence, int(clock.utc_now().timestamp()) + 500, ["10.0.0.1:4100"])
    return write_record(written, identity(name))


class FakeExchange:
    """A question under way."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeConnection:
    """Keeps what is asked; `answer` answers the oldest question."""

    def __init__(self) -> None:
        self.asked: list[RecordsRequest] = []
        self.exchanges: list[FakeExchange] = []
        self.waiting: list[Callable[[Any], None]] = []
        self.ended: tuple[int, str] | None = None
        self.full = False

    def start_request(self, header: bytes, payload: bytes, done: Any, *, reply_bytes_max: int) -> FakeExchange:
        assert header == ROUTE_RECORDS
        if self.full:
            raise LimitError("too many wait")
        self.asked.append(msgspec.msgpack.decode(payload, type=RecordsRequest))
        self.waiting.append(done)
        self.exchanges.append(FakeExchange())
        return self.exchanges[-1]

    def answer(self, *records: bytes, more: bool = False, raw: bytes | None = None) -> None:
        payload = msgspec.msgpack.encode(RecordsReply(list(records), more)) if raw is None else raw
        self.waiting.pop(0)(FakeMessage(payload))

    def close(self, code: int, reason: str) -> None:
        self.ended = (code, reason)


class FakeMessage:
    wants_reply = True

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.replies: list[bytes] = []

    def reply(self, payload: bytes) -> None:
        self.replies.append(payload)


class Notes:
    def __init__(self) -> None:
        self.notes: list[tuple[str, str, str]] = []

    def note(self, kind: str, why: str, *, peer: str = "") -> None:
        self.notes.append((kind, why, peer))


class Stage:
    """An exchange of node-0 with everything around it."""

    def __init__(self, *, started: bool = True) -> None:
        self.table = RecordDirectory("node-0", *SCOPE)
        self.refusals = Notes()
        self.changes = 0
        self.cuts: list[tuple[str, str]] = []
        self.exchange = RecordExchange(
            "node-0", self.table.records, identity=FixedIdentity(identity("node-0")), refusals=self.refusals,
            rng=lambda: 0.5, changed=self._changed, cut=lambda *cut: self.cuts.append(cut),
        )  # fmt: skip
        if started:
            self.start()

    def start(self) -> None:
        self.exchange.start(OwnRecord(["127.0.0.1:4100"], 600, NOW))

    def _changed(self) -> None:
        self.changes += 1
        self.table.refresh()

    def link(self, name: str) -> FakeConnection:
        connection = FakeConnection()
        self.exchange.link_up(name, connection)
        return connection

    def hears(self, name: str, connection: FakeConnection, payload: bytes) -> FakeMessage:
        message = FakeMessage(payload)
        self.exchange.message(name, connection, message)
        return message


@pytest.fixture
async def stage() -> Any:
    made = Stage()
    yield made
    made.exchange.stop()


async def test_a_link_is_told_the_own_record_and_asked_for_the_others(stage: Stage) -> None:
    peer = stage.link("node-1")
    [ask] = peer.asked
    assert ask.known is not None
    assert list(ask.known) == ["node-0"]
    assert (
        RecordDirectory("node-9", *SCOPE).records.offer(ask.record, identity("node-0").bundle, now=clock.utc_now())
        == "node-0"
    )
    peer.answer(record("node-1"), record("node-2"))
    assert stage.table.wanted == ["node-1", "node-2"]
    assert stage.changes == 1
    assert len(peer.asked) == 1, "there was no more to have"


async def test_who_dialled_before_the_node_could_speak_is_told_and_asked_as_well() -> None:
    stage = Stage(started=False)
    peer = stage.link("node-1")
    assert peer.asked == []
    assert stage.hears("node-1", peer, msgspec.msgpack.encode(RecordsRequest(record("node-1"), {}))).replies
    stage.start()
    assert (len(peer.asked), peer.asked[0].known is not None) == (1, True)
    assert stage.exchange.is_pulling
    stage.exchange.stop()


async def test_a_page_that_is_not_the_last_is_followed_by_a_question_unless_it_brought_nothing(stage: Stage) -> None:
    peer = stage.link("node-1")
    peer.answer(record("node-1"), more=True)
    assert set(peer.asked[1].known) == {"node-0", "node-1"}
    peer.answer(record("node-1"), more=True)
    assert len(peer.asked) == 2


async def test_many_links_at_once_are_told_but_few_are_asked(stage: Stage) -> None:
    peers = [stage.link(f"node-{number}") for number in range(1, 30)]
    assert all(len(peer.asked) == 1 and peer.asked[0].record for peer in peers)
    assert sum(peer.asked[0].known is not None for peer in peers) == 2


async def test_questions_come_more_and_more_seldom_while_there_is_no_news(stage: Stage) -> None:
    peer = stage.link("node-1")
    peer.answer(record("node-1"))
    gaps = []
    for _ in range(8):
        stage.exchange.pull()
        gaps.append(stage.exchange.gap_s)
        peer.answer()
    assert gaps == sorted(gaps)
    assert gaps[-1] == PULL_MAX_S
    stage.exchange.pull()
    peer.answer(record("node-2"))
    assert stage.exchange.gap_s == PULL_FIRST_S


async def test_one_question_at_a_time_and_what_is_newer_follows_it(stage: Stage) -> None:
    peer = stage.link("node-1")
    stage.exchange.leaf_changed()
    assert len(peer.asked) == 1
    peer.answer(record("node-1"))
    assert len(peer.asked) == 2
    peer.answer()
    assert len(peer.asked) == 2


async def test_a_question_without_an_answer_is_asked_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = stage.link("node-1")
    stage.exchange.tick()
    assert len(peer.asked) == 1
    monkeypatch.setattr(record_exchange, "ASK_S", -1.0)
    stage.exchange.tick()
    assert (len(peer.asked), peer.exchanges[0].cancelled) == (2, True)


async def test_a_link_that_takes_no_question_is_tried_at_the_next_tick(stage: Stage) -> None:
    peer = FakeConnection()
    peer.full = True
    stage.exchange.link_up("node-1", peer)
    peer.full = False
    stage.exchange.tick()
    assert len(peer.asked) == 1


async def test_answers_of_a_former_connection_are_left_alone(stage: Stage) -> None:
    former = stage.link("node-1")
    stage.link("node-1")
    former.answer(record("node-2"))
    assert former.exchanges[0].cancelled
    assert stage.table.wanted == []
    lost = stage.link("node-3")
    stage.exchange.link_down("node-3")
    lost.waiting[0](ConnectionLost(None))
    assert stage.refusals.notes == []


async def test_an_asker_gets_what_it_lacks_and_ones_own_record(stage: Stage) -> None:
    peer = stage.link("node-1")
    peer.answer(record("node-2"))
    asked = stage.hears("node-1", peer, msgspec.msgpack.encode(RecordsRequest(record("node-1"), {"node-1": (7, 0)})))
    answer = msgspec.msgpack.decode(asked.replies[0], type=RecordsReply)
    assert (len(answer.records), answer.more) == (2, False)
    assert stage.table.wanted == ["node-1", "node-2"]
    told = stage.hears("node-1", peer, msgspec.msgpack.encode(RecordsRequest(record("node-1", 1))))
    assert msgspec.msgpack.decode(told.replies[0], type=RecordsReply) == RecordsReply()


async def test_who_asks_too_often_gets_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "mono_ns", lambda: 5 * clock.NS)
    peer = stage.link("node-1")
    question = msgspec.msgpack.encode(RecordsRequest(b"", {}))
    answers = [
        msgspec.msgpack.decode(stage.hears("node-1", peer, question).replies[0], type=RecordsReply).records
        for _ in range(3 * int(ANSWERS_PER_S))
    ]
    assert sum(bool(records) for records in answers) == 2 * int(ANSWERS_PER_S)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payload=st.binary(max_size=400)
    | st.builds(
        msgspec.msgpack.encode, st.lists(st.integers(-5, 1 << 54) | st.binary() | st.lists(st.binary(max_size=9)))
    )
)
def test_any_bytes_give_one_answer_or_the_end_of_the_link_and_no_growth(payload: bytes) -> None:
    async def scene() -> None:
        stage = Stage()
        peer = stage.link("node-1")
        message = stage.hears("node-1", peer, payload)
        assert (len(message.replies) == 1) != (peer.ended is not None)
        peer.answer(raw=payload)
        if peer.ended is not None:
            assert peer.ended[0] == CloseCode.PROTOCOL_VIOLATION
            assert stage.refusals.notes[0][0] == "record"
        assert stage.table.wanted == []
        assert len(peer.asked) <= 2
        stage.exchange.stop()

    asyncio.run(scene())


async def test_a_record_that_ends_cuts_its_link_and_a_peer_without_one_is_cut_in_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, mute = stage.link("node-1"), stage.link("node-2")
    stage.hears("node-1", known, msgspec.msgpack.encode(RecordsRequest(record("node-1"))))
    stage.exchange.tick()
    assert stage.cuts == []
    monkeypatch.setattr(record_exchange, "UNKNOWN_S", -1.0)
    stage.exchange.tick()
    assert stage.cuts == [("node-2", "no record of it is in force")]
    monkeypatch.setattr(record_exchange, "UNKNOWN_S", limits.RECORD_S)
    later = clock.utc_now() + timedelta(seconds=501)
    monkeypatch.setattr(clock, "utc_now", lambda: later)
    stage.exchange.tick()
    assert stage.cuts[1:] == [("node-1", "its record has ended")]
    assert mute.ended is None


async def test_a_record_that_cannot_be_signed_anew_leaves_the_former_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peer = stage.link("node-1")
    peer.answer(record("node-1"))
    monkeypatch.setattr(limits, "RECORD_BYTES_MAX", 100)
    stage.exchange.leaf_changed()
    assert "others will lose sight of this node: the record of spiffe://" in caplog.text
    assert len(peer.asked) == 1
