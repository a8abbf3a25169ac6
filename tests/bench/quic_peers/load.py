"""What every peer of the bench shares: the load, how a client drives it, and how processes tell each other about it.

A peer is a program with two commands, `server OPTIONS` and `client OPTIONS`; options are JSON. A server prints one line of JSON
with its `port` and answers b"ok" to whatever wants an answer; a client prints one line with what `drive` returns.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

Options = dict[str, Any]
Send = Callable[[bytes], Awaitable[Any]]

WARM_BYTES_MAX = 1 << 20
WAIT_S = 150.0
PAGE_BYTES = 4096


async def drive(options: Options, send: Send) -> dict[str, Any]:
    """Send `messages` payloads of `size` bytes, `in_flight` at a time.

    Unless `cold`, `in_flight` payloads of at most 1 MiB go before and are not counted.
    """
    count, size, in_flight = options["messages"], options["size"], options["in_flight"]
    payload = bytes(size)
    latencies: list[float] = []

    async def worker(turns: int) -> None:
        for _ in range(turns):
            began = time.perf_counter()
            await send(payload)
            latencies.append(time.perf_counter() - began)

    async with asyncio.timeout(WAIT_S):
        if not options.get("cold"):
            await asyncio.gather(*(send(payload[:WARM_BYTES_MAX]) for _ in range(in_flight)))
        cpu, server_cpu, began = time.process_time(), cpu_s(options["server_pid"]), time.perf_counter()
        await asyncio.gather(*(worker(count // in_flight) for _ in range(in_flight)))
    seconds = time.perf_counter() - began
    cpu, server_cpu = time.process_time() - cpu, cpu_s(options["server_pid"]) - server_cpu
    latencies.sort()
    return {
        "messages": len(latencies),
        "bytes": len(latencies) * size,
        "seconds": seconds,
        "p50_us": 1e6 * latencies[len(latencies) // 2],
        "cpu_s": cpu,
        "server_cpu_s": server_cpu,
    }


async def shake_hands(options: Options, dial: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """Dial `handshakes` times, one after the other; CPU of either end."""
    for _ in range(5):
        await dial()
    cpu, server_cpu, began = time.process_time(), cpu_s(options["server_pid"]), time.perf_counter()
    for _ in range(options["handshakes"]):
        await dial()
    return {
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "server_cpu_s": cpu_s(options["server_pid"]) - server_cpu,
    }


def cpu_s(pid: int) -> float:
    """Processor time of a process of one thread so far, in seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident_bytes(pid: int) -> int:
    """Physical memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def say(**words: Any) -> None:
    """One line to the bench."""
    print(json.dumps(words), flush=True)


def main(
    server: Callable[[Options], Awaitable[None]],
    client: Callable[[Options], Awaitable[dict[str, Any]]],
    loop_of: Callable[[Options], asyncio.AbstractEventLoop] = lambda _options: uvloop.new_event_loop(),
) -> None:
    """Be what the command line says; a server until it is killed."""
    command, options = sys.argv[1], json.loads(sys.argv[2])

    async def serve() -> None:
        await server(options)
        await asyncio.get_running_loop().create_future()

    async def ask() -> None:
        say(**await client(options))

    with asyncio.Runner(loop_factory=lambda: loop_of(options)) as runner:
        runner.run(serve() if command == "server" else ask())
