"""What the peer is told in the end, whatever is lost or full on the way; and what is written down of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.quic.virtual import VirtualWorld, play

from p2pnet.quic import (
    CloseCode,
    Connection,
    ConnectionLost,
    Message,
    MessageTooLarge,
    Settings,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.quic.conftest import Until, World


def ignore(_connection: Connection, _message: Message) -> None:
    """A handler that never answers."""


# What the peer is told, whatever is lost or full


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("lost", range(10))
def test_a_refused_message_is_no_success_though_the_refusal_was_lost(lost: int, size: int) -> None:
    """The server's datagram that says so, or the one so many after it, is lost."""

    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=ignore, settings=Settings(message_bytes_max=10))
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        counted = 0

        def lose(source: Any, _destination: Any, _data: bytes) -> bool:
            nonlocal counted
            counted += source == server.address
            return not (source == server.address and counted == 1 + lost % 3)

        world.network.on_send = lose
        for _ in range(3):
            counted = 0
            with pytest.raises(MessageTooLarge):
                await connection.send(b"/x", b"", b"x" * size)
            await asyncio.sleep(0.01 * lost)

    play(scenario, seed=lost, delay_s=0.01)


class Full:
    """A socket whose buffer is full until `room`."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.room = True

    def sendto(self, *arguments: Any) -> int:
        """Send if there is room."""
        if not self.room:
            raise BlockingIOError
        return int(self.real.sendto(*arguments))

    def sendmsg(self, *arguments: Any) -> int:
        """Send if there is room."""
        if not self.room:
            raise BlockingIOError
        return int(self.real.sendmsg(*arguments))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize("closes", ["connection", "endpoint"])
async def test_a_close_through_a_full_socket_reaches_the_peer(world: World, until: Until, closes: str) -> None:
    connection, other = await world.pair(Settings(idle_s=60))
    endpoint = connection.endpoint
    transport = endpoint._transport
    full = transport._sock = Full(transport._sock)
    full.room = False
    sending = asyncio.ensure_future(connection.send(b"/x", b"", b"x" * (8 << 20)))
    await until(lambda: transport.congested)
    if closes == "endpoint":
        transport.send([(b"as many as are kept", ("127.0.0.1", 9))] * 10_000)
    (endpoint if closes == "endpoint" else connection).close()
    await asyncio.sleep(0.2)
    full.room = True
    await until(lambda: other.closed)
    assert other.close_reason.kind == "application"
    assert other.close_reason.code == (CloseCode.SHUTTING_DOWN if closes == "endpoint" else CloseCode.DONE)
    with pytest.raises(ConnectionLost):
        await sending
    endpoint.close()
    await endpoint.wait_closed()


@pytest.mark.parametrize("lost", range(3))
def test_lost_close_packets_are_sent_again(lost: int) -> None:
    async def scenario(world: VirtualWorld) -> None:
        (server,) = await world.servers(1)
        client = await world.endpoint("node-0", settings=Settings(idle_s=60))
        connection = await client.connect(server.address)
        other = server.connections[0]
        await connection.request(b"/x", b"x")
        await asyncio.sleep(5)
        left = lost

        def lose(source: Any, _destination: Any, _data: bytes) -> bool:
            nonlocal left
            left -= source == client.address
            return left < 0

        world.network.on_send = lose
        client.close()
        await client.wait_closed()
        await asyncio.sleep(0.1)
        assert other.closed
        assert other.close_reason is not None
        assert other.close_reason.kind == "application"

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("closes", ["connection", "endpoint", "peer", "drain", "unheard"])
async def test_qlog_is_written_however_the_connection_ends(
    world: World, until: Until, tmp_path: Path, closes: str
) -> None:
    connection, other = await world.pair(Settings(qlog_dir=tmp_path))
    await connection.request(b"/x", b"x")
    if closes == "connection":
        connection.close()
    elif closes == "peer":
        other.close()
    elif closes == "drain":
        await connection.endpoint.drain(1)
    elif closes == "unheard":
        connection.endpoint.egress = other.endpoint.egress = lambda _connection, _datagrams: []
    for endpoint in (connection.endpoint, other.endpoint):
        endpoint.close()
        await endpoint.wait_closed()
    files = list(tmp_path.glob("*.qlog"))
    assert len(files) == 2
    assert all(one.stat().st_size > 1_000 for one in files)
