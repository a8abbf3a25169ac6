"""Real paths, in network namespaces: every MTU without a fragment, paths that shrink, addresses that change."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S
from tests.quic.namespaces import REQUIRED, Namespace, Row, why_none

from p2pnet.quic import Endpoint, HandshakeFailed

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

MIB = 1 << 20
BASE = 1_200
FOUND_S = PATIENCE_S
"""For a search to end, or a timer of a few seconds to do its work: far above what it takes on an idle machine."""
LIMIT = "40mbit"
"""Where something must happen in the middle of a transfer: 8 MiB take two seconds."""

Rows = Callable[..., Row]


@pytest.fixture(scope="session")
def able() -> None:
    """A machine that has namespaces; skips, or fails where they are required."""
    why = why_none("tc", "iptables", "ip6tables")
    if why and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but {why}")
    if why:
        pytest.skip(why)


@pytest.fixture
def rows(able: None) -> Iterator[Rows]:
    """Makes rows of namespaces by the MTUs of their links, and lets go of them afterwards."""
    with contextlib.ExitStack() as stack:
        yield lambda *mtus: stack.enter_context(contextlib.closing(Row(mtus)))


async def serve(world: World, row: Row, host: str, **options: Any) -> Endpoint:
    """An endpoint at the right end, on this address: it echoes."""
    options.setdefault("on_message", world.echo)
    return await world.endpoint("node-1", sock=row.server.socket(host), **options)


async def dialer(world: World, row: Row, host: str, **options: Any) -> Endpoint:
    """An endpoint at the left end, on this address: it echoes too."""
    options.setdefault("on_message", world.echo)
    return await world.endpoint("node-0", sock=row.client.socket(host), **options)


async def ends(world: World, row: Row, *, version: int = 4) -> tuple[Any, Any]:
    """Both ends of a connection along the whole row, dialer's first."""
    server = await serve(world, row, row.host(row.server, version=version))
    client = await dialer(world, row, row.host(row.client, version=version))
    connection = await client.connect(server.address)
    return connection, server.connections[0]


async def echoed(connection: Any, size: int) -> None:
    """So many bytes move, there and back, unharmed."""
    payload = os.urandom(size)
    reply = await connection.request(b"/echo", payload, timeout_s=60)
    assert hashlib.sha256(reply.payload).digest() == hashlib.sha256(payload).digest()


async def found(until: Until, mtu: int, *connections: Any) -> None:
    """The search ends at this size."""
    sizes = lambda: [int(one.counters()["mtu_bytes"]) for one in connections]  # noqa: E731
    with contextlib.suppress(AssertionError):
        await until(lambda: sizes() == [mtu] * len(connections), FOUND_S)
    assert sizes() == [mtu] * len(connections)


def slow(namespace: Namespace, interface: str = "right") -> None:
    """Let only LIMIT out of this interface."""
    namespace.sh(f"tc qdisc add dev {interface} root tbf rate {LIMIT} burst 64kb latency 200ms")


async def in_the_middle(until: Until, sender: Any, moving: Awaitable[Any], happens: Callable[[], None]) -> Any:
    """Let this happen when the sender has sent about a quarter of 8 MiB, and wait for the end."""
    task = asyncio.ensure_future(moving)
    before = sender.endpoint.sent_bytes
    await until(lambda: sender.endpoint.sent_bytes - before > 2 * MIB, FOUND_S)
    assert not task.done()
    happens()
    return await asyncio.wait_for(task, PATIENCE_S)


# The harness


async def test_the_counters_see_a_fragment_where_there_is_one(rows: Rows) -> None:
    row = rows(1_500, 1_400, 1_500)
    sender, receiver = (end.socket(row.host(end)) for end in (row.client, row.server))
    with sender, receiver:
        receiver.setblocking(False)
        before = row.fragments()
        sender.setsockopt(0, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT: fragments are welcome
        sender.sendto(bytes(1_472), receiver.getsockname())
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(receiver, 2_000), FOUND_S)
        made = {name: count - before[name] for name, count in row.fragments().items() if count != before[name]}
        assert made == {"IpFragOKs": 1, "IpFragCreates": 2, "IpReasmReqds": 2, "IpReasmOKs": 1}


# Every MTU


@pytest.mark.parametrize(
    ("link", "version", "mtu"),
    [
        (1_228, 4, 1_200),
        (1_280, 4, 1_252),
        (1_280, 6, 1_232),
        (1_400, 4, 1_372),
        (1_400, 6, 1_352),
        (1_450, 4, 1_422),
        (1_450, 6, 1_402),
        (1_500, 4, 1_472),
        (1_500, 6, 1_452),
        (9_000, 4, 8_900),
        (9_000, 6, 8_900),
    ],
)
async def test_an_interface_is_filled_and_not_one_fragment_is_made(
    world: World, rows: Rows, until: Until, link: int, version: int, mtu: int
) -> None:
    row = rows(link)
    connection, served = await ends(world, row, version=version)
    await echoed(connection, 4 * MIB)
    await found(until, mtu, connection, served)
    await echoed(connection, MIB)
    assert not any(row.fragments().values())


