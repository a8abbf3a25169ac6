"""Races of dials: one winner, no loser left at either end, however many succeed in one turn, whoever cancels when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.quic.virtual import DEAD, VirtualWorld, play, turns

from p2pnet.quic import Connection, Endpoint, HandshakeFailed, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.quic.conftest import Until, World

TURNS = range(6)
"""Turns of the loop after a dial was served, in which it is cancelled: 0 is the same one; the last are after its end."""


def connected(servers: list[Endpoint]) -> int:
    """How many connections the servers have, together."""
    return sum(len(one.connections) for one in servers)


def when_established(client: Any, act: Callable[[Connection], None]) -> None:
    """Call `act` in the very turn in which a dial of this endpoint succeeds, and those who wait for it are served."""
    add = client._pool.add

    def added(connection: Connection, raw: Any) -> None:
        add(connection, raw)
        act(connection)

    client._pool.add = added


def cancel_after(left: int, task: asyncio.Future[Any]) -> None:
    """Cancel it so many turns later; 0: now."""
    if left:
        asyncio.get_running_loop().call_soon(cancel_after, left - 1, task)
    else:
        task.cancel()


def named(world: VirtualWorld, names: dict[str, Endpoint]) -> None:
    """Have these names resolve to these endpoints, each in one turn."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        await asyncio.sleep(0)
        return [(0, 0, 0, "", (names[host].address[0], port))]

    world.loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("seed", range(10))
def test_of_six_that_succeed_in_one_turn_one_stays(seed: int) -> None:
    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(6)
        client = await world.endpoint("node-0")
        connection, errors = await client.connect_any([one.address for one in servers])
        assert client.connections == [connection]
        assert not errors
        await asyncio.sleep(1)
        assert connected(servers) == 1
        assert (await connection.request(b"/x", b"well")).payload == b"well"

    play(scenario, seed=seed, delay_s=0.01)


async def test_of_six_real_servers_of_this_process_one_stays(world: World, until: Until) -> None:
    servers = [await world.endpoint(f"node-{number}") for number in range(6)]
    for _ in range(5):
        client = await world.endpoint("client")
        connection, _ = await client.connect_any([one.address for one in servers])
        assert client.connections == [connection]
        await until(lambda: connected(servers) == 1)
        client.close()
        await until(lambda: connected(servers) == 0)


