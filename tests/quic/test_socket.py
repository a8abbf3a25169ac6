"""The batched socket: runs of datagrams, one by one where the kernel cannot, nothing lost between."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest

from p2pnet.quic import Settings
from p2pnet.quic.socket import UdpSocket

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World


async def pair(segmentation: bool) -> tuple[Any, Any, list[tuple[bytes, Any]]]:
    loop = asyncio.get_running_loop()
    received: list[tuple[bytes, Any]] = []
    one, two = (
        UdpSocket(UdpSocket.bind(("127.0.0.1", 0)), loop, buffer_bytes=1 << 20, segmentation=segmentation)
        for _ in range(2)
    )
    one.start(received.extend, lambda *_: None)
    two.start(lambda _: None, lambda *_: None)
    return one, two, received


@pytest.mark.parametrize("segmentation", [True, False])
async def test_datagrams_keep_their_bounds_and_order(segmentation: bool, until: Until) -> None:
    one, two, received = await pair(segmentation)
    sizes = [1200] * 50 + [700] + [1200] * 3 + [8900] * 9 + [1, 2, 3] + [100] * 5
    datagrams = [(bytes([number]) * size, one.address) for number, size in enumerate(sizes)]
    two.send(datagrams)
    await until(lambda: len(received) == len(sizes))
    assert [data for data, _ in received] == [data for data, _ in datagrams]
    assert {address for _, address in received} == {two.address}
    assert one.received_bytes == two.sent_bytes == sum(sizes)
    one.close()
    two.close()


async def test_a_kernel_that_cannot_segment_is_served_one_by_one(until: Until) -> None:
    one, two, received = await pair(True)
    tried: list[int] = []

    class Refusing:
        def __init__(self, real: socket.socket) -> None:
            self.real = real

        def sendmsg(self, *_: object) -> int:
            tried.append(1)
            raise OSError(errno.EIO, "no offload")

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    two._sock = Refusing(two._sock)
    two.send([(b"x" * 1000, one.address)] * 10)
    await until(lambda: len(received) == 10)
    two.send([(b"x" * 1000, one.address)] * 10)
    await until(lambda: len(received) == 20)
    assert len(tried) == 1
    two._sock = two._sock.real
    one.close()
    two.close()


async def test_a_full_socket_keeps_what_it_could_not_send(until: Until) -> None:
    one, two, received = await pair(False)

    class Full:
        def __init__(self, real: socket.socket) -> None:
            self.real = real
            self.left = 3

        def sendto(self, data: bytes, address: Any) -> int:
            self.left -= 1
            if self.left == 0:
                raise BlockingIOError
            return self.real.sendto(data, address)

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    real = two._sock
    two._sock = Full(real)
    two._loop = SimpleLoop(asyncio.get_running_loop(), real)
    two.send([(bytes([number]), one.address) for number in range(10)])
    assert two.congested
    two.send([(b"\x0a", one.address)])
    await until(lambda: len(received) == 11)
    assert [data[0] for data, _ in received] == list(range(11))
    two._sock = real
    one.close()
    two.close()


class SimpleLoop:
    """Watches the real socket in place of its stand-in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, real: socket.socket) -> None:
        self.loop = loop
        self.real = real

    def is_closed(self) -> bool:
        return False

    def add_writer(self, _sock: object, callback: Any) -> None:
        self.loop.add_writer(self.real, callback)

    def remove_writer(self, _sock: object) -> None:
        self.loop.remove_writer(self.real)

    def remove_reader(self, _sock: object) -> None:
        self.loop.remove_reader(self.real)


async def test_endpoints_work_without_segmentation(world: World) -> None:
    connection, _ = await world.pair(Settings(segmentation=False))
    payload = b"x" * 3_000_000
    assert (await connection.request(b"/x", payload)).payload == payload


async def test_endpoints_work_with_ethernets_datagrams(world: World) -> None:
    connection, _ = await world.pair(Settings(max_datagram_bytes=1452))
    payload = b"x" * 1_000_000
    assert (await connection.request(b"/x", payload)).payload == payload


async def test_ipv6_works_alike(world: World) -> None:
    try:
        server = await world.endpoint("node-1", address=("::1", 0), on_message=world.echo)
    except Exception:
        pytest.skip("no IPv6 loopback here")
    client = await world.endpoint("node-0", address=("::1", 0))
    connection = await client.connect(server.address)
    assert connection.address == server.address
    assert (await connection.request(b"/x", b"six")).payload == b"six"
    assert server.connections[0].address == client.address
