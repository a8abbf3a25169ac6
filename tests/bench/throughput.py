"""The throughput bench with qp2p's four arguments: many nodes, many connections, many messages to one server.

    python -m tests.bench.throughput NODES LOOPS MSGS SIZE

Each of NODES endpoints goes LOOPS times round: a new connection to the server, MSGS one-way messages of SIZE bytes on it,
64 at a time, each awaited until it is acknowledged, and a close. One round more per node goes before and is not counted.
The server is a process of its own; it and the nodes' process get a core each. In the end every message that was sent must
have been received, once and whole.

Connections and messages are reported apart: how long a dial takes, from the call to the server's word, and how fast a
round's messages went, without its dial and close. The spread is over all rounds of all nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from typing import NamedTuple

import uvloop
from tests.bench.quic_peers.contenders import CLIENT_CORE, pinned, running
from tests.bench.quic_peers.load import say
from tests.bench.quic_peers.ours import identities, trust_of

from p2pnet.quic import Connection, Endpoint, FixedIdentity, Message, Settings, Trust

IN_FLIGHT = 64
COUNT = b"/count"
MIB = 1 << 20


class Round(NamedTuple):
    """One connection's: seconds to dial, seconds for its messages."""

    dial_s: float
    messages_s: float


async def serve() -> None:
    """Count what comes; say so to whoever asks."""
    received, content = 0, 0

    def on_message(_connection: Connection, message: Message) -> None:
        nonlocal received, content
        if message.header == COUNT:
            message.reply(json.dumps([received, content]).encode())
            return
        received += 1
        content += len(message.payload)

    mine, theirs = identities()
    async with await Endpoint.bind(trust=Trust.subnet(FixedIdentity(mine)), on_message=on_message) as endpoint:
        parts = {"chain": theirs.chain_pem, "key": theirs.key_pem, "bundle": theirs.bundle_pem}
        say(port=endpoint.address[1], **{name: pem.decode() for name, pem in parts.items()})
        await asyncio.get_running_loop().create_future()


async def one_round(endpoint: Endpoint, to: tuple[str, int], messages: int, payload: bytes) -> Round:
    """A connection's life."""
    began = time.perf_counter()
    connection = await endpoint.connect(to, new=True)
    connected = time.perf_counter()
    left = messages

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await connection.send(b"", b"", payload)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(IN_FLIGHT, messages)):
            group.create_task(worker())
    ended = time.perf_counter()
    connection.close()
    return Round(connected - began, ended - connected)


async def measure(told: dict[str, str], port: int, nodes: int, loops: int, messages: int, size: int) -> None:
    """Go round, count, print."""
    to, payload = ("127.0.0.1", port), bytes(size)
    trust = trust_of(told)
    settings = Settings(idle_s=60.0)
    endpoints = [await Endpoint.bind(trust=trust, settings=settings) for _ in range(nodes)]
    rounds: list[Round] = []

    async def node(endpoint: Endpoint, turns: int) -> None:
        rounds.extend([await one_round(endpoint, to, messages, payload) for _ in range(turns)])

    async def everyone(turns: int) -> float:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for endpoint in endpoints:
                group.create_task(node(endpoint, turns))
        return time.perf_counter() - began

    await everyone(1)
    rounds.clear()
    seconds = await everyone(loops)
    reply = await (await endpoints[0].connect(to, new=True)).request(COUNT, b"?")
    for endpoint in endpoints:
        endpoint.close()
    sent = nodes * (loops + 1) * messages
    if json.loads(reply.payload) != [sent, sent * size]:
        sys.exit(f"sent {sent} messages, {sent * size} bytes; received {reply.payload.decode()}")
    report(rounds, seconds, nodes * loops * messages, messages, size)


def report(rounds: list[Round], seconds: float, total: int, messages: int, size: int) -> None:
    """Connections, then messages."""
    dials = [1e3 * one.dial_s for one in rounds]
    rates = [messages / one.messages_s for one in rounds]
    print(
        f"{len(rounds):,} connections in {seconds:.2f} s: {len(rounds) / seconds:,.1f} a second;   a dial {spread(dials)} ms"
    )
    print(
        f"{total:,} messages of {size:,} B: {total / seconds:,.0f} a second, {total * size / seconds / MIB:,.1f} MiB/s in all"
    )
    print(f"   within a connection {spread(rates, 0)} messages a second; all received once, whole")


def spread(values: list[float], digits: int = 1) -> str:
    """Median, and from least to most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def main() -> None:
    """Start the server, then measure; or be the server."""
    if sys.argv[1:] == ["serve"]:
        uvloop.run(serve())
        return
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nodes", "loops", "msgs", "size"):
        parser.add_argument(name, type=int)
    given = parser.parse_args()
    with running([sys.executable, "-m", "tests.bench.throughput", "serve"]) as server:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        with pinned(CLIENT_CORE):
            uvloop.run(measure(told, told["port"], given.nodes, given.loops, given.msgs, given.size))


if __name__ == "__main__":
    main()