@pytest.mark.parametrize("icmp", ["told by ICMP", "told by nobody"])
@pytest.mark.parametrize(("link", "version", "mtu"), [(1_228, 4, 1_200), (1_400, 4, 1_372), (1_450, 6, 1_402)])
async def test_a_narrow_link_further_on_is_found(
    world: World, rows: Rows, until: Until, link: int, version: int, mtu: int, icmp: str
) -> None:
    row = rows(1_500, link, 1_500)
    if icmp == "told by nobody":
        row.hide_icmp()
    connection, served = await ends(world, row, version=version)
    await echoed(connection, 4 * MIB)
    await found(until, mtu, connection, served)
    assert not any(row.fragments().values())


async def test_jumbo_ends_find_the_narrow_link_between_them(world: World, rows: Rows, until: Until) -> None:
    row = rows(9_000, 1_500, 9_000)
    row.hide_icmp()
    connection, served = await ends(world, row)
    await echoed(connection, 4 * MIB)
    await found(until, 1_472, connection, served)
    assert not any(row.fragments().values())


async def test_a_path_below_quics_least_fails_the_dial_and_makes_no_fragment(world: World, rows: Rows) -> None:
    row = rows(1_200)
    server = await serve(world, row, row.host(row.server))
    client = await dialer(world, row, row.host(row.client))
    with pytest.raises(HandshakeFailed):
        await client.connect(server.address, timeout_s=2)
    assert not any(row.fragments().values())


@pytest.mark.parametrize("link", [1_228, 1_400, 1_500, 9_000])
async def test_datagrams_leave_in_runs_whatever_the_mtu(world: World, rows: Rows, until: Until, link: int) -> None:
    connection, served = await ends(world, rows(link))
    await found(until, min(link - 28, 8_900), connection, served)
    for end in (connection, served):
        calls = end.endpoint.counters()["send_calls_total"]
        packets = end.counters()["sent_packets_total"]
        await end.send(b"/much", b"", bytes(8 * MIB))
        calls = end.endpoint.counters()["send_calls_total"] - calls
        packets = end.counters()["sent_packets_total"] - packets
        assert packets > 8 * MIB / 9_000
        assert calls < packets / 3


# Paths that shrink


@pytest.mark.parametrize("version", [4, 6])
async def test_a_path_that_shrinks_and_tells_nobody_is_survived(
    world: World, rows: Rows, until: Until, version: int
) -> None:
    row = rows(1_500, 1_500, 1_500)
    row.hide_icmp()
    connection, served = await ends(world, row, version=version)
    full = 1_472 if version == 4 else 1_452
    await found(until, full, connection, served)
    row.set_mtu(1, 1_300)
    async with asyncio.timeout(FOUND_S):
        await connection.send(b"/there", b"", bytes(20_000))
        await served.send(b"/back", b"", bytes(20_000))
        await echoed(connection, MIB)
    least = 1_300 - (28 if version == 4 else 48) - 20  # what the search may leave unused
    await until(lambda: all(least < one.counters()["mtu_bytes"] < 1_300 for one in (connection, served)), FOUND_S)
    assert not connection.closed
    assert not any(row.fragments().values())


async def test_a_path_that_shrinks_in_the_middle_of_a_transfer_delays_it_only(
    world: World, rows: Rows, until: Until
) -> None:
    row = rows(1_500, 1_500, 1_500)
    row.hide_icmp()
    slow(row.client)
    connection, served = await ends(world, row)
    sending = connection.send(b"/much", b"", bytes(8 * MIB))
    await in_the_middle(until, connection, sending, lambda: row.set_mtu(1, 1_300))
    assert connection.counters()["mtu_bytes"] <= 1_272
    assert not served.closed
    assert not any(row.fragments().values())


async def test_an_interface_whose_mtu_is_lowered_is_followed_at_once(world: World, rows: Rows, until: Until) -> None:
    row = rows(1_500)
    connection, served = await ends(world, row)
    await found(until, 1_472, connection, served)
    row.set_mtu(0, 1_400)
    async with asyncio.timeout(FOUND_S):
        await echoed(connection, MIB)
    await found(until, 1_372, connection, served)
    assert not any(row.fragments().values())


# Addresses


SPELLINGS = ["fd77:0:0:0:0:0:0:2", "fd77::0002", "FD77::2", "fd77:0::0:2", "fd77:0000:0000:0000:0000:0000:0.0.0.2"]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_an_ipv6_address_may_be_spelled_in_any_way(world: World, rows: Rows, spelling: str) -> None:
    row = rows(1_500)
    server = await serve(world, row, "fd77::2")
    client = await dialer(world, row, "fd77::1")
    connection = await client.connect((spelling, server.address[1]), timeout_s=PATIENCE_S)
    assert (await connection.request(b"/x", b"six")).payload == b"six"
    assert await client.connect(server.address) is connection


