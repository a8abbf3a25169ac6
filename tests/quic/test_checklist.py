"""What qp2p offers, or promises, and no other file here is about. docs/quic.md has the whole list with its tests."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from aioquic.asyncio.client import connect as stock_connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, encode_quic_version_negotiation
from tests.patience import PATIENCE_S
from tests.quic.relay import Relay
from tests.quic.test_pool import PATIENT

from p2pnet.quic import (
    ConnectionLost,
    Endpoint,
    EndpointClosed,
    HandshakeFailed,
    MessageTooLarge,
    Reachability,
    Settings,
    Trust,
)

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

HEAD_BYTES = 16  # of every message
whole = [pytest.mark.soak, pytest.mark.timeout(1_800)]


# Endpoints


async def test_without_settings_an_endpoint_is_as_the_documentation_says() -> None:
    async with await Endpoint.bind(trust=Trust.anyone()) as endpoint:
        host, port = endpoint.address
    settings = Settings()
    assert host == "127.0.0.1"
    assert port > 0
    assert (settings.idle_s, settings.keep_alive, settings.streams_max, settings.retry) == (15.0, True, 128, None)


async def test_fifty_dials_leave_from_one_port(world: World) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    before = udp_sockets()
    for _ in range(50):
        await client.connect(server.address, new=True)
    assert udp_sockets() <= before  # what an earlier test left may go meanwhile
    assert [one.address for one in server.connections] == [client.address] * 50


def udp_sockets() -> set[Any]:
    """Those of this process, as the system lists them."""
    return {one.laddr for one in psutil.Process(os.getpid()).net_connections("udp")}


async def test_an_endpoint_that_only_dials_is_asked_and_answered_but_not_dialled(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint("node-0", on_message=world.echo, listens=False)
    connection = await client.connect(server.address)
    assert (await connection.request(b"/x", b"there")).payload == b"there"
    assert (await server.connections[0].request(b"/x", b"and back")).payload == b"and back"
    outsider = await world.endpoint("node-2")
    with pytest.raises(HandshakeFailed) as error:
        await outsider.connect(client.address, timeout_s=0.3)
    assert error.value.kind == "timeout"
    assert client.connections == [connection]


async def test_connections_nobody_accepts_are_refused_once_the_queue_is_full(world: World) -> None:
    server = await world.endpoint("node-1", settings=Settings(accept_queue_max=2))
    client = await world.endpoint()
    connections = [await client.connect(server.address, new=True) for _ in range(2)]
    for _ in range(2):
        with pytest.raises(HandshakeFailed) as error:
            await client.connect(server.address, new=True)
        assert error.value.kind == "too-many"
    assert not any(one.closed for one in connections)
    assert server.try_accept() is not None
    await client.connect(server.address, new=True)
    assert server.try_accept() is not None
    assert server.try_accept() is not None
    assert server.try_accept() is None


# Dialling


async def test_a_race_among_live_servers_leaves_one_connection_and_the_losers_can_be_dialled(
    world: World, until: Until
) -> None:
    servers = [await world.endpoint(f"node-{number}") for number in range(1, 9)]
    client = await world.endpoint("node-0")
    winner, _ = await client.connect_any([one.address for one in servers])
    await until(lambda: sum(len(one.connections) for one in servers) == 1)
    assert client.connections == [winner]
    for server in servers:
        assert not (await client.connect(server.address)).closed
    assert client.counters()["connections"] == len(servers)


async def test_a_closed_endpoint_fails_at_once_however_often_it_may_retry(world: World) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    client.close()
    async with asyncio.timeout(PATIENCE_S):  # and waits for no second attempt
        with pytest.raises(EndpointClosed):
            await client.connect(server.address, retry=PATIENT)


async def test_a_peer_of_another_quic_version_is_a_failed_handshake(world: World) -> None:
    loop = asyncio.get_running_loop()
    client = await world.endpoint()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.setblocking(False)
        dial = asyncio.ensure_future(client.connect(other.getsockname(), timeout_s=PATIENCE_S))
        data, address = await loop.sock_recvfrom(other, 65_536)
        there, rest = data[6 : 6 + data[5]], data[6 + data[5] :]  # both connection ids, each after its length
        here = rest[1 : 1 + rest[0]]
        answer = encode_quic_version_negotiation(
            source_cid=there, destination_cid=here, supported_versions=[0x0A0A0A0A]
        )
        await loop.sock_sendto(other, answer, address)
        with pytest.raises(HandshakeFailed) as error:
            await dial
    assert error.value.kind == "protocol"


@pytest.mark.parametrize("count", [50, pytest.param(10_000, marks=whole)])
async def test_no_two_connections_have_the_same_id(world: World, count: int) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    seen: list[int] = []
    for _ in range(count):
        connection = await client.connect(server.address, new=True)
        accepted = await server.accept()
        seen += [connection.id, accepted.id]
        connection.close()
    assert len(set(seen)) == 2 * count
    assert seen[::2] == sorted(seen[::2])


async def test_a_peer_that_cannot_dial_back_says_so(world: World, until: Until) -> None:
    server = await world.endpoint("node-1")
    Reachability(server)
    client = await world.endpoint("node-0")
    reach = Reachability(client)
    another = await world.endpoint("node-2")
    connection = await client.connect(server.address)
    before = udp_sockets()
    assert not await reach.dial_back(connection, another.address[1])
    await until(lambda: udp_sockets() <= before)  # the one it dialled from is gone


# Messages


async def test_a_message_over_the_senders_own_cap_never_leaves(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint("node-0", settings=Settings(send_bytes_max=HEAD_BYTES + 1_000))
    connection = await client.connect(server.address)
    with pytest.raises(MessageTooLarge):
        await connection.send(b"/x", b"yy", b"x" * 997)
    with pytest.raises(MessageTooLarge):
        await connection.request(b"/x", b"x" * 999)
    assert (await connection.request(b"/x", b"x" * 998)).payload == b"x" * 998
    assert len(world.received) == 1


async def test_a_send_nobody_acknowledges_is_pending_until_the_connection_is_given_up(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint(settings=Settings(idle_s=0.5))
    with Relay(server.address) as path:
        connection = await client.connect(path.address)
        await connection.send(b"", b"", b"heard")
        path.drop = lambda _data, to_server: not to_server
        send = asyncio.ensure_future(connection.send(b"", b"", b"heard, but not acknowledged"))
        with pytest.raises(ConnectionLost) as error:
            await asyncio.wait_for(send, PATIENCE_S)
    assert error.value.reason.kind == "idle"
    assert len(world.received) == 2


# Endings


@pytest.mark.parametrize(("server_s", "client_s"), [(30.0, 0.3), (0.3, 30.0), (None, 0.3), (0.3, None)])
async def test_the_smaller_idle_time_of_both_ends_counts(
    world: World, until: Until, server_s: float | None, client_s: float | None
) -> None:
    connection, other = await world.pair(
        Settings(idle_s=server_s, keep_alive=False), dialer=Settings(idle_s=client_s, keep_alive=False)
    )
    await until(lambda: connection.closed and other.closed)
    assert connection.close_reason.kind == other.close_reason.kind == "idle"


async def test_a_transport_close_is_told_from_an_application_close(world: World, until: Until) -> None:
    server = await world.endpoint(trust=Trust.anyone())
    for frame_type in (QuicFrameType.PADDING, None):
        async with stock_connect(*server.address, configuration=stock()) as peer:
            inbound: Any = await server.accept()
            peer._quic.close(error_code=QuicErrorCode.INTERNAL_ERROR, frame_type=frame_type, reason_phrase="broken")
            peer.transmit()
            await until(lambda inbound=inbound: inbound.closed)
        assert inbound.close_reason.kind == ("application" if frame_type is None else "transport")
        assert (inbound.close_reason.code, inbound.close_reason.text) == (QuicErrorCode.INTERNAL_ERROR, "broken")


async def test_a_peer_that_breaks_quics_rules_is_told_so_and_nobody_else(world: World, until: Until) -> None:
    server = await world.endpoint(trust=Trust.anyone(), on_message=world.echo)
    honest = await (await world.endpoint(trust=Trust.anyone())).connect(server.address)
    async with stock_connect(*server.address, configuration=stock()) as peer:
        await until(lambda: len(server.connections) == 2)
        inbound = server.connections[1]
        peer._quic._remote_max_streams_uni = 10_000
        for _ in range(200):
            peer._quic.send_stream_data(peer._quic.get_next_available_stream_id(is_unidirectional=True), b"x")
        peer.transmit()
        await asyncio.wait_for(peer.wait_closed(), PATIENCE_S)
    assert peer._quic._close_event.error_code == QuicErrorCode.STREAM_LIMIT_ERROR
    assert peer._quic._close_event.frame_type is not None
    assert inbound.close_reason.kind == "transport"
    assert inbound.close_reason.code == QuicErrorCode.STREAM_LIMIT_ERROR
    assert (await honest.request(b"", b"well?")).payload == b"well?"


def stock() -> QuicConfiguration:
    """A plain aioquic client's, for Trust.anyone."""
    return QuicConfiguration(is_client=True, server_name="maidsafe.net", verify_mode=ssl.CERT_NONE)


