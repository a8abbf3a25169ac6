"""Load: however many messages at once, every one comes exactly once and whole, and memory stays bounded.

The numbers are those of qp2p's own load tests. What takes too long for every run is a sample of them, and whole in `make soak`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import os
import random
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.quic.relay import Relay

from p2pnet.quic import Connection, Endpoint, Message, Settings

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

KIB, MIB = 1 << 10, 1 << 20
SMALL_BYTES = 16 * KIB
whole = [pytest.mark.soak, pytest.mark.timeout(1_800)]


@functools.cache
def noise(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def different(sender: int, number: int, size: int) -> list[bytes]:
    """A payload nobody else sends; all but its head is shared, so that a thousand of them weigh little here."""
    head = sender.to_bytes(4, "big") + number.to_bytes(4, "big")
    return [head, noise(number % 8, size - len(head))]


def digest(payload: bytes | Sequence[bytes]) -> bytes:
    pieces = [payload] if isinstance(payload, bytes) else payload
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.digest()


class Hasher:
    """A server's handler: answers every message with its hash, on the reply stream or else on a stream of its own."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._before = self._process.memory_info().rss
        self.growth_bytes = 0
        """The most memory the process had, above what it had at first."""
        self.held_bytes = 0.0
        """The most that one connection held."""
        self.failed: list[Exception] = []
        self.taken = 0

    def __call__(self, connection: Connection, message: Message) -> None:
        self.taken += 1
        if self.taken % 16 == 0:
            self.growth_bytes = max(self.growth_bytes, self._process.memory_info().rss - self._before)
        if hasattr(connection, "counters"):
            self.held_bytes = max(self.held_bytes, connection.counters()["held_bytes"])
        if message.wants_reply:
            message.reply(digest(message.payload))
        else:
            connection.start_send(b"hash", b"", digest(message.payload), self._sent)

    def _sent(self, result: Message | Exception) -> None:
        if isinstance(result, Exception):
            self.failed.append(result)


async def clients(world: World, server: Endpoint, count: int) -> list[Any]:
    """Connections to the server, each from an endpoint of its own; they keep what they get."""
    connections = []
    for _ in range(count):
        endpoint = await world.endpoint("node-0", on_message=world.echo)
        connections.append(await endpoint.connect(server.address))
    return connections


async def send_all(
    world: World, until: Until, *, senders: int, count: int, size: int, settings: Settings | None = None
) -> Hasher:
    """Everybody sends everything at once, on unidirectional streams; asserts that every hash came back exactly once."""
    hasher = Hasher()
    server = await world.endpoint("node-1", on_message=hasher, settings=settings)
    connections = await clients(world, server, senders)
    expected: Counter[tuple[int, bytes]] = Counter()
    sends = []
    for sender, connection in enumerate(connections):
        for number in range(count):
            payload = different(sender, number, size)
            expected[connection.id, digest(payload)] += 1
            sends.append(connection.send(b"", b"", payload))
    assert set(expected.values()) == {1}
    await asyncio.gather(*sends)
    await until(lambda: len(world.received) >= len(sends))
    await asyncio.sleep(0.05)  # for duplicates, if there were any
    assert Counter((one.connection.id, one.payload) for one in world.received) == expected
    assert hasher.taken == len(sends)
    assert not hasher.failed
    return hasher


async def ask_all(world: World, *, senders: int, count: int, size: int, settings: Settings | None = None) -> Hasher:
    """As `send_all`, on bidirectional streams."""
    hasher = Hasher()
    server = await world.endpoint("node-1", on_message=hasher, settings=settings)

    async def ask(connection: Any, payload: list[bytes]) -> None:
        reply = await connection.request(b"", payload, timeout_s=600)
        assert reply.payload == digest(payload)

    connections = await clients(world, server, senders)
    await asyncio.gather(
        *(
            ask(connection, different(sender, number, size))
            for sender, connection in enumerate(connections)
            for number in range(count)
        )
    )
    assert hasher.taken == senders * count
    return hasher


