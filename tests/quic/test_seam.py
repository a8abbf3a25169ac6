"""The seam between QUIC and the network: what leaves and what arrives, held back and given on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from tests.quic.conftest import Until, World
from tests.quic.virtual import VirtualWorld, play

from p2pnet.quic import CloseCode, Connection, Datagram, Endpoint, HandshakeFailed, QuicError, Settings

PROBE = b"\x05 no packet of QUIC"


class Held:
    """Holds back everything that an endpoint would send."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.given: list[tuple[Connection | None, list[Datagram]]] = []
        endpoint.egress = self.hold

    def hold(self, connection: Connection | None, datagrams: list[Datagram]) -> list[Datagram]:
        self.given.append((connection, datagrams))
        return []

    def release(self) -> int:
        """Send it all; how many datagrams that were."""
        held, self.given = self.given, []
        datagrams = [one for _, some in held for one in some]
        self.endpoint.transmit_raw(datagrams)
        return len(datagrams)


def delaying(endpoint: Endpoint, seconds: float) -> None:
    """Let everything leave so much later."""

    def late(_connection: Connection | None, datagrams: list[Datagram]) -> list[Datagram]:
        endpoint.loop.call_later(seconds, endpoint.transmit_raw, datagrams)
        return []

    endpoint.egress = late


def test_every_datagram_of_a_connection_passes_egress_from_the_first_to_the_last() -> None:
    async def scenario(world: VirtualWorld) -> None:
        seen: dict[str, list[bytes]] = {"there": [], "here": []}
        sent: list[bytes] = []
        world.network.on_send = lambda _source, _to, data: sent.append(data)
        there, here = await world.endpoint("node-1", on_message=world.echo), await world.endpoint()

        def watching(side: str) -> Any:
            def watch(_connection: Connection | None, datagrams: list[Datagram]) -> list[Datagram]:
                seen[side].extend(data for data, _ in datagrams)
                return datagrams

            return watch

        there.egress, here.egress = watching("there"), watching("here")
        connection = await here.connect(there.address)
        assert (await connection.request(b"/x", b"hello")).payload == b"hello"
        connection.close(CloseCode.DONE, "done")
        await asyncio.sleep(5)
        assert sorted(sent) == sorted(seen["there"] + seen["here"])
        assert seen["here"][0][0] & 0xC0 == 0xC0, "the first is an Initial"

    play(scenario)


def test_answers_to_strangers_pass_egress_without_a_connection() -> None:
    async def scenario(world: VirtualWorld) -> None:
        decision = "retry"
        there = await world.endpoint("node-1", on_incoming=lambda _address: decision)
        here = await world.endpoint()
        strangers: list[int] = []

        def watch(connection: Connection | None, datagrams: list[Datagram]) -> list[Datagram]:
            if connection is None:
                strangers.append(len(datagrams))
            return datagrams

        there.egress = watch
        await here.connect(there.address, new=True)
        assert strangers == [1] == [there.counters()["retries_sent_total"]]
        decision = "refuse"
        with pytest.raises(HandshakeFailed):
            await here.connect(there.address, new=True)
        assert len(strangers) == 2
        there._dispatcher.on_datagrams([(b"\x40" + bytes(60), ("10.0.0.9", 9))])
        assert len(strangers) == 3
        assert there.counters()["resets_sent_total"] == 1
        there._dispatcher.on_datagrams([(b"\xc0\x0a\x0a\x0a\x0a\x08" + bytes(1300), ("10.0.0.9", 9))])
        assert len(strangers) == 4, "a version negotiation"

    play(scenario)


def test_a_retry_that_egress_keeps_reaches_nobody() -> None:
    async def scenario(world: VirtualWorld) -> None:
        there = await world.endpoint("node-1", on_incoming=lambda _address: "retry")
        here = await world.endpoint()
        there.egress = lambda connection, datagrams: [] if connection is None else datagrams
        with pytest.raises(HandshakeFailed) as failed:
            await here.connect(there.address, timeout_s=2)
        assert failed.value.kind == "timeout"

    play(scenario)


