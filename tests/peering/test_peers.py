"""Hellos on the wire, and what becomes of connections, with connections that only pretend."""

import contextlib
from collections.abc import Callable
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.events import EventKind
from p2pnet.model.ids import member_uri
from p2pnet.model.peer_messages import ROUTE_HELLO, Hello
from p2pnet.model.registry import Member, Membership, Registry, Removed
from p2pnet.peering import peers
from p2pnet.peering.discovery import RegistryDirectory
from p2pnet.peering.peers import (
    EARLY_MAX,
    NO_EDGE,
    PENDING_PER_PEER_MAX,
    PROTOCOL,
    HelloRefusedError,
    PeerListener,
    Peers,
    read_hello,
    write_hello,
)
from p2pnet.peering.refusals import Refusals
from p2pnet.quic import CloseCode, Connection, Message


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 100), st.integers(0, 2**40), st.text(max_size=30))
def test_a_hello_is_read_as_it_was_written(name: str, incarnation: str, protocol: int, version: int, why: str) -> None:
    hello = Hello(name, incarnation, protocol, version, why)
    assert read_hello(write_hello(hello), name) == hello


@given(st.binary(max_size=200))
def test_any_bytes_are_a_hello_or_refused(payload: bytes) -> None:
    with contextlib.suppress(HelloRefusedError):
        assert isinstance(read_hello(payload, "node-0"), Hello)


def test_a_hello_under_another_name_than_the_certificates_is_refused() -> None:
    with pytest.raises(HelloRefusedError, match="node-1"):
        read_hello(write_hello(Hello("node-2", "cafe")), "node-1")


SCOPE = ("p2pnet", "local", "demo")
NAMES = [f"node-{number}" for number in range(3)]


class FakeMessage:
    """A message of a peer; `wants_reply` as a hello does."""

    def __init__(self, header: bytes, payload: bytes = b"") -> None:
        self.header, self.payload = header, payload
        self.replies: list[bytes] = []

    def reply(self, payload: bytes) -> None:
        self.replies.append(payload)


class FakeConnection:
    """An authenticated connection of a node, as quic would hand it over."""

    ids = count(1)
    sent_bytes, received_bytes = 10, 20
    close_reason = None

    def __init__(self, name: str) -> None:
        self.id = next(self.ids)
        self.uri = member_uri(*SCOPE, name)
        self.closed = False
        self.code: int | None = None
        self.on_closed: Callable[[FakeConnection], None] = lambda _: None

    def close(self, code: int, _reason: str) -> None:
        if not self.closed:
            self.closed, self.code = True, code
            self.on_closed(self)


class Stage:
    """The peers of node-0, with everything around them noted."""

    incarnation = "cafe"

    def __init__(self) -> None:
        directory = RegistryDirectory("node-0", *SCOPE)
        members = [Member(name, member_uri(*SCOPE, name)) for name in NAMES]
        directory.offer(Membership(Registry(1, members)))
        self.directory = directory
        self.events: list[EventKind] = []
        self.heard: list[tuple[str, ...]] = []
        self.peers = Peers(
            "node-0", directory=directory, events=self, refusals=Refusals(self), listener=cast("PeerListener", self),
            rng=lambda: 0.5,
        )  # fmt: skip

    def add(self, _mono_ns: int, kind: EventKind, **_: str) -> None:
        self.events.append(kind)

    def link_up(self, name: str, _connection: Any) -> None:
        self.heard.append(("up", name))

    def link_down(self, name: str, _connection: Any) -> None:
        self.heard.append(("down", name))

    def peer_message(self, name: str, _connection: Any, message: FakeMessage) -> None:
        self.heard.append(("message", name, message.header.decode()))

    def accept(self, name: str) -> FakeConnection:
        connection = FakeConnection(name)
        self.peers.accepted(cast("Connection", connection))
        return connection

    def message(self, connection: FakeConnection, header: bytes, payload: bytes = b"") -> FakeMessage:
        message = FakeMessage(header, payload)
        self.peers.message(cast("Connection", connection), cast("Message", message))
        return message

    def hello(self, connection: FakeConnection, name: str, **fields: Any) -> str:
        """Say hello; why it was refused."""
        hello = Hello(name, fields.pop("incarnation", "beef"), **fields)
        message = self.message(connection, ROUTE_HELLO, write_hello(hello))
        return read_hello(message.replies[0], "node-0").refused if message.replies else "no answer"


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_a_connection_is_a_link_once_its_hello_is_answered(stage: Stage) -> None:
    connection = stage.accept("node-1")
    assert stage.peers.links == {}
    assert stage.hello(connection, "node-1") == ""
    assert list(stage.peers.links) == ["node-1"]
    stage.message(connection, b"/blob/update")
    assert stage.heard == [("up", "node-1"), ("message", "node-1", "/blob/update")]


