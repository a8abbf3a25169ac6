"""Echo, reachability, dial-back, and the bootstrap cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from p2pnet.quic import BootstrapCache, Endpoint, FrameError, HandshakeFailed, Reachability, StreamLost

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World


async def two(world: World) -> tuple[Reachability, Reachability, Endpoint, Endpoint]:
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint("node-0", on_message=world.echo)
    return Reachability(server), Reachability(client), server, client


async def test_a_peer_tells_the_address_it_sees(world: World) -> None:
    _, reach, server, client = await two(world)
    connection = await client.connect(server.address)
    assert await reach.seen_address(connection) == client.address
    assert (await connection.request(b"/x", b"others are served too")).payload == b"others are served too"


async def test_reachability_is_proved_by_a_fresh_dial(world: World, until: Until) -> None:
    _, reach, server, client = await two(world)
    await client.connect(server.address)
    await reach.is_reachable(server.address)
    assert client.counters()["dialled_total"] == 2
    with pytest.raises(HandshakeFailed):
        await reach.is_reachable(("127.0.0.1", 9), timeout_s=0.1)
    await until(lambda: len(server.connections) == 1)


async def test_a_junk_echo_proves_nothing(world: World) -> None:
    server = await world.endpoint("node-1", on_message=lambda _connection, message: message.reply(b"junk"))
    reach = Reachability(await world.endpoint("node-0"))
    with pytest.raises(FrameError):
        await reach.is_reachable(server.address)


async def test_a_dial_back_comes_from_another_socket_and_not_often(world: World) -> None:
    _, reach, server, client = await two(world)
    connection = await client.connect(server.address)
    seen = []
    client.on_connection = lambda inbound: seen.append(inbound.address)
    assert await reach.dial_back(connection, client.address[1])
    assert seen
    assert seen[0] != server.address
    with pytest.raises(StreamLost):
        await reach.dial_back(connection, client.address[1])


async def test_configured_parts_beat_seen_ones(world: World, caplog: pytest.LogCaptureFixture) -> None:
    reach = Reachability(await world.endpoint())
    assert reach.public_address(("9.9.9.9", 5), external_ip="1.2.3.4") == ("1.2.3.4", 5)
    assert reach.public_address(("9.9.9.9", 5), external_port=7) == ("9.9.9.9", 7)
    assert reach.public_address(None)[0] == "127.0.0.1"
    assert [record.getMessage() for record in caplog.records] == [
        "configured as 1.2.3.4:5, but a peer sees 9.9.9.9:5",
        "configured as 9.9.9.9:7, but a peer sees 9.9.9.9:5",
    ]


def test_addresses_are_written_after_ten_and_kept_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "contacts.json"
    contacts = BootstrapCache(path, fixed=[("10.0.0.1", 1)])
    for port in range(1, 10):
        contacts.reached(("127.0.0.1", port))
    assert not path.exists()
    contacts.reached(("127.0.0.1", 10))
    contacts.reached(("127.0.0.1", 3))
    contacts.reached(("10.0.0.1", 1))
    assert contacts.addresses()[0] == ("127.0.0.1", 3)
    assert contacts.addresses()[-1] == ("10.0.0.1", 1)
    contacts.write()
    assert BootstrapCache(path).addresses()[:2] == [("127.0.0.1", 3), ("127.0.0.1", 10)]
    assert ("10.0.0.1", 1) not in BootstrapCache(path).addresses()


def test_addresses_are_at_most_two_hundred(tmp_path: Path) -> None:
    contacts = BootstrapCache(tmp_path / "c")
    for port in range(1, 301):
        contacts.reached(("127.0.0.1", port))
    assert len(contacts.addresses()) == 200
    assert contacts.addresses()[0] == ("127.0.0.1", 300)


@pytest.mark.parametrize("damage", [b"", b"{", b"7", b'["x", [1], ["h", "p"], ["ok", 1]]', b"\xff\xfe"])
def test_a_damaged_file_of_addresses_is_tolerated(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(damage)
    assert BootstrapCache(path).addresses() in ([], [("ok", 1)])