def test_bytes_count_as_sent_when_they_are_given_to_egress() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair()
        before, received = connection.sent_bytes, other.received_bytes
        held = Held(connection.endpoint)
        connection.start_request(b"/x", bytes(500), lambda _result: None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given = sum(len(data) for _, some in held.given for data, _ in some)
        assert given > 500
        assert connection.sent_bytes == before + given
        assert held.release() > 0
        assert connection.sent_bytes == before + given, "and once only"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert other.received_bytes >= received + given

    play(scenario)


def test_what_was_held_back_leaves_when_its_connection_is_gone() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair(Settings(idle_s=1))
        held = Held(connection.endpoint)
        connection.close(CloseCode.REMOVED, "goodbye")
        await asyncio.sleep(0.5)
        assert connection.closed
        assert not other.closed
        assert held.release() > 0
        await asyncio.sleep(0.1)
        assert other.close_reason is not None
        assert (other.close_reason.code, other.close_reason.text) == (CloseCode.REMOVED, "goodbye")
        connection.endpoint.close()
        await connection.endpoint.wait_closed()
        connection.endpoint.transmit_raw([(b"late", other.endpoint.address)])  # to a socket that is closed: no error

    play(scenario)


def test_a_closed_endpoint_keeps_its_socket_while_egress_holds_something() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair()
        here = connection.endpoint
        await asyncio.sleep(1)
        held = Held(here)
        here.egress_holds = lambda: bool(held.given)
        here.loop.call_later(0.6, held.release)
        started = here.clock()
        here.close(CloseCode.DONE, "bye")
        await here.wait_closed()
        assert 0.6 <= here.clock() - started <= 1.0, "no longer than CLOSE_S"
        await asyncio.sleep(0.1)
        assert other.closed
        assert other.close_reason.text == "bye"

    play(scenario)


def test_a_delay_at_the_seam_is_the_round_trip_that_is_measured() -> None:
    async def scenario(world: VirtualWorld) -> None:
        there, here = await world.endpoint("node-1", on_message=world.echo), await world.endpoint()
        delaying(there, 0.04)
        delaying(here, 0.06)
        started = here.clock()
        connection = await here.connect(there.address)
        for _ in range(20):
            await connection.request(b"/x", b"?")
        assert 0.1 <= connection.rtt_s < 0.13
        assert here.clock() - started >= 0.1 * 22

    play(scenario)


def test_ingress_holds_back_what_arrives() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair()
        there = other.endpoint
        held: list[Datagram] = []

        def hold(datagrams: list[Datagram]) -> list[Datagram]:
            held.extend(datagrams)
            return []

        there.ingress = hold
        received = other.received_bytes
        answer = asyncio.ensure_future(connection.request(b"/x", b"hello"))
        await asyncio.sleep(0.2)
        assert held
        assert not answer.done()
        assert other.received_bytes == received
        assert all(there.connection_for(data) is other for data, _ in held)
        assert there.connection_for(PROBE) is None
        assert there.connection_for(b"") is None
        there.ingress = None
        there.receive_raw(held)
        assert (await answer).payload == b"hello"
        there.close()
        await there.wait_closed()
        there.receive_raw(held)  # too late: nobody is there any more

    play(scenario)


def test_foreign_datagrams_are_ignored_unless_somebody_wants_them() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair()
        there, here = other.endpoint, connection.endpoint
        taken: list[Datagram] = []
        here.transmit_raw([(PROBE, there.address)])
        await asyncio.sleep(0.1)
        there.on_foreign = lambda data, address: taken.append((data, address))
        assert (await connection.request(b"/x", b"hello")).payload == b"hello"
        there._dispatcher.on_datagrams(
            [(data, here.address) for data in (b"", b"\x40" + bytes(30), b"\xc0" + bytes(30))]
        )
        assert taken == []
        here.transmit_raw([(PROBE, there.address)])
        await asyncio.sleep(0.1)
        assert taken == [(PROBE, here.address)]
        # With an id of ours it is the connection's, whatever its first byte says.
        there._dispatcher.on_datagrams([(b"\x05" + other.engine.cid + bytes(30), here.address)])
        assert len(taken) == 1

    play(scenario)


def test_an_error_in_the_foreign_hook_costs_no_connection() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair()

        def fail(_data: bytes, _address: Any) -> None:
            raise ZeroDivisionError

        other.endpoint.on_foreign = fail
        connection.endpoint.transmit_raw([(PROBE, other.endpoint.address)] * 3)
        assert (await connection.request(b"/x", b"hello")).payload == b"hello"
        assert [type(one) for one in world.reported] == [ZeroDivisionError] * 3

    play(scenario)


async def test_a_dial_that_egress_swallows_times_out(world: World, until: Until) -> None:
    there, here = await world.endpoint("node-1"), await world.endpoint()
    here.egress = lambda _connection, _datagrams: []
    with pytest.raises(HandshakeFailed) as failed:
        await here.connect(there.address, timeout_s=0.3)
    assert failed.value.kind == "timeout"
    here.egress = None
    there.egress = lambda _connection, _datagrams: []
    with pytest.raises(HandshakeFailed) as failed:
        await here.connect(there.address, timeout_s=0.3)
    assert failed.value.kind == "timeout"
    await until(lambda: here.counters()["handshakes"] == 0)


async def test_a_dialled_connection_says_whom_it_expects(world: World) -> None:
    there, here = await world.endpoint("node-1"), await world.endpoint()
    seen: list[tuple[str, str]] = []

    def watch(connection: Connection | None, datagrams: list[Datagram]) -> list[Datagram]:
        if connection is not None:
            seen.append((connection.expected_uri, connection.uri))
        return datagrams

    here.egress = watch
    with contextlib.suppress(QuicError):
        await here.connect(there.address, expect=world.uri("node-1"))
    assert seen[0] == (world.uri("node-1"), "")
    assert seen[-1] == (world.uri("node-1"), world.uri("node-1"))
