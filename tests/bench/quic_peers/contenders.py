"""Who is measured: a server process and a client process of one kind each, pinned to cores of their own, and their figures."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.quic_peers.load import cpu_s

ROOT = Path(__file__).parents[3]
CLIENT_TIMEOUT_S = 180
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[-1], CORES[0]
MIB = 1 << 20
QP2P_LINE = re.compile(r"^(\d+) msgs x (\d+) B .*?: ([\d.]+) s .*p50 (\d+) us")


class Load(NamedTuple):
    """What is sent. `cold`: on a connection that has carried nothing yet."""

    messages: int
    size: int
    in_flight: int = 1
    uni: bool = False
    cold: bool = False


@dataclass(frozen=True)
class Figures:
    """What one client made of a load; CPU is of both ends."""

    messages: int
    bytes: int
    seconds: float
    p50_us: float
    cpu_s: float
    rings: int = 0
    """Timers of the client's loop that went off, where they are counted."""
    packets: int = 0
    """Datagrams both ways, where a relay counts them."""

    @property
    def mb_per_s(self) -> float:
        return self.bytes / self.seconds / 1e6

    @property
    def per_s(self) -> float:
        return self.messages / self.seconds

    @property
    def cpu_ms_per_mib(self) -> float:
        return 1e3 * self.cpu_s / (self.bytes / MIB)

    @property
    def cpu_us_per_message(self) -> float:
        return 1e6 * self.cpu_s / self.messages

    @property
    def rings_per_packet(self) -> float:
        return self.rings / self.packets if self.packets else float("nan")


@dataclass
class Server:
    """A running one, and what a client must be told."""

    process: subprocess.Popen[str]
    port: int
    told: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes begun in the block run on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """A process on the servers' core until the block is left."""
    with pinned(SERVER_CORE):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class PythonPeer:
    """A module of this folder, server and client alike; `options` go to both."""

    def __init__(self, name: str, module: str, *, python: str = sys.executable, **options: Any) -> None:
        self.name = name
        self._command = [python, "-m", f"tests.bench.quic_peers.{module}"]
        self._options = options

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        """A server until the block is left."""
        with running([*self._command, "server", json.dumps(self._options)]) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.name}: the server does not start")
            told = json.loads(line)
            yield Server(process, told.pop("port"), told)

    def report(self, server: Server, port: int, **options: Any) -> dict[str, Any]:
        """What a client prints that was given these options besides its own."""
        given = {**self._options, **server.told, "server_pid": server.process.pid, "port": port, **options}
        return dict(json.loads(_client([*self._command, "client", json.dumps(given)], self.name)))

    def figures(self, server: Server, port: int, load: Load) -> Figures:
        """Drive a load."""
        found = self.report(server, port, **load._asdict())
        cpu = found.pop("server_cpu_s") + found.pop("cpu_s")
        return Figures(cpu_s=cpu, **found)


class Qp2pPeer:
    """The real qp2p; with `server`, its client against another's server."""

    def __init__(self, name: str, program: Path, server: PythonPeer | None = None) -> None:
        self.name = name
        self._program = program
        self._server = server

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        """A server until the block is left."""
        if self._server is not None:
            with self._server.serving() as server:
                yield server
            return
        with running([self._program, "server", "0"]) as process:
            assert process.stdout is not None
            yield Server(process, int(process.stdout.readline().split()[1]))

    def figures(self, server: Server, port: int, load: Load) -> Figures:
        """Drive a load. CPU counts from the client's start to its end."""
        words = [str(word) for word in (port, load.messages, load.size, load.in_flight)]
        before, children = cpu_s(server.process.pid), os.times()
        text = _client([self._program, "client", *words, *([] if load.uni else ["bi"])], self.name)
        after = os.times()
        cpu = after.children_user + after.children_system - children.children_user - children.children_system
        found = QP2P_LINE.match(text)
        if found is None:
            raise RuntimeError(f"{self.name}: {text!r} is no line of figures")
        count, size, seconds, p50 = (float(word) for word in found.groups())
        used = cpu + cpu_s(server.process.pid) - before
        return Figures(int(count), int(count * size), seconds, p50, used)


class Relay:
    """A path: one way `delay_s`, `loss` of datagrams lost, none larger than `datagram_bytes`."""

    def __init__(self, program: Path, *, delay_s: float, loss: float, datagram_bytes: int) -> None:
        self._program = program
        self._words = [str(int(delay_s * 1e6)), str(int(loss * 1e6)), str(datagram_bytes)]

    def figures(self, peer: PythonPeer | Qp2pPeer, server: Server, load: Load, seed: int) -> Figures:
        """Drive a load through it."""
        with running([self._program, str(server.port), *self._words, str(seed)]) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            port = json.loads(process.stdout.readline())["port"]
            figures = peer.figures(server, port, load)
            process.stdin.close()
            process.stdin = None
            passed = json.loads(process.stdout.readline())
        return replace(figures, packets=passed["to_target"] + passed["to_dialer"])


def _client(command: Sequence[str | Path], name: str) -> str:
    with pinned(CLIENT_CORE):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {(done.stderr.strip().splitlines() or ['failed'])[-1][:200]}")
    return done.stdout
