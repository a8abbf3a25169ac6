"""What a connection costs on which nothing happens."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

import pytest
from tests.quic.virtual import VirtualWorld, play

from p2pnet.quic import Connection, Settings

KIB = 1 << 10
IDLE_S = 30.0


def traced() -> int:
    """Bytes that Python holds; what OpenSSL keeps of keys, about 6 KiB an end, is not among them."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def many(world: VirtualWorld, count: int) -> tuple[list[Connection], Callable[[], float]]:
    """So many idle connections, and what asks for the bytes that each end has cost since there was only one."""
    settings = Settings(idle_s=IDLE_S)
    client, server = [
        await world.endpoint(trust=world.trust(world.identity(name, ttl_s=86_400)), settings=settings)
        for name in ("node-0", "node-1")
    ]
    await client.connect(server.address)
    await asyncio.sleep(5)
    before = traced()
    connections = [await client.connect(server.address, new=True) for _ in range(count)]
    await asyncio.sleep(5)
    return connections, lambda: (traced() - before) / (2 * count)


def test_an_idle_connection_holds_little_memory() -> None:
    async def scenario(world: VirtualWorld) -> None:
        tracemalloc.start()
        try:
            _connections, bytes_each = await many(world, 100)
            each = bytes_each()
        finally:
            tracemalloc.stop()
        assert each < 40 * KIB, f"{each / KIB:.1f} KiB for each end of an idle connection"

    play(scenario)


def test_hours_of_pings_add_little_to_it() -> None:
    async def scenario(world: VirtualWorld) -> None:
        tracemalloc.start()
        try:
            connections, bytes_each = await many(world, 4)
            young = bytes_each()
            await asyncio.sleep(2 * 3_600)
            old = bytes_each()
        finally:
            tracemalloc.stop()
        assert not any(one.closed for one in connections)
        assert old - young < 16 * KIB, f"{young / KIB:.1f} KiB each at first, {old / KIB:.1f} after two hours"

    play(scenario, limit_s=3 * 3_600)


def test_a_ping_takes_four_turns_of_both_ends_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent, received, acknowledged, and that is received: no timer makes work for what was settled before it rang."""

    async def scenario(world: VirtualWorld) -> None:
        await many(world, 1)
        flushes: list[float] = []
        flush = Connection.flush

        def counted(connection: Connection, now: float) -> None:
            flushes.append(now)
            flush(connection, now)

        monkeypatch.setattr(Connection, "flush", counted)
        await asyncio.sleep(1_800)
        pings = 2 * 1_800 / (IDLE_S / 3)
        assert 3 * pings < len(flushes) < 4.5 * pings, f"{len(flushes) / pings:.2f} for each ping"

    play(scenario, limit_s=3_600)
