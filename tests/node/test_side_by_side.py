"""Six clients on every node of a subnet, as many as a replica of the Internet Computer has, made of one class by settings."""

import asyncio
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from tests.node.kinds import RAISE, SLEEP, SPIN
from tests.node.kit import Bench, until
from tests.node.test_process import ended, port_of, run

from p2pnet.model.config import ClientConfig
from p2pnet.model.events import EventKind

NAMES = [f"node-{index}" for index in range(4)]
ROUNDS = 6
KINDS: dict[str, dict[str, Any]] = {
    "consensus": {"key": "height-7", "sizes": {"least": 100, "most": 4_000}, "push": True},
    "certifier": {"key": "share", "sizes": {"least": 100, "most": 300}, "relay": "none"},
    "httpoutcalls": {"key": "canister", "sizes": {"least": 100_000, "most": 300_000}},
    "dkg": {"key": "dealing", "sizes": {"least": 5, "most": 20_000}, "push": True},
    "ecdsa": {"key": "quadruple", "sizes": {"least": 5, "most": 2_000}, "relay": "none"},
    "ingress": {"key": "", "sizes": {"least": 1_000, "most": 1_000}, "work_ms": 3},
}
FREE = {"consensus": 400, "certifier": 150, "httpoutcalls": 200_000}
"""Those that nobody disturbs, and the bytes of an artifact."""


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[ClientConfig]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return [ClientConfig(name, "tests.node.kinds:Kind", settings) for name, settings in KINDS.items()]


async def until_pools(bench: Bench, expected: dict[str, int]) -> None:
    """Every node's pools hold as many artifacts."""
    for name in NAMES:

        async def full(name: str = name) -> bool:
            pool = (await bench.peers(name)).pool
            return all(pool[client] >= count for client, count in expected.items())

        await until(full, f"{name} holds {expected}")


async def rounds(bench: Bench, held: int) -> dict[str, float]:
    """Artifacts of every free client, one after another; the median nanoseconds until the last node had one."""
    published: dict[str, str] = {}
    for number in range(1, ROUNDS + 1):
        for client, size in FREE.items():
            [injected] = await bench.inject("node-0", os.urandom(size), client=client)
            published[injected.hex()] = client
        await until_pools(bench, dict.fromkeys(FREE, held + number))
    times: dict[str, list[int]] = defaultdict(list)
    for name in NAMES:
        for event in await all_events(bench, name):
            if event.artifact in published and event.kind in (EventKind.PUBLISHED, EventKind.VALIDATED):
                assert event.client == published[event.artifact]
                times[event.artifact].append(event.mono_ns)
    assert {len(seen) for seen in times.values()} == {len(NAMES)}
    took = defaultdict(list)
    for artifact, seen in times.items():
        took[published[artifact]].append(max(seen) - min(seen))
    return {client: median(each) for client, each in took.items()}


async def all_events(bench: Bench, name: str) -> list[Any]:
    found: list[Any] = []
    while (page := await bench.events(name, len(found))).events:
        found += page.events
    return found


async def flood(bench: Bench) -> None:
    """More than the client can judge, for as long as it goes on."""
    for _ in range(200):
        await bench.inject("node-1", *(os.urandom(1_000) for _ in range(20)), client="ingress")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("word", "ratio_max"), [(SLEEP, 10.0), (SPIN, 30.0)], ids=["sleeps", "computes"])
async def test_a_client_that_is_stuck_raises_or_is_flooded_slows_no_other(
    bench: Bench, clients: list[ClientConfig], word: bytes, ratio_max: float
) -> None:
    """The same order of magnitude: a client that another one holds up is held up for good, or for seconds.

    One that computes takes half of its node's only interpreter, and all nodes share the machine's cores.
    """
    supervisor = await bench.up(NAMES, clients=clients)
    await rounds(bench, 0)  # the first ones wait for imports and slow starts
    clean = await rounds(bench, ROUNDS)

    await bench.inject("node-0", word, client="dkg")
    await bench.inject("node-0", RAISE, client="ecdsa")
    flooding = asyncio.create_task(flood(bench))
    await until_pools(bench, {"ingress": 20})
    troubled = await rounds(bench, 2 * ROUNDS)
    flooding.cancel()

    ratios = {client: troubled[client] / clean[client] for client in FREE}
    assert max(ratios.values()) < ratio_max, (ratios, clean)
    for name in NAMES[1:]:
        pool = (await bench.peers(name)).pool
        assert (pool["dkg"], pool["ecdsa"]) == (0, 0)
    started = time.monotonic()
    for name in NAMES:
        supervisor.ask(op="stop", name=name)
    for name in NAMES:
        await supervisor.event("stopped", name)
    assert time.monotonic() - started < 8, "a stuck client holds up no stop"


async def test_a_lone_node_with_a_stuck_client_ends_in_time_when_asked(
    bench: Bench, clients: list[ClientConfig]
) -> None:
    bench.subnet.ports["node-0"] = 1
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0"]))
    process = await run(bench.subnet.write_node("node-0", port=0, clients=clients))
    bench.subnet.ports["node-0"] = await port_of(process)
    await bench.inject("node-0", SLEEP, client="dkg")
    await bench.inject("node-0", bytes(200), client="certifier")
    assert (await bench.peers("node-0")).pool["certifier"] == 1
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, _ = await ended(process)
    assert code == 0
    assert time.monotonic() - started < 8