async def test_a_hundred_peers_send_a_hundred_messages_each(world: World, until: Until) -> None:
    hasher = await send_all(world, until, senders=100, count=100, size=200)
    assert hasher.growth_bytes < 200 * MIB  # a task for each send is most of it


async def test_ten_thousand_tiny_messages_on_one_connection_come_once_each(world: World, until: Until) -> None:
    hasher = await send_all(world, until, senders=1, count=10_000, size=8)
    assert hasher.growth_bytes < 200 * MIB


@pytest.mark.parametrize("count", [5, pytest.param(100, marks=whole)])
async def test_ten_peers_send_large_messages_at_once(world: World, until: Until, count: int) -> None:
    await send_all(world, until, senders=10, count=count, size=MIB)


@pytest.mark.parametrize("count", [5, pytest.param(100, marks=whole)])
async def test_ten_peers_ask_with_large_messages_at_once(world: World, count: int) -> None:
    await ask_all(world, senders=10, count=count, size=MIB)


@pytest.mark.parametrize("bi", [False, True], ids=["uni", "bi"])
async def test_under_load_a_connection_holds_no_more_than_its_window_and_a_message(
    world: World, until: Until, bi: bool
) -> None:
    settings = Settings(connection_window_bytes=2 * MIB)
    load: dict[str, Any] = {"senders": 4, "count": 20, "size": MIB, "settings": settings}
    hasher = await ask_all(world, **load) if bi else await send_all(world, until, **load)
    assert 0 < hasher.held_bytes <= settings.connection_window_bytes + MIB + KIB


@pytest.mark.parametrize("bi", [False, True], ids=["uni", "bi"])
@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_a_thousand_large_messages_from_ten_peers_hold_little_memory(
    world: World, until: Until, bi: bool
) -> None:
    load: dict[str, Any] = {"senders": 10, "count": 100, "size": MIB}
    hasher = await ask_all(world, **load) if bi else await send_all(world, until, **load)
    assert 0 < hasher.held_bytes <= Settings().connection_window_bytes + MIB + KIB
    assert hasher.growth_bytes < 10 * (Settings().connection_window_bytes + MIB) + 200 * MIB


# Priority