async def test_of_servers_in_another_process_one_stays(world: World, tmp_path: Path) -> None:
    identity = world.identity("node-1")
    bound = {"host": "127.0.0.1", "port": "0", "idle_s": "30", "reset_key": "00" * 32, "count": "4"}
    bound |= {"chain": identity.chain_pem.decode(), "key": identity.key_pem.decode()}
    file = tmp_path / "peers.json"
    file.write_text(json.dumps(bound | {"bundle": identity.bundle_pem.decode()}))
    command = [sys.executable, str(Path(__file__).with_name("peer.py")), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            addresses = [tuple(json.loads(process.stdout.readline())) for _ in range(4)]
            for _ in range(10):
                client = await world.endpoint("client")
                connection, _ = await client.connect_any(addresses)
                assert client.connections == [connection]
                client.close()
        finally:
            process.kill()


def test_a_pooled_connection_wins_at_once_and_nothing_is_left_of_the_dials() -> None:
    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(3)
        client = await world.endpoint("node-0")
        pooled = await client.connect(servers[1].address)
        connection, _ = await client.connect_any([one.address for one in servers])
        assert connection is pooled
        await asyncio.sleep(1)
        assert client.connections == [pooled]
        assert connected(servers) == 1
        assert client.counters()["handshakes"] == 0

    play(scenario, delay_s=0.01)


def test_pooled_connections_that_lose_stay() -> None:
    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(3)
        client = await world.endpoint("node-0")
        pooled = [await client.connect(one.address) for one in servers]
        connection, _ = await client.connect_any([one.address for one in reversed(servers)])
        assert connection is pooled[2]
        assert client.connections == pooled

    play(scenario, delay_s=0.01)


def test_an_inbound_connection_that_loses_stays() -> None:
    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(2)
        client = await world.endpoint("node-0")
        await servers[0].connect(client.address)
        await servers[1].connect(client.address)
        winner, _ = await client.connect_any([one.address for one in servers])
        assert winner in client.connections
        assert len(client.connections) == 2

    play(scenario, delay_s=0.01)


def test_a_dial_that_somebody_else_waits_for_stays_when_it_loses() -> None:
    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(3)
        client = await world.endpoint("node-0")
        other = asyncio.ensure_future(client.connect(servers[2].address))
        await turns(1)
        winner, _ = await client.connect_any([one.address for one in servers])
        assert winner.address == servers[0].address
        kept = await other
        await asyncio.sleep(1)
        assert set(client.connections) == {winner, kept}
        assert (await kept.request(b"/x", b"kept")).payload == b"kept"

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("late", range(8))
def test_a_loser_that_somebody_else_found_meanwhile_stays(late: int) -> None:
    """Found in the pool in one of the turns between its handshake and the end of the race."""

    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(2)
        client = await world.endpoint("node-0")
        finders: list[asyncio.Future[Connection]] = []

        async def find() -> Connection:
            await turns(late)
            return await client.connect(servers[1].address)

        def established(connection: Connection) -> None:
            if connection.address == servers[1].address and not finders:
                finders.append(asyncio.ensure_future(find()))

        when_established(client, established)
        winner, _ = await client.connect_any([one.address for one in servers])
        assert winner.address == servers[0].address
        kept = await finders[0]
        await asyncio.sleep(1)
        assert not kept.closed
        assert set(client.connections) == {winner, kept}

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("new", [False, True])
def test_names_of_one_peer_are_one_runner_that_is_kept_or_closed_as_one(new: bool) -> None:
    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(2)
        client = await world.endpoint("node-0")
        names = {"first.test": servers[0], "second.test": servers[1], "alias.test": servers[1]}
        named(world, names)
        addresses = [(name, names[name].address[1]) for name in names]
        winner, _ = await client.connect_any(addresses, new=new)
        assert winner.address == servers[0].address
        await asyncio.sleep(1)
        assert client.connections == [winner]
        again, _ = await client.connect_any(addresses[1:], new=new)
        await asyncio.sleep(1)
        assert client.connections == [winner, again]
        assert connected(servers) == 2

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("after", TURNS)
def test_a_race_cancelled_in_any_turn_leaves_nothing(after: int, times: int) -> None:
    """Twice and more: while it waits for the losers that it has just cancelled."""

    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(3)
        client = await world.endpoint("node-0")
        served: list[Connection] = []

        def established(connection: Connection) -> None:
            if not served:
                for time in range(times):
                    cancel_after(after + time, race)
            served.append(connection)

        when_established(client, established)
        race = asyncio.ensure_future(client.connect_any([*(one.address for one in servers), DEAD]))
        with contextlib.suppress(asyncio.CancelledError):
            winner, _ = await race
            assert client.connections == [winner]
            winner.close()
        assert served
        await asyncio.sleep(1)
        assert not client.connections
        assert not client.counters()["handshakes"]
        assert connected(servers) == 0

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("retry", [None, Retry()])
@pytest.mark.parametrize("after", TURNS)
def test_a_dial_cancelled_in_any_turn_leaves_nothing(after: int, retry: Retry | None, new: bool) -> None:
    async def scenario(world: VirtualWorld) -> None:
        (server,) = await world.servers(1)
        client = await world.endpoint("node-0")
        served: list[Connection] = []

        def established(connection: Connection) -> None:
            served.append(connection)
            cancel_after(after, dial)

        when_established(client, established)
        dial = asyncio.ensure_future(client.connect(server.address, new=new, retry=retry))
        with contextlib.suppress(asyncio.CancelledError):
            (await dial).close()
        assert served
        await asyncio.sleep(1)
        assert not client.connections
        assert connected([server]) == 0

    play(scenario, delay_s=0.01)


def test_one_of_two_who_wait_for_a_dial_may_give_up_as_it_succeeds() -> None:
    async def scenario(world: VirtualWorld) -> None:
        (server,) = await world.servers(1)
        client = await world.endpoint("node-0")
        dials = [asyncio.ensure_future(client.connect(server.address)) for _ in range(2)]
        when_established(client, lambda _: cancel_after(0, dials[0]))
        with pytest.raises(asyncio.CancelledError):
            await dials[0]
        assert (await (await dials[1]).request(b"/x", b"well")).payload == b"well"

    play(scenario, delay_s=0.01)


def test_an_error_of_every_address_is_told_and_the_endpoint_may_dial_again() -> None:
    async def scenario(world: VirtualWorld) -> None:
        (server,) = await world.servers(1)
        client = await world.endpoint("node-0")
        world.network.disconnect(server.address, client.address)
        with pytest.raises(ExceptionGroup) as failed:
            await client.connect_any([server.address, DEAD], timeout_s=2)
        assert [type(one) for one in failed.value.exceptions] == [HandshakeFailed, HandshakeFailed]
        world.network.reconnect(server.address, client.address)
        winner, errors = await client.connect_any([DEAD, server.address], timeout_s=2)
        assert isinstance(winner, Connection)
        assert not errors

    play(scenario, delay_s=0.01)
