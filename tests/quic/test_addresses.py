"""Addresses are compared as addresses, however they are spelled; a server with several answers from the one dialled."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from p2pnet.quic import HandshakeFailed, Settings

if TYPE_CHECKING:
    from tests.quic.conftest import World

LOOPBACK = "::1"
LONG, PADDED, MIXED = "0:0:0:0:0:0:0:1", "::0001", "::0.0.0.1"
MIB = 1 << 20


def can_bind(host: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not can_bind(LOOPBACK), reason="no IPv6 loopback here")
needs_several = pytest.mark.skipif(not can_bind("127.0.0.2"), reason="this loopback has one address")


def link_local() -> str | None:
    """An address of this machine that means nothing without its zone, with it."""
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else []:
        digits, *_, name = line.split()
        if digits.startswith("fe80"):
            return f"{ipaddress.IPv6Address(int(digits, 16))}%{name}"
    return None


async def dialled(world: World, server_at: str, dial: str, client_at: str, **settings: Any) -> tuple[Any, Any]:
    """A connection from an endpoint at `client_at` to one at `server_at`, dialled as `dial`, and the server."""
    server = await world.endpoint(
        "node-1", address=(server_at, 0), on_message=world.echo, settings=Settings(**settings)
    )
    client = await world.endpoint("node-0", address=(client_at, 0))
    return await client.connect((dial, server.address[1])), server


async def assert_works(connection: Any) -> None:
    """Both ways, and with more than a single datagram."""
    for payload in (b"hello", b"x" * MIB):
        assert (await connection.request(b"/x", payload)).payload == payload


@needs_ipv6
@pytest.mark.parametrize(
    "spelling",
    [LOOPBACK, LONG, PADDED, MIXED],
)
async def test_any_spelling_of_an_ipv6_address_is_dialled(world: World, spelling: str) -> None:
    connection, server = await dialled(world, LOOPBACK, spelling, LOOPBACK)
    await assert_works(connection)
    assert connection.address == server.address


@needs_ipv6
async def test_two_spellings_share_one_connection(world: World) -> None:
    connection, server = await dialled(world, LOOPBACK, LOOPBACK, LOOPBACK)
    client = connection.endpoint
    for spelling in (LONG, PADDED):
        assert await client.connect((spelling, server.address[1])) is connection
    assert client.counters()["dialled_total"] == 1


@needs_ipv6
async def test_a_race_dials_an_address_once_however_it_is_spelled(world: World) -> None:
    server = await world.endpoint("node-1", address=(LOOPBACK, 0))
    client = await world.endpoint("node-0", address=(LOOPBACK, 0))
    port = server.address[1]
    connection, errors = await client.connect_any([(one, port) for one in (LOOPBACK, LONG, PADDED)])
    assert connection.address == server.address
    assert not errors
    assert client.counters()["dialled_total"] == 1
    assert len(server.connections) == 1


@pytest.mark.skipif(link_local() is None, reason="no link-local address here")
async def test_a_link_local_address_is_dialled_in_its_zone(world: World) -> None:
    connection, _ = await dialled(world, "::", str(link_local()), "::")
    await assert_works(connection)
    assert await connection.endpoint.connect(connection.address) is connection


async def test_a_name_is_dialled_at_its_address(world: World) -> None:
    connection, server = await dialled(world, "127.0.0.1", "localhost", "127.0.0.1")
    await assert_works(connection)
    assert connection.address == server.address
    assert await connection.endpoint.connect(server.address) is connection


@needs_several
@pytest.mark.parametrize("client_at", ["0.0.0.0", "127.0.0.1", "127.0.0.3"])
@pytest.mark.parametrize("dial", ["127.0.0.1", "127.0.0.2"])
async def test_a_server_on_every_address_answers_from_the_one_it_was_dialled_at(
    world: World, dial: str, client_at: str
) -> None:
    connection, server = await dialled(world, "0.0.0.0", dial, client_at)
    await assert_works(connection)
    assert connection.address == (dial, server.address[1])


@needs_several
async def test_a_server_without_segmentation_answers_from_there_too(world: World) -> None:
    connection, _ = await dialled(world, "0.0.0.0", "127.0.0.2", "127.0.0.1", segmentation=False)
    await assert_works(connection)


@needs_several
async def test_a_retry_comes_from_the_address_that_was_dialled(world: World) -> None:
    connection, server = await dialled(world, "0.0.0.0", "127.0.0.2", "127.0.0.1", initials_burst=0, initials_per_s=0.0)
    await assert_works(connection)
    assert server.counters()["retries_sent_total"] == 1


@needs_several
async def test_a_full_server_says_so_from_the_address_that_was_dialled(world: World) -> None:
    with pytest.raises(HandshakeFailed) as error:
        await dialled(world, "0.0.0.0", "127.0.0.2", "127.0.0.1", connections_max=0)
    assert error.value.kind == "too-many"


@needs_several
async def test_connections_to_each_of_its_addresses_are_kept_apart(world: World) -> None:
    server = await world.endpoint("node-1", address=("0.0.0.0", 0), on_message=world.echo)
    client = await world.endpoint("node-0", address=("0.0.0.0", 0))
    hosts = [f"127.0.0.{number}" for number in range(1, 5)]
    connections = [await client.connect((host, server.address[1])) for host in hosts]
    assert len(set(connections)) == len(hosts)
    for connection in connections:
        await assert_works(connection)
    assert [connection.address[0] for connection in connections] == hosts


@needs_ipv6
@pytest.mark.parametrize(
    "dial",
    ["::ffff:127.0.0.1", "::FFFF:7f00:1", "0:0:0:0:0:ffff:127.0.0.1"],
)
async def test_an_ipv4_server_is_dialled_from_an_endpoint_for_both_families(world: World, dial: str) -> None:
    connection, _ = await dialled(world, "127.0.0.1", dial, "::")
    await assert_works(connection)


@needs_ipv6
@needs_several
@pytest.mark.parametrize(
    ("dial", "client_at"),
    [
        (LOOPBACK, "::"),
        ("127.0.0.1", "0.0.0.0"),
        ("::ffff:127.0.0.1", "::"),
        ("127.0.0.2", "0.0.0.0"),
        ("::ffff:127.0.0.2", "::"),
    ],
)
async def test_a_server_for_both_families_answers_in_the_one_it_was_dialled_in(
    world: World, dial: str, client_at: str
) -> None:
    connection, server = await dialled(world, "::", dial, client_at)
    await assert_works(connection)
    assert connection.address[1] == server.address[1]


@needs_ipv6
async def test_an_ipv4_peer_of_a_server_for_both_families_is_found_in_its_pool(world: World) -> None:
    _, server = await dialled(world, "::", "127.0.0.1", "127.0.0.1")
    inbound = server.connections[0]
    assert await server.connect(inbound.address) is inbound
