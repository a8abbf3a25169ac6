"""Every error that the peer layer's face names, in each of its variants, from what really brings it about."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Any, get_args

import pytest
from tests.quic.virtual import DEAD, VirtualWorld, play

import p2pnet.quic
from p2pnet.model.errors import LimitError, LocalError, MalformedError, P2pnetError, RemoteError, TrustError
from p2pnet.quic import (
    BadAddress,
    CloseCode,
    CloseReason,
    Connection,
    ConnectionLost,
    Deadlock,
    Endpoint,
    EndpointClosed,
    EndpointError,
    FrameError,
    HandshakeFailed,
    Message,
    MessageTooLarge,
    QuicError,
    RequestTimeout,
    Reset,
    Retry,
    Sending,
    Settings,
    StreamCode,
    StreamLost,
    Trust,
)
from p2pnet.quic.errors import CloseKind, FrameFault, HandshakeFailure
from p2pnet.quic.framing import HEAD
from p2pnet.quic.once import AtLeastOnce, DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.quic.conftest import World

DELAY_S = 0.02


async def pair(world: VirtualWorld, **options: Any) -> tuple[Connection, Connection]:
    """Both ends of a connection, the dialer's first; the other one never answers unless told otherwise."""
    options.setdefault("on_message", lambda _connection, _message: None)
    server = await world.endpoint("node-1", **options)
    client = await world.endpoint("node-0")
    connection = await client.connect(server.address)
    await asyncio.sleep(1)
    return connection, server.connections[0]


def raw(connection: Connection, data: bytes) -> None:
    """These bytes and an end on a one-way stream of their own."""
    engine = connection.engine
    engine.write(engine.open(uni=True), [data])
    connection.touch()


def answer_raw(message: Any, data: bytes) -> None:
    """These bytes and an end instead of a reply."""
    connection = message.connection
    connection.engine.write(message._stream._stream, [data])
    connection.touch()


def test_each_error_belongs_to_the_side_at_fault() -> None:
    bases = {P2pnetError, LocalError, RemoteError, MalformedError}
    faults: dict[type[P2pnetError], set[type[P2pnetError]]] = {LocalError: set(), RemoteError: set()}
    for name in p2pnet.quic.__all__:
        one = getattr(p2pnet.quic, name)
        if isinstance(one, type) and issubclass(one, P2pnetError) and one not in bases:
            faults[LocalError if issubclass(one, LocalError) else RemoteError].add(one)
    assert faults[LocalError] == {BadAddress, EndpointClosed, EndpointError, LimitError, Deadlock}
    assert faults[RemoteError] == {
        QuicError, ConnectionLost, Reset, StreamLost, HandshakeFailed, MessageTooLarge, RequestTimeout, DeliveryFailed,
        FrameError, TrustError,
    }  # fmt: skip
    assert all(issubclass(one, QuicError) for one in faults[RemoteError] - {FrameError, TrustError})
    assert issubclass(FrameError, MalformedError)
    assert issubclass(Reset, ConnectionLost)


# EndpointClosed, BadAddress, EndpointError, LimitError: ours


def test_a_closed_endpoint_says_so_to_whatever_is_asked_of_it() -> None:
    async def scenario(world: VirtualWorld) -> None:
        endpoint = await world.endpoint("node-0", on_message=world.echo)
        endpoint.close()
        asked: list[Awaitable[Any]] = [
            endpoint.connect(DEAD),
            endpoint.connect(DEAD, retry=Retry()),
            endpoint.connect(("peer.test", 9)),
            endpoint.accept(),
            AtLeastOnce(endpoint).send(DEAD, b"/x", b"", b"x"),
        ]
        for one in asked:
            with pytest.raises(EndpointClosed):
                await one
        with pytest.raises(ExceptionGroup) as failed:
            await endpoint.connect_any([DEAD])
        assert [type(one) for one in failed.value.exceptions] == [EndpointClosed]
        assert endpoint.try_accept() is None

    play(scenario)


