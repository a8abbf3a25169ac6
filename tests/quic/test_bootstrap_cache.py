"""The bootstrap cache: how addresses are kept, and how a node joins the network by them, at the start and after a partition."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.patience import PATIENCE_S
from tests.quic.conftest import World

from p2pnet.quic import BootstrapCache, Endpoint, EndpointClosed, FixedIdentity, HandshakeFailed, Retry, Trust
from p2pnet.quic.bootstrap_cache import ADDRESSES_MAX, FILE_BYTES_MAX, RACE_MAX
from p2pnet.quic.memory import MemoryNetwork, run_virtual

if TYPE_CHECKING:
    from tests.quic.conftest import Until

DEAD = [("127.0.0.1", port) for port in range(9, 14)]


# The file


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"7",
        b"null",
        b'{"ok": 1}',
        b"\xff\xfe",
        b"[" * 50_000,
        b"\x00" * 100,
        b'[["cut", 1], ["of',
        b"1" * 5_000,
        b'[["big", 1]' + b" " * FILE_BYTES_MAX + b"]",
    ],
    ids=lambda damage: repr(damage[:12]),
)
def test_a_damaged_file_is_an_empty_cache_and_is_mended_by_the_next_write(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "cache"
    path.write_bytes(damage)
    cache = BootstrapCache(path)
    assert cache.addresses() == []
    cache.reached(("127.0.0.1", 1))
    cache.write()
    assert BootstrapCache(path).addresses() == [("127.0.0.1", 1)]


@pytest.mark.parametrize(
    "nonsense",
    [
        "x",
        None,
        7,
        [],
        ["h"],
        ["h", "1"],
        ["h", 1, 2],
        ["h", 0],
        ["h", -1],
        ["h", 65_536],
        ["h", 10**30],
        ["h", 4.0],
        ["h", True],
        ["h", None],
        [7, 7],
        ["", 7],
        ["a b", 7],
        ["a\n", 7],
        ["a\u0000", 7],
        ["\ud800", 7],
        ["h\u00e4", 7],
        ["h" * 254, 7],
        [["h"], 7],
        {"h": 7},
    ],
    ids=repr,
)
def test_an_entry_that_is_no_address_is_dropped_and_the_others_kept(tmp_path: Path, nonsense: Any) -> None:
    path = tmp_path / "cache"
    path.write_text(json.dumps([["10.0.0.1", 1], nonsense, ["::1", 65_535]]))
    assert BootstrapCache(path).addresses() == [("::1", 65_535), ("10.0.0.1", 1)]


@given(
    data=st.binary(max_size=300)
    | st.lists(st.lists(st.text() | st.integers() | st.booleans() | st.none(), max_size=3)).map(
        lambda entries: json.dumps(entries).encode()
    )
)
def test_whatever_is_in_the_file_what_is_read_can_be_dialled(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "cache"
    path.write_bytes(data)
    for host, port in BootstrapCache(path).addresses():
        assert isinstance(host, str)
        assert host
        assert 0 < port < 65_536


def test_two_spellings_of_an_address_are_one_entry(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_text(json.dumps([["0:0:0:0:0:0:0:1", 1], ["Seed.Example", 1], ["::0001", 1]]))
    cache = BootstrapCache(path, fixed=[("fd00::0:1", 2), ("FD00::1", 2)])
    assert cache.addresses() == [("seed.example", 1), ("::1", 1), ("fd00::1", 2)]
    cache.reached(("::0:1", 1))
    cache.reached(("fd00:0::1", 2))
    assert cache.addresses() == [("::1", 1), ("seed.example", 1), ("fd00::1", 2)]


def test_the_newest_two_hundred_of_a_longer_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_text(json.dumps([["10.0.0.1", port] for port in range(1, 1_001)]))
    ports = [port for _, port in BootstrapCache(path).addresses()]
    assert ports == list(range(1_000, 800, -1))


@pytest.mark.parametrize("kind", ["directory", "below a file", "pipe", "device"])
def test_a_path_that_is_no_file_is_an_empty_cache(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cache"
    if kind == "directory":
        path.mkdir()
        (path / "full").touch()
    elif kind == "below a file":
        path.touch()
        path = path / "cache"
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    cache = BootstrapCache(path)
    assert cache.addresses() == []
    if kind in ("pipe", "device"):
        return
    for port in range(1, 11):
        cache.reached(("127.0.0.1", port))
    assert "cannot be written" in caplog.text
    assert len(cache.addresses()) == 10
    with pytest.raises(OSError):
        cache.write()
    assert [one.name for one in tmp_path.iterdir()] == ["cache"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_one_may_not_read_is_an_empty_cache(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    assert BootstrapCache(folder / "cache").addresses() == []


WRITER = """
import pathlib, sys
from p2pnet.quic import BootstrapCache
cache = BootstrapCache(pathlib.Path(sys.argv[1]))
for port in range(1, 301):
    cache.reached((sys.argv[2], port))
    cache.write()