@pytest.mark.parametrize("listens_on", ["fe80", "::"])
async def test_a_link_local_address_with_its_zone_is_dialled(world: World, rows: Rows, listens_on: str) -> None:
    row = rows(1_500)
    local = row.server.link_local("left")
    server = await serve(world, row, f"{local}%left" if listens_on == "fe80" else "::")

    async def dial() -> bytes:
        trust = world.trust(world.identity("node-0"))
        async with await Endpoint.bind(("::", 0), trust=trust) as client:
            connection = await client.connect((f"{local}%right", server.address[1]), timeout_s=PATIENCE_S)
            return bytes((await connection.request(b"/x", b"near")).payload)

    # Inside whole: only there has the zone a meaning.
    assert await asyncio.to_thread(row.client.inside, lambda: asyncio.run(dial())) == b"near"


async def test_the_same_link_local_address_in_two_zones_is_two_peers(world: World, rows: Rows) -> None:
    row = rows(1_500, 1_500)
    middle, (left, right) = row.namespaces[1], (row.client, row.server)
    left.ip("address add fe80::77/64 dev right nodad")
    right.ip("address add fe80::77/64 dev left nodad")
    port = 20_777
    for name, end, interface in (("node-1", left, "right"), ("node-2", right, "left")):
        await world.endpoint(name, sock=end.socket(f"fe80::77%{interface}", port), on_message=world.echo)

    async def dial() -> list[str | None]:
        trust = world.trust(world.identity("node-0"))
        async with await Endpoint.bind(("::", 0), trust=trust) as client:
            return [
                (await client.connect((f"fe80::77%{zone}", port), timeout_s=PATIENCE_S)).uri
                for zone in ("left", "right")
            ]

    uris = await asyncio.to_thread(middle.inside, lambda: asyncio.run(dial()))
    assert uris == [world.uri("node-1"), world.uri("node-2")]


@pytest.mark.parametrize(
    ("listens_on", "second"),
    [("0.0.0.0", "10.77.0.3"), ("::", "fd77::3"), ("::", "10.77.0.3")],
    ids=["IPv4", "IPv6", "IPv4 on an IPv6 socket"],
)
async def test_a_server_on_every_address_answers_from_the_one_it_was_spoken_to(
    world: World, rows: Rows, listens_on: str, second: str
) -> None:
    row = rows(1_500)
    row.server.ip("address add 10.77.0.3/24 dev left", "address add fd77::3/64 dev left nodad")
    server = await serve(world, row, listens_on)
    version = 6 if ":" in second else 4
    client = await dialer(world, row, row.host(row.client, version=version))
    port = server.address[1]
    for host in (second, row.host(row.server, version=version)):
        connection = await client.connect((host, port), timeout_s=PATIENCE_S)
        assert connection.address == (host, port)
        await echoed(connection, MIB)
    assert len(server.connections) == 2


# Rebinding


def through_nat(rows: Rows) -> Row:
    """A row whose router gives the client an address and a port of its own, and a new one at `rebind`."""
    row = rows(1_500, 1_500)
    router = row.namespaces[1]
    router.sh("iptables -t nat -A POSTROUTING -o right -p udp -j MASQUERADE --to-ports 40000-60000 --random")
    return row


def rebind(row: Row) -> None:
    """Masquerading forgets every mapping when its address goes away."""
    row.namespaces[1].ip("address del 10.77.1.1/24 dev right", "address add 10.77.1.9/24 dev right")


@pytest.mark.parametrize("direction", ["there", "back"])
async def test_a_nat_that_rebinds_in_the_middle_of_a_transfer_is_followed(
    world: World, rows: Rows, until: Until, direction: str
) -> None:
    row = through_nat(rows)
    slow(row.client)
    slow(row.server, "left")
    connection, served = await ends(world, row)
    mapped = served.address
    assert mapped[0] == "10.77.1.1"
    payload = os.urandom(8 * MIB)
    sender = connection if direction == "there" else served
    await in_the_middle(until, sender, sender.send(b"/much", b"", payload), lambda: rebind(row))
    await until(lambda: world.received)
    assert [message.payload for message in world.received] == [payload]
    assert served.address[0] == "10.77.1.9"
    assert served.address != mapped
    assert not connection.closed
    assert await served.endpoint.connect(served.address) is served


async def test_a_client_whose_own_address_changes_keeps_its_connection(world: World, rows: Rows, until: Until) -> None:
    row = rows(1_500)
    slow(row.client)
    server = await serve(world, row, row.host(row.server))
    client = await dialer(world, row, "0.0.0.0")
    connection = await client.connect(server.address)
    served = server.connections[0]
    assert served.address[0] == "10.77.0.1"

    def moves() -> None:
        row.client.ip("address del 10.77.0.1/24 dev right", "address add 10.77.0.7/24 dev right")

    await in_the_middle(until, connection, connection.send(b"/much", b"", bytes(8 * MIB)), moves)
    await echoed(connection, MIB)
    assert served.address[0] == "10.77.0.7"
    assert not connection.closed