async def test_on_a_narrow_path_the_message_of_higher_priority_ends_first(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint()
    with Relay(server.address, bytes_per_s=4 * MIB, queue_bytes=64 * KIB) as path:
        connection = await client.connect(path.address)
        ended: list[int] = []
        sends = []

        def note(priority: int, _send: object) -> None:
            ended.append(priority)

        for priority, size in [(0, MIB), (5, 256 * KIB), (10, KIB)]:
            send = asyncio.ensure_future(connection.send(b"", b"", noise(priority, size), priority=priority))
            send.add_done_callback(functools.partial(note, priority))
            sends.append(send)
            await asyncio.sleep(0)  # the larger one is on its way
        await asyncio.gather(*sends)
    assert ended == [10, 5, 0]
    assert [len(one.payload) for one in world.received] == [KIB, 256 * KIB, MIB]


async def test_requests_in_line_end_in_the_order_in_which_they_began(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint()
    sizes = [256 * KIB, 128 * KIB, 64 * KIB]
    for in_line in (True, False):
        world.received.clear()
        with Relay(server.address, bytes_per_s=4 * MIB, queue_bytes=4 * MIB) as path:
            connection = await client.connect(path.address)
            answered: list[asyncio.Future[object]] = []
            for number, size in enumerate(sizes):
                answered.append(asyncio.get_running_loop().create_future())
                connection.start_request(b"", noise(number, size), answered[-1].set_result, in_line=in_line)
            await asyncio.gather(*answered)
        # Those that take turns end in the order of their sizes.
        assert [len(one.payload) for one in world.received] == (sizes if in_line else sizes[::-1])


async def test_a_priority_given_to_a_stream_counts_alike(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint()
    with Relay(server.address, bytes_per_s=4 * MIB, queue_bytes=64 * KIB) as path:
        connection = await client.connect(path.address)
        streams = []
        for priority, size in [(-1, MIB), (1, KIB)]:
            stream = connection.open_uni()
            stream.set_priority(priority)
            await stream.send_user_msg(b"", b"", noise(1, size))
            streams.append(stream)
        await asyncio.gather(*(stream.finish() for stream in streams))
    assert [len(one.payload) for one in world.received] == [KIB, MIB]


# Full meshes


class Mesh:
    """Nodes that are all connected; each sends every other one a large message, then a small one, tagged with their sums."""

    def __init__(self, world: World, large_bytes: int) -> None:
        self.world = world
        self.large_bytes = large_bytes
        self.nodes: list[Endpoint] = []
        self.links: dict[tuple[int, int], Any] = {}
        self.arrived: dict[bytes, list[int]] = {}  # "from>to" -> sizes, in the order they came
        self.broken: list[Message] = []

    async def connect(
        self, count: int, paths: dict[tuple[int, int], Relay] | None = None, settings: Settings | None = None
    ) -> None:
        """Everybody with everybody, the lower number dials; through relays, put into `paths`, if it is given."""
        for number in range(count):
            self.nodes.append(await self.world.endpoint(f"node-{number}", on_message=self._take, settings=settings))
        for pair in itertools.combinations(range(count), 2):
            address = self.nodes[pair[1]].address
            if paths is not None:
                paths[pair] = Relay(address)
                address = paths[pair].address
            self.links[pair] = await self.nodes[pair[0]].connect(address)
            self.links[pair[::-1]] = next(
                one for one in self.nodes[pair[1]].connections if one.uri == self.world.uri(f"node-{pair[0]}")
            )

    async def exchange(self) -> None:
        """Everything at once."""
        sends = []
        for (one, other), link in self.links.items():
            for size in (self.large_bytes, SMALL_BYTES):
                data = noise(one, size)
                tagged = [data, zlib.crc32(data).to_bytes(4, "big")]
                sends.append(link.send(b"", b"%d>%d" % (one, other), tagged))
        await asyncio.gather(*sends)

    def assert_whole(self, *, small_first: bool) -> None:
        """Each message came once, unbroken; `small_first`: and no small one waited for a large one."""
        assert not self.broken
        assert len(self.arrived) == len(self.links)
        sizes = [SMALL_BYTES, self.large_bytes]
        for names, came in self.arrived.items():
            assert (came if small_first else sorted(came)) == sizes, names

    def _take(self, _connection: Connection, message: Message) -> None:
        data, tag = message.payload[:-4], message.payload[-4:]
        if zlib.crc32(data).to_bytes(4, "big") != tag:
            self.broken.append(message)
        self.arrived.setdefault(message.dst, []).append(len(data))


@pytest.mark.parametrize(
    ("count", "large_bytes"), [(4, 2 * MIB), pytest.param(8, 20 * MIB, marks=whole)], ids=["sample", "whole"]
)
async def test_in_a_full_mesh_every_small_message_comes_before_the_large_one_sent_before_it(
    world: World, count: int, large_bytes: int
) -> None:
    mesh = Mesh(world, large_bytes)
    await mesh.connect(count)
    await mesh.exchange()
    mesh.assert_whole(small_first=True)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=whole) for seed in range(2, 12))])
async def test_a_full_mesh_survives_loss_delay_a_partition_and_new_ports(world: World, until: Until, seed: int) -> None:
    rng = random.Random(seed)

    def lossy(_data: bytes, _to_server: bool) -> bool:
        return rng.random() < 0.02

    paths: dict[tuple[int, int], Relay] = {}
    mesh = Mesh(world, MIB)
    # After a change of port an acceptor is heard again once the dialer has sent: with its next ping at the latest.
    await mesh.connect(4, paths, Settings(idle_s=6.0))
    with contextlib.ExitStack() as stack:
        for path in paths.values():
            stack.enter_context(path)
            path.delay_s = 0.002
            path.drop = lossy
        exchange = asyncio.ensure_future(mesh.exchange())
        await until(lambda: len(mesh.arrived) >= 4)
        for pair, path in paths.items():
            if 0 in pair:
                path.drop = lambda _data, _to_server: True
            path.rebind()
        await asyncio.sleep(0.3)
        for path in paths.values():
            path.drop = lossy
        await exchange
    mesh.assert_whole(small_first=False)