"""


def test_two_processes_that_write_at_once_leave_one_whole_list(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, host]) for host in ("10.0.0.1", "10.0.0.2")]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            entries = json.loads(path.read_bytes())
            assert 0 < len(entries) <= ADDRESSES_MAX
            seen += 1
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen
    assert len(BootstrapCache(path).addresses()) == ADDRESSES_MAX
    assert [one.name for one in tmp_path.iterdir()] == ["cache"]


# At the start


class Dialler:
    """Answers for the addresses that are alive; notes every race."""

    def __init__(self, *alive: Any, address: Any = ("10.9.9.9", 1)) -> None:
        self.address = address
        self.alive = alive
        self.races: list[list[Any]] = []
        self.options: dict[str, Any] = {}

    async def connect_any(self, addresses: Any, **options: Any) -> Any:
        self.races.append(list(addresses))
        self.options = options
        for address in self.races[-1]:
            if address in self.alive:
                return Connected(address), {}
        raise ExceptionGroup("none", [HandshakeFailed("timeout", str(one)) for one in self.races[-1]])


class Connected:
    def __init__(self, address: Any) -> None:
        self.address = address


def cache_of(path: Path, count: int, fixed: int = 0) -> BootstrapCache:
    cache = BootstrapCache(path / "cache", [("10.0.1.1", port) for port in range(1, fixed + 1)])
    for port in range(1, count + 1):
        cache.reached(("10.0.0.1", port))
    return cache


async def test_the_cache_is_tried_newest_first_and_the_fixed_addresses_last(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 3, fixed=2)
    dialler = Dialler(("10.0.0.1", 2))
    connection = await cache.bootstrap(dialler, expect="spiffe://x", timeout_s=3)
    assert dialler.races == [[("10.0.0.1", 3), ("10.0.0.1", 2), ("10.0.0.1", 1), ("10.0.1.1", 1), ("10.0.1.1", 2)]]
    assert dialler.options == {"expect": "spiffe://x", "new": False, "timeout_s": 3}
    assert connection.address == ("10.0.0.1", 2)
    assert cache.addresses()[:3] == [("10.0.0.1", 2), ("10.0.0.1", 3), ("10.0.0.1", 1)]


async def test_many_addresses_race_a_few_at_a_time_and_the_fixed_ones_in_the_first_race(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 100, fixed=2)
    dialler = Dialler()
    with pytest.raises(ExceptionGroup) as failed:
        await cache.bootstrap(dialler)
    assert len(failed.value.exceptions) == 102
    assert [len(one) for one in dialler.races] == [RACE_MAX + 2, RACE_MAX, RACE_MAX, 100 - 3 * RACE_MAX]
    assert ("10.0.1.1", 1) in dialler.races[0]
    tried = [one for race in dialler.races for one in race]
    assert sorted(tried) == sorted(cache.addresses())


async def test_without_an_address_there_is_nothing_to_bootstrap_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no address"):
        await cache_of(tmp_path, 0).bootstrap(Dialler())
    itself = cache_of(tmp_path, 1, fixed=1)
    with pytest.raises(ValueError, match="no address"):
        await BootstrapCache(tmp_path / "x", [("10.0.1.1", 1)]).bootstrap(Dialler(address=("10.0.1.1", 1)))
    dialler = Dialler(address=("10.0.0.1", 1))
    with pytest.raises(ExceptionGroup):
        await itself.bootstrap(dialler)
    assert dialler.races == [[("10.0.1.1", 1)]]


async def test_an_address_reached_by_its_name_is_not_cached_by_its_number(tmp_path: Path) -> None:
    class Resolving(Dialler):
        async def connect_any(self, addresses: Any, **options: Any) -> Any:
            return Connected(("192.0.2.7", 1)), {}

    cache = BootstrapCache(tmp_path / "cache", [("seed.example", 1)])
    await cache.bootstrap(Resolving())
    assert cache.addresses() == [("seed.example", 1)]


async def test_real_addresses_one_is_reached_among_dead_ones_and_no_other_stays(
    world: World, until: Until, tmp_path: Path
) -> None:
    servers = [await world.endpoint(f"node-{number}") for number in range(1, 6)]
    outsider = await world.endpoint("node-9", trust=world.trust(world.expired("node-9")))
    client = await world.endpoint()
    cache = BootstrapCache(tmp_path / "cache", [server.address for server in servers[3:]])
    for address in [*DEAD, outsider.address, *(server.address for server in servers[:3])]:
        cache.reached(address)
    connection = await cache.bootstrap(client, timeout_s=5)
    assert not connection.closed
    await until(lambda: client.counters()["handshakes"] == 0)
    await until(lambda: sum(len(server.connections) for server in servers) == 1)
    assert len(client.connections) == 1
    assert not client.connections[0].closed
    if connection.address in [server.address for server in servers[:3]]:
        assert cache.addresses()[0] == connection.address
    assert await cache.bootstrap(client) is connection


async def test_real_addresses_that_all_fail_give_every_error(world: World, tmp_path: Path) -> None:
    outsider = await world.endpoint("node-9", trust=world.trust(world.expired("node-9")))
    client = await world.endpoint()
    cache = BootstrapCache(tmp_path / "cache", [outsider.address, *DEAD[:2]])
    with pytest.raises(ExceptionGroup, match="no address answered") as failed:
        await cache.bootstrap(client, timeout_s=3)
    assert sorted(type(one).__name__ for one in failed.value.exceptions) == [*["HandshakeFailed"] * 2, "TrustError"]
    assert not client.connections


async def test_connections_that_were_there_before_are_no_losers(world: World, tmp_path: Path) -> None:
    servers = [await world.endpoint(f"node-{number}") for number in range(1, 4)]
    client = await world.endpoint()
    before = [await client.connect(server.address) for server in servers]
    cache = BootstrapCache(tmp_path / "cache", [server.address for server in servers])
    assert await cache.bootstrap(client) in before
    await asyncio.sleep(0.05)
    assert client.connections == before
    assert client.counters()["dialled_total"] == 3


async def test_a_closed_endpoint_bootstraps_no_more(world: World, tmp_path: Path) -> None:
    client = await world.endpoint()
    client.close()
    cache = BootstrapCache(tmp_path / "cache", DEAD)
    with pytest.raises(EndpointClosed):
        await cache.bootstrap(client)
    with pytest.raises(EndpointClosed):
        await asyncio.wait_for(cache.rebootstrap(client), PATIENCE_S)


# After a partition


def test_rebootstrap_tries_until_one_answers(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 3)
    dialler = Dialler()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(300, setattr, dialler, "alive", [("10.0.0.1", 1)])
        connection = await cache.rebootstrap(dialler)
        assert connection.address == ("10.0.0.1", 1)
        assert 300 <= loop.time() <= 300 + 15 * 1.3
        assert cache.addresses()[0] == ("10.0.0.1", 1)
        assert dialler.options["new"] is True

    run_virtual(scenario())
    assert 20 <= len(dialler.races) <= 40


def test_rebootstrap_gives_up_at_the_end_of_its_budget_with_the_last_errors(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 3)

    async def scenario() -> None:
        with pytest.raises(ExceptionGroup) as failed:
            await cache.rebootstrap(Dialler(), retry=Retry(budget_s=60))
        assert len(failed.value.exceptions) == 3
        assert 40 < asyncio.get_running_loop().time() <= 60

    run_virtual(scenario())


def test_rebootstrap_learns_what_another_process_has_written_and_tries_it_first(tmp_path: Path) -> None:
    ours = cache_of(tmp_path, 3)
    dialler = Dialler(("10.0.0.7", 7))

    async def scenario() -> None:
        theirs = BootstrapCache(tmp_path / "cache")
        theirs.reached(("10.0.0.7", 7))
        asyncio.get_running_loop().call_later(5, theirs.write)
        assert (await ours.rebootstrap(dialler)).address == ("10.0.0.7", 7)

    run_virtual(scenario())
    assert len(dialler.races[0]) == 3
    assert dialler.races[-1][0] == ("10.0.0.7", 7)


def test_rebootstrap_without_an_address_fails_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(ValueError, match="no address"):
            await cache_of(tmp_path, 0).rebootstrap(Dialler())
        assert asyncio.get_running_loop().time() == 0.0

    run_virtual(scenario())


class Subnet:
    """Endpoints at 10.0.0.1, 10.0.0.2, ... of one network in memory."""

    def __init__(self, **options: Any) -> None:
        self.network = MemoryNetwork(**options)
        self.world = World()
        self.endpoints: list[Any] = []

    async def grow(self, count: int) -> list[Any]:
        for _ in range(count):
            number = len(self.endpoints) + 1
            identity = self.world.identity(f"node-{number}")
            self.endpoints.append(
                await Endpoint.bind(
                    trust=Trust.subnet(FixedIdentity(identity)),
                    transport=self.network.transport((f"10.0.0.{number}", 4100)),
                    clock=asyncio.get_running_loop().time,
                )
            )
        return self.endpoints

    def cut(self, one: Any) -> None:
        for other in self.endpoints:
            if other is not one:
                self.network.disconnect(one.address, other.address)

    def heal(self, one: Any) -> None:
        for other in self.endpoints:
            if other is not one:
                self.network.reconnect(one.address, other.address)


@pytest.mark.parametrize("seed", range(5))
def test_after_a_partition_exactly_one_address_is_connected(seed: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        subnet = Subnet(seed=seed, delay_s=0.01)
        client, *servers = await subnet.grow(9)
        cache = BootstrapCache(tmp_path / f"cache-{seed}", [servers[-1].address])
        for server in servers[:-1]:
            cache.reached(server.address)
        first = await cache.bootstrap(client)
        await asyncio.sleep(1)
        subnet.cut(client)
        await asyncio.sleep(30)
        assert first.closed
        assert not client.connections
        again = asyncio.ensure_future(cache.rebootstrap(client))
        await asyncio.sleep(60)
        assert not again.done()
        subnet.heal(client)
        connection = await again
        await asyncio.sleep(20)
        assert not connection.closed
        assert client.connections == [connection]
        assert sum(len(server.connections) for server in servers) == 1
        assert client.counters()["handshakes"] == 0
        for endpoint in subnet.endpoints:
            endpoint.close()

    run_virtual(scenario())


def test_an_address_that_answers_late_wins_when_the_others_are_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        subnet = Subnet(delay_s=0.01)
        client, *servers = await subnet.grow(4)
        for server in servers[1:]:
            server.close()
        cache = BootstrapCache(tmp_path / "cache", [server.address for server in servers])
        subnet.network.disconnect(client.address, servers[0].address)
        dial = asyncio.ensure_future(cache.bootstrap(client))
        await asyncio.sleep(3)
        subnet.network.reconnect(client.address, servers[0].address)
        connection = await dial
        assert connection.address == servers[0].address
        assert 3 < asyncio.get_running_loop().time() < 10
        client.close()
        servers[0].close()

    run_virtual(scenario())