async def test_messages_that_overtake_the_hello_are_kept_for_the_link_up_to_a_bound(stage: Stage) -> None:
    connection = stage.accept("node-1")
    stage.message(connection, b"/early")
    stage.hello(connection, "node-1")
    assert stage.heard == [("up", "node-1"), ("message", "node-1", "/early")]
    silent = stage.accept("node-2")
    for _ in range(EARLY_MAX + 1):
        stage.message(silent, b"/early")
    assert silent.code == CloseCode.PROTOCOL_VIOLATION


@pytest.mark.parametrize(
    ("hello", "reason"),
    [({"protocol": PROTOCOL + 1}, f"protocol {PROTOCOL + 1} is not {PROTOCOL}"), ({"name": "node-2"}, "no answer")],
)
async def test_a_hello_that_does_not_fit_makes_no_link(stage: Stage, hello: dict[str, Any], reason: str) -> None:
    connection = stage.accept("node-1")
    assert stage.hello(connection, **({"name": "node-1"} | hello)) == reason
    assert stage.peers.links == {}


async def test_a_peer_without_an_edge_is_refused_unless_it_knows_a_newer_registry(stage: Stage) -> None:
    sparse = Membership(Registry(2, [Member(name, member_uri(*SCOPE, name)) for name in NAMES]), edges=[])
    stage.directory.offer(sparse)
    assert stage.hello(stage.accept("node-1"), "node-1", registry_version=2) == NO_EDGE
    assert stage.hello(stage.accept("node-1"), "node-1", registry_version=3) == ""


async def test_connections_of_one_peer_without_a_hello_are_bounded(stage: Stage) -> None:
    connections = [stage.accept("node-1") for _ in range(PENDING_PER_PEER_MAX + 1)]
    assert [connection.code for connection in connections] == [*[None] * PENDING_PER_PEER_MAX, CloseCode.TOO_MANY]
    assert not stage.accept("node-2").closed


async def test_a_hello_that_never_comes_ends_the_connection(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    late, linked = stage.accept("node-1"), stage.accept("node-2")
    stage.hello(linked, "node-2")
    stage.peers.close_late()
    assert not late.closed
    monkeypatch.setattr(peers, "HELLO_S", -1.0)
    stage.peers.close_late()
    assert (late.code, linked.closed) == (CloseCode.PROTOCOL_VIOLATION, False)


async def test_a_new_incarnation_replaces_the_link_and_its_end_is_no_loss(stage: Stage) -> None:
    former, new = stage.accept("node-1"), stage.accept("node-1")
    stage.hello(former, "node-1", incarnation="a")
    stage.hello(new, "node-1", incarnation="b")
    assert stage.events == [EventKind.PEER_UP, EventKind.PEER_DOWN, EventKind.PEER_UP]
    former.close(CloseCode.REPLACED, "")
    assert list(stage.peers.links) == ["node-1"]
    new.close(CloseCode.DONE, "")
    assert stage.peers.links == {}
    assert stage.heard[-1] == ("down", "node-1")


async def test_a_removed_peer_is_cut_and_its_bytes_stay_counted(stage: Stage) -> None:
    connection, pending = stage.accept("node-1"), stage.accept("node-1")
    stage.hello(connection, "node-1")
    stage.directory.offer(Membership(Registry(2, [], [Removed(member_uri(*SCOPE, "node-1"), 2)])))
    stage.peers.directory_changed()
    assert (connection.code, pending.code) == (CloseCode.REMOVED, CloseCode.REMOVED)
    assert stage.peers.udp_bytes() == (20, 40)
    assert stage.peers.connection(connection.id) is None