# Telemetry


@pytest.mark.parametrize("closes", ["the connection", "the endpoint"])
async def test_every_connection_leaves_a_qlog(world: World, until: Until, tmp_path: Path, closes: str) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint("node-0", settings=Settings(qlog_dir=tmp_path))
    for _ in range(2):
        connection = await client.connect(server.address, new=True)
        await connection.request(b"/x", b"x" * 100_000)
        if closes == "the connection":
            connection.close()
    if closes == "the endpoint":
        client.close()
    await until(lambda: len(list(tmp_path.iterdir())) == 2)
    for path in tmp_path.iterdir():
        names = [event["name"] for event in json.loads(path.read_text())["traces"][0]["events"]]
        assert "transport:packet_sent" in names


async def test_a_connection_counts_what_its_path_does_to_it(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint()
    rng = random.Random(1)
    with Relay(server.address) as path:
        connection: Any = await client.connect(path.address)
        assert connection.counters()["lost_packets_total"] == 0
        path.drop = lambda _data, to_server: to_server and rng.random() < 0.05
        await connection.request(b"/x", b"x" * 1_000_000)
        counters = connection.counters()
    assert counters["lost_packets_total"] > 0
    assert counters["sent_packets_total"] > counters["lost_packets_total"]
    assert counters["sent_bytes_total"] > 1_000_000
    assert counters["received_bytes_total"] > 1_000_000
    assert 1_200 <= counters["mtu_bytes"] <= 65_535
    assert counters["congestion_window_bytes"] > 0
    assert counters["rtt_s"] > 0
    assert counters["bytes_in_flight"] >= 0
    assert counters["held_bytes"] >= 0