def test_a_draining_endpoint_begins_nothing_new() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await pair(world)
        request = asyncio.ensure_future(connection.request(b"/x", b"holds up the drain"))
        await asyncio.sleep(1)
        drain = asyncio.ensure_future(other.endpoint.drain(5))
        await asyncio.sleep(0)
        for work in (other.request(b"/x", b"x"), other.send(b"/x", b"", b"x"), other.endpoint.connect(DEAD)):
            with pytest.raises(EndpointClosed):
                await work
        await drain
        with pytest.raises(ConnectionLost):
            await request

    play(scenario, delay_s=DELAY_S)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (("127.0.0.1", 0), "port 0"),
        (("127.0.0.1", -1), "port -1"),
        (("127.0.0.1", 65_536), "port 65536"),
        (("::1", 4_100), "IPv4"),
        (("224.0.0.1", 4_100), "multicast"),
        (("no-such-host.invalid", 4_100), "no-such-host.invalid"),
        (("", 4_100), "unknown"),
        (("a" * 300, 4_100), "label"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_an_address_at_which_nobody_can_be_is_said_before_anything_is_sent(address: tuple[str, int], said: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        async def unknown(host: str, *_: Any, **__: Any) -> Any:
            host.encode("idna")
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        world.loop.getaddrinfo = unknown  # type: ignore[method-assign,assignment]
        client = await world.endpoint("node-0")
        with pytest.raises(BadAddress, match=said):
            await client.connect(address, retry=Retry())
        assert world.network.counters()["sent_total"] == 0
        assert client.counters()["dialled_total"] == 0

    play(scenario)


def test_a_name_server_that_does_not_answer_is_a_bad_address_in_time() -> None:
    async def scenario(world: VirtualWorld) -> None:
        async def silent(*_: Any, **__: Any) -> Any:
            await world.loop.create_future()

        world.loop.getaddrinfo = silent  # type: ignore[method-assign]
        client = await world.endpoint("node-0")
        with pytest.raises(BadAddress, match="name server"):
            await client.connect(("peer.test", 9), timeout_s=3)
        assert 3 <= world.loop.time() < 3.1

    play(scenario)


async def test_a_socket_that_cannot_be_bound_is_told_with_the_systems_number(world: World) -> None:
    endpoint = await world.endpoint()
    trust = endpoint.trust
    for address, number in [
        (endpoint.address, errno.EADDRINUSE),
        (("203.0.113.1", 0), errno.EADDRNOTAVAIL),
        (("127.0.0.1", 70_000), None),
    ]:
        with pytest.raises(EndpointError) as error:
            await Endpoint.bind(address, trust=trust)
        assert error.value.errno == number
    useless = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    useless.close()
    with pytest.raises(EndpointError) as error:
        await Endpoint.bind(sock=useless, trust=trust)
    assert error.value.errno == errno.EBADF


def test_each_bound_of_ones_own_is_a_limit_error() -> None:
    async def scenario(world: VirtualWorld) -> None:
        settings = Settings(opens_queued_max=2, streams_max=1, connections_max=1)
        server = await world.endpoint("node-1", on_message=lambda _connection, _message: None, settings=settings)
        client = await world.endpoint("node-0", settings=settings)
        connection = await client.connect(server.address)
        with pytest.raises(LimitError, match="connections_max"):
            await client.connect(server.address, new=True)
        await asyncio.sleep(1)
        for _ in range(3):
            connection.start_request(b"/x", b"x", lambda _: None)
        with pytest.raises(LimitError, match="opens_queued_max"):
            connection.start_request(b"/x", b"x", lambda _: None)
        with pytest.raises(LimitError, match="opens_queued_max"):
            await connection.request(b"/x", b"x")

    play(scenario, delay_s=DELAY_S)


# FrameError: bytes that are no message

FRAMES: dict[FrameFault, bytes] = {
    "version": HEAD.pack(3, 0, 0, 1, 0) + b"x",
    "reserved": HEAD.pack(2, 0, 0, 1, 7) + b"x",
    "truncated": HEAD.pack(2, 0, 0, 5, 0) + b"x",
    "trailing": HEAD.pack(2, 0, 0, 1, 0) + b"xy",
    "empty": HEAD.pack(2, 0, 0, 0, 0),
}


def test_every_fault_of_a_frame_has_its_bytes_here() -> None:
    assert set(FRAMES) == set(get_args(FrameFault))


@pytest.mark.parametrize("kind", FRAMES)
def test_a_message_that_breaks_a_rule_is_told_to_its_receiver_and_refused(kind: FrameFault) -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _ = await pair(world, settings=Settings(empty_payloads=False), on_message=world.echo)
        raw(connection, FRAMES[kind])
        await asyncio.sleep(1)
        (error,) = world.malformed
        assert isinstance(error, FrameError)
        assert error.kind == kind
        assert not world.received
        assert (await connection.request(b"/x", b"well")).payload == b"well"

    play(scenario, delay_s=DELAY_S)


@pytest.mark.parametrize("kind", FRAMES)
def test_a_reply_that_breaks_a_rule_is_told_to_the_requester(kind: FrameFault) -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await pair(world)
        connection.empty_payloads = False
        other.on_message = lambda _connection, message: answer_raw(message, FRAMES[kind])
        with pytest.raises(FrameError) as error:
            await connection.request(b"/x", b"x")
        assert error.value.kind == kind
        assert not connection.closed

    play(scenario, delay_s=DELAY_S)


def test_an_empty_payload_is_refused_at_the_sender_too_where_it_is_not_allowed() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _ = await pair(world)
        connection.empty_payloads = False
        sent = world.network.counters()["sent_total"]
        sender, _ = connection.open_bi()
        works = (
            connection.send(b"/x", b"", b""),
            connection.request(b"/x", b""),
            sender.send_user_msg(b"/x", b"", b""),
            connection.open_uni().send_user_msg(b"/x", b"", b""),
        )
        for work in works:
            with pytest.raises(FrameError) as error:
                await work
            assert error.value.kind == "empty"
        assert world.network.counters()["sent_total"] == sent

    play(scenario, delay_s=DELAY_S)


# ConnectionLost: how connections end


async def close_here(_world: VirtualWorld, connection: Connection, _other: Connection) -> None:
    """The one who waits closes."""
    connection.close(CloseCode.REPLACED, "a newer one")


async def close_there(_world: VirtualWorld, _connection: Connection, other: Connection) -> None:
    """The peer closes."""
    other.close(CloseCode.REMOVED, "no member any more")


async def fail_there(_world: VirtualWorld, _connection: Connection, other: Connection) -> None:
    """QUIC itself gives up at the peer."""
    other.crash(RuntimeError("a bug"))


async def fall_silent(world: VirtualWorld, connection: Connection, other: Connection) -> None:
    """The path between is cut."""
    world.network.disconnect(connection.endpoint.address, other.endpoint.address)


async def forget(world: VirtualWorld, _connection: Connection, other: Connection) -> None:
    """The peer is killed, and another with the same key takes its place: what it does not know, it resets."""
    server = other.endpoint
    transport: Any = server._transport
    transport.close()
    await world.endpoint(
        "node-1",
        trust=server.trust,
        transport=world.network.transport(server.address),
    )


ENDS: dict[CloseKind, tuple[Any, CloseReason]] = {
    "local": (close_here, CloseReason("local", CloseCode.REPLACED, "a newer one")),
    "application": (close_there, CloseReason("application", CloseCode.REMOVED, "no member any more")),
    "transport": (fail_there, CloseReason("transport", 1, "RuntimeError: a bug")),
    "idle": (fall_silent, CloseReason("idle", 1, "Idle timeout")),
    "reset": (forget, CloseReason("reset", 0, "the peer does not know this connection: it was restarted")),
}


def test_every_kind_of_end_is_brought_about_here() -> None:
    assert {*ENDS, "refused"} == set(get_args(CloseKind))


@pytest.mark.parametrize("kind", ENDS)
def test_what_waits_for_a_connection_that_ends_is_told_how(kind: CloseKind) -> None:
    async def scenario(world: VirtualWorld) -> None:
        bring_about, reason = ENDS[kind]
        connection, other = await pair(world)
        waits = [
            asyncio.ensure_future(connection.request(b"/x", b"x", timeout_s=100)),
            asyncio.ensure_future(connection.send(b"/x", b"", b"x" * 100_000)),
        ]
        await asyncio.sleep(0)
        await bring_about(world, connection, other)
        for wait in waits:
            with pytest.raises(ConnectionLost) as lost:
                await wait
            assert lost.value.reason == reason
            assert isinstance(lost.value, Reset) == (kind == "reset")
            assert reason.text in str(lost.value)
        assert connection.close_reason == reason
        with pytest.raises(ConnectionLost) as lost:
            await connection.request(b"/x", b"x")
        assert lost.value.reason == reason
        with pytest.raises(ConnectionLost) as lost:
            await connection.send(b"/x", b"", b"x", retry=Retry())
        assert lost.value.reason == reason

    play(scenario, delay_s=DELAY_S)


def test_what_waits_for_a_connection_that_is_refused_is_told_so() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        client = await world.endpoint("node-0", trust=world.trust(world.expired("node-0")))
        dial = asyncio.ensure_future(client.connect(server.address))
        await asyncio.sleep(DELAY_S / 2)
        connection = next(iter(client._dispatcher.handshakes))
        request = asyncio.ensure_future(connection.request(b"/x", b"x"))
        with pytest.raises(HandshakeFailed):
            await dial
        with pytest.raises(ConnectionLost) as lost:
            await request
        assert lost.value.reason.kind == "refused"
        assert lost.value.reason.code == CloseCode.REFUSED
        assert "expired" in lost.value.reason.text

    play(scenario, delay_s=DELAY_S)


# StreamLost


@pytest.mark.parametrize(
    "code", [*(one for one in StreamCode if one is not StreamCode.TOO_LARGE), 0, 77, (1 << 62) - 1]
)
def test_a_refused_request_tells_with_which_code(code: int) -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _ = await pair(world, on_message=lambda _connection, message: message.refuse(code))
        with pytest.raises(StreamLost) as error:
            await connection.request(b"/x", b"x")
        assert error.value.code == code
        name = StreamCode(code).name.lower() if code in set(StreamCode) else "unknown"
        assert name in str(error.value)

    play(scenario, delay_s=DELAY_S)


@pytest.mark.parametrize("kind", FRAMES)
def test_a_send_that_breaks_a_rule_is_a_lost_stream_to_its_sender(kind: FrameFault) -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _ = await pair(world, settings=Settings(empty_payloads=False))
        outcomes: list[Any] = []
        connection.outbox.begin(Sending(connection.outbox, [FRAMES[kind]], 0, outcomes.append))
        await asyncio.sleep(1)
        (error,) = outcomes
        assert isinstance(error, StreamLost)
        assert error.code == StreamCode.MALFORMED

    play(scenario, delay_s=DELAY_S)


def test_what_a_draining_peer_does_not_want_any_more_is_a_lost_stream() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await pair(world)
        request = asyncio.ensure_future(connection.request(b"/x", b"holds up the drain"))
        await asyncio.sleep(1)
        drain = asyncio.ensure_future(other.endpoint.drain(5))
        for work in (connection.send(b"/x", b"", b"x"), connection.request(b"/x", b"x")):
            with pytest.raises(StreamLost) as error:
                await work
            assert error.value.code == StreamCode.UNWANTED
        request.cancel()
        await drain

    play(scenario, delay_s=DELAY_S)


# HandshakeFailed


async def nobody(world: VirtualWorld) -> tuple[Endpoint, Any]:
    """Silence."""
    return await world.endpoint("node-0"), DEAD


async def not_admitted(world: VirtualWorld) -> tuple[Endpoint, Any]:
    """The server does not admit the dialer."""
    server = await world.endpoint("node-1", trust=world.trust(world.identity("node-1"), lambda _uri: "no member"))
    return await world.endpoint("node-0"), server.address


async def full(world: VirtualWorld) -> tuple[Endpoint, Any]:
    """The server has as many connections as it takes."""
    server = await world.endpoint("node-1", settings=Settings(connections_max=1))
    await (await world.endpoint("node-2")).connect(server.address)
    return await world.endpoint("node-0"), server.address


async def refused_unseen(world: VirtualWorld) -> tuple[Endpoint, Any]:
    """The server's owner refuses the address before anything is known of who asks."""
    server = await world.endpoint("node-1", on_incoming=lambda _address: "refuse")
    return await world.endpoint("node-0"), server.address


async def closing(world: VirtualWorld) -> tuple[Endpoint, Any]:
    """The server closes in the middle of it."""
    server = await world.endpoint("node-1")
    world.loop.call_later(1.5 * DELAY_S, server.close)
    return await world.endpoint("node-0"), server.address


async def other_protocol(world: VirtualWorld) -> tuple[Endpoint, Any]:
    """The two do not speak the same application protocol."""
    server = await world.endpoint("node-1")
    return await world.endpoint("node-0", trust=Trust.anyone()), server.address


HANDSHAKES: dict[str, tuple[Any, HandshakeFailure]] = {
    "nobody": (nobody, "timeout"),
    "not admitted": (not_admitted, "refused"),
    "full": (full, "too-many"),
    "refused unseen": (refused_unseen, "too-many"),
    "closing": (closing, "closed"),
    "other protocol": (other_protocol, "protocol"),
}


def test_every_way_for_a_handshake_to_fail_is_gone_here() -> None:
    assert {kind for _, kind in HANDSHAKES.values()} == set(get_args(HandshakeFailure))


@pytest.mark.parametrize("way", HANDSHAKES)
def test_a_failed_handshake_says_why(way: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        prepare, kind = HANDSHAKES[way]
        client, address = await prepare(world)
        started = world.loop.time()
        with pytest.raises(HandshakeFailed) as error:
            await client.connect(address, timeout_s=2)
        assert error.value.kind == kind
        assert error.value.text
        assert kind in str(error.value)
        assert world.loop.time() - started <= (2.1 if kind == "timeout" else 10 * DELAY_S)
        assert client.counters()["connections"] == 0

    play(scenario, delay_s=DELAY_S)


def test_a_peer_that_we_refuse_is_a_trust_error_with_its_kind() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        client = await world.endpoint("node-0")
        with pytest.raises(TrustError) as error:
            await client.connect(server.address, expect=world.uri("node-2"))
        assert error.value.kind == "wrong-name"

    play(scenario, delay_s=DELAY_S)


# MessageTooLarge


@pytest.mark.parametrize("way", ["request", "send", "bi", "uni"])
def test_a_message_larger_than_this_end_sends_is_refused_before_anything_leaves(way: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=world.echo)
        client = await world.endpoint("node-0", settings=Settings(send_bytes_max=1_000))
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        sent = world.network.counters()["sent_total"]
        with pytest.raises(MessageTooLarge, match="at most 1000"):
            await put(connection, way, b"x" * 1_000)
        assert world.network.counters()["sent_total"] == sent
        await put(connection, way, b"x" * 900)

    play(scenario, delay_s=DELAY_S)


@pytest.mark.parametrize("way", ["request", "send", "bi", "uni"])
@pytest.mark.parametrize("size", [1_001, 500_000])
def test_a_message_larger_than_the_peer_takes_is_told_by_it(size: int, way: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        settings = Settings(message_bytes_max=1_000)
        connection, _ = await pair(world, settings=settings, on_message=world.echo)
        with pytest.raises(MessageTooLarge, match="the peer refused"):
            await put(connection, way, b"x" * size)
        (error,) = world.malformed
        assert isinstance(error, MessageTooLarge)
        await put(connection, way, b"x" * 1_000)

    play(scenario, delay_s=DELAY_S)


async def put(connection: Connection, way: str, payload: bytes) -> None:
    """Get this payload across in one of the four ways there are."""
    if way == "request":
        await connection.request(b"/x", payload)
    elif way == "send":
        await connection.send(b"/x", b"", payload)
    elif way == "bi":
        sender, receiver = connection.open_bi()
        await sender.send_user_msg(b"/x", b"", payload)
        await receiver.read()
    else:
        lone = connection.open_uni()
        await lone.send_user_msg(b"/x", b"", payload)
        await lone.finish()


def test_a_reply_larger_than_the_requester_takes_is_told_at_both_ends() -> None:
    async def scenario(world: VirtualWorld) -> None:
        cancelled: list[Message] = []
        connection, other = await pair(world)

        def answer(_connection: Connection, message: Message) -> None:
            message.on_cancel = cancelled.append
            message.reply(b"x" * 1_001)

        other.on_message = answer
        with pytest.raises(MessageTooLarge):
            await connection.request(b"/x", b"x", reply_bytes_max=1_000)
        await asyncio.sleep(1)
        assert not connection.busy
        assert not other.busy

    play(scenario, delay_s=DELAY_S)


# RequestTimeout, DeliveryFailed


def test_a_request_nobody_answers_ends_at_its_time() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _ = await pair(world)
        started = world.loop.time()
        with pytest.raises(RequestTimeout, match="3 s"):
            await connection.request(b"/x", b"x", timeout_s=3)
        assert 3 <= world.loop.time() - started < 3.1

    play(scenario, delay_s=DELAY_S)


@pytest.mark.parametrize("kind", ["failed", "busy"])
def test_a_message_that_its_receiver_does_not_take_tells_why(kind: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        def take(_connection: Connection, _message: Message) -> None:
            if kind == "busy":
                raise LimitError("no room")
            raise RuntimeError("a bug")

        server = await world.endpoint("node-1", on_message=take)
        client = await world.endpoint("node-0")
        AtLeastOnce(server)
        with pytest.raises(DeliveryFailed) as error:
            await AtLeastOnce(client).send(server.address, b"/x", b"", b"x", retry=Retry(budget_s=2))
        assert error.value.kind == kind

    play(scenario, delay_s=DELAY_S)
