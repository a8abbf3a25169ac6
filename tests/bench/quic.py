"""`make bench-quic`: p2pnet.quic beside stock aioquic, a plain batched loop over aioquic, and the real qp2p, in one run.

Every contender is two processes, each pinned to a core; they take turns, and every other round in reverse order. Printed are the
medians over the rounds with their spread, and the median of the rounds' own quotients, for those survive a machine that is busy.
CPU is of both ends and hardly swings at all. qp2p needs cargo and the paths a C compiler; what is missing is said and skipped.

usage: quic.py [ROUNDS] [--rows bulk,small,...] [--qh3 PYTHON]     (default 3 rounds of all rows)
    --qh3   an interpreter that has qh3 and uvloop: its engine under the same plain loop, as a second engine would stand
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.bench.quic_peers import programs
from tests.bench.quic_peers.contenders import Figures, Load, PythonPeer, Qp2pPeer, Relay, Server

Peer = PythonPeer | Qp2pPeer
ETHERNET, JUMBO = 1452, 8900
MIB = 1 << 20
IDLE_CONNECTIONS = 1_000
HANDSHAKES = 40


class Shown(NamedTuple):
    """One figure of Figures: how it is called, printed, and compared."""

    name: str
    unit: str
    of: Callable[[Figures], float]
    digits: int = 1


THROUGHPUT = Shown("throughput", "MB/s", lambda found: found.mb_per_s)
RATE = Shown("rate", "/s", lambda found: found.per_s, 0)
LATENCY = Shown("p50", "us", lambda found: found.p50_us, 0)
CPU_BULK = Shown("CPU", "ms/MiB", lambda found: found.cpu_ms_per_mib)
CPU_SMALL = Shown("CPU", "us each", lambda found: found.cpu_us_per_message)
RINGS = Shown("timer rings per packet", "", lambda found: found.rings_per_packet, 2)


class Ratio(NamedTuple):
    """`figure` of one contender, divided by another's where one is named; it should be at least or at most a limit."""

    figure: Shown
    who: str
    by: str | None = None
    least: float | None = None
    most: float | None = None

    def verdict(self, value: float) -> str:
        """What was wanted, and whether it is so; nothing where nothing was."""
        if self.least is not None:
            return f"at least {self.least:g}: {'yes' if value >= self.least else 'MISSED'}"
        if self.most is not None:
            return f"at most {self.most:g}: {'yes' if value <= self.most else 'MISSED'}"
        return ""


class Row(NamedTuple):
    """One load for some contenders; the count may differ, so that a fast one is not over at once."""

    title: str
    load: Load
    peers: list[Peer]
    shown: list[Shown]
    ratios: list[Ratio]
    counts: dict[str, int] | None = None
    relay: Relay | None = None


class Bench:
    """All of a run."""

    def __init__(self, rounds: int, qh3: str | None) -> None:
        self._rounds = rounds
        self._qh3 = qh3

    @functools.cached_property
    def _qp2p(self) -> Path | None:
        """Built when a row first wants it."""
        return self._program(programs.qp2p())

    @functools.cached_property
    def _relay(self) -> Path | None:
        """Built when a row first wants it."""
        return self._program(programs.relay())

    # Rows

    def bulk(self) -> None:
        """One large message at a time."""
        for size in (ETHERNET, JUMBO):
            ratios = [
                Ratio(THROUGHPUT, "p2pnet", "aioquic", least=3.5 if size == ETHERNET else None),
                Ratio(THROUGHPUT, "p2pnet", "plain loop", least=0.9 if size == ETHERNET else None),
                Ratio(CPU_BULK, "p2pnet", "aioquic", most=1.0),
            ]
            title = f"16 MiB and a small answer, 1 in flight, datagrams of {size:,} bytes (qp2p: its own 1,200)"
            peers = [*self._engines(size), *self._real()]
            self._measure(Row(title, Load(4, 16 * MIB), peers, [THROUGHPUT, CPU_BULK], ratios, {"qp2p": 20}))

    def small(self) -> None:
        """Small messages."""
        title = "200 B and a small answer, 64 in flight"
        ratios = [
            Ratio(RATE, "p2pnet", "aioquic", least=5.0),
            Ratio(RATE, "p2pnet", "plain loop"),
            Ratio(CPU_SMALL, "p2pnet", "aioquic"),
        ]
        peers = [*self._engines(ETHERNET), *self._real()]
        self._measure(Row(title, Load(12_800, 200, 64), peers, [RATE, CPU_SMALL], ratios))
        title = "200 B one way, 64 in flight"
        peers = [self._ours(ETHERNET), *self._real()]
        ratios = [Ratio(RATE, "p2pnet", "qp2p", least=0.5)]
        self._measure(Row(title, Load(25_600, 200, 64, uni=True), peers, [RATE, CPU_SMALL], ratios, {"qp2p": 102_400}))
        title = "200 B and a small answer, 1 in flight"
        peers = [*self._engines(ETHERNET), *self._real()]
        ratios = [Ratio(LATENCY, "p2pnet", "aioquic", most=1.0), Ratio(LATENCY, "p2pnet", "qp2p", most=5.0)]
        self._measure(Row(title, Load(3_000, 200), peers, [LATENCY, CPU_SMALL], ratios))

    def path(self) -> None:
        """A round trip of 50 ms, without and with loss, on a fresh connection."""
        if self._relay is None:
            return
        for loss, size in ((0.0, 16 * MIB), (0.005, 4 * MIB)):
            relay = Relay(self._relay, delay_s=0.025, loss=loss, datagram_bytes=ETHERNET)
            peers = [self._ours(ETHERNET, count_timers=True), self._stock(ETHERNET), *self._real()]
            ratios = [
                Ratio(THROUGHPUT, "p2pnet", "aioquic", least=1.0),
                Ratio(THROUGHPUT, "p2pnet", "qp2p", least=1.0),
                Ratio(CPU_BULK, "p2pnet", "aioquic", most=1.0),
                Ratio(RINGS, "p2pnet", most=2.0),
            ]
            title = f"{size // MIB} MiB over 50 ms and {100 * loss:g} % loss, fresh connection, datagrams of {ETHERNET:,} bytes"
            load = Load(1, size, cold=True)
            self._measure(Row(title, load, peers, [THROUGHPUT, CPU_BULK, RINGS], ratios, relay=relay))

    def served(self) -> None:
        """The real qp2p's client, once to our server and once to a plain aioquic server."""
        if self._qp2p is None:
            return
        ours, stock = self._ours(None, anyone=True), self._stock(ETHERNET, framed=True)
        peers: list[Peer] = [Qp2pPeer("to p2pnet", self._qp2p, ours), Qp2pPeer("to aioquic", self._qp2p, stock)]
        for title, load, shown in (
            ("qp2p's client: 200 B one way, 64 in flight", Load(25_600, 200, 64, uni=True), RATE),
            ("qp2p's client: 200 B and an answer, 64 in flight", Load(12_800, 200, 64), RATE),
            ("qp2p's client: 1 MiB one way, 1 in flight", Load(60, MIB, 1, uni=True), THROUGHPUT),
        ):
            self._measure(Row(title, load, peers, [shown], [Ratio(shown, "to p2pnet", "to aioquic", least=1.0)]))

    def handshake(self) -> None:
        """What a handshake costs either end."""
        print("\nhandshakes, one after the other; p2pnet's are mutual, aioquic's without a client certificate")
        found: dict[str, list[dict[str, float]]] = {}
        peers = [self._ours(None), self._stock(ETHERNET)]
        for turn in range(self._rounds):
            for peer in peers if turn % 2 == 0 else reversed(peers):
                with peer.serving() as server:
                    found.setdefault(peer.name, []).append(peer.report(server, server.port, handshakes=HANDSHAKES))
        for name, reports in found.items():
            client, other, wall = (
                1e3 * statistics.median(one[key] for one in reports) / HANDSHAKES
                for key in ("cpu_s", "server_cpu_s", "seconds")
            )
            print(
                f"  {name:12} CPU {client + other:.2f} ms: client {client:.2f}, server {other:.2f};   {wall:.2f} ms of time"
            )

    def idle(self) -> None:
        """What connections cost that do nothing."""
        peer = self._ours(None)
        with peer.serving() as server:
            found = peer.report(server, server.port, idle_connections=IDLE_CONNECTIONS, rest_s=20)
        print(
            f"\n{IDLE_CONNECTIONS:,} idle connections of one endpoint with another ({found['alive']:,} alive after 20 s)"
        )
        for end in ("client", "server"):
            share = 100 * found[f"{end}_cpu_share"]
            print(f"  {end:12} {found[f'{end}_bytes'] / 1024:.1f} KiB resident each, {share:.2f} % of a core")

    # Private

    def _ours(self, datagram_bytes: int | None, **options: object) -> PythonPeer:
        return PythonPeer("p2pnet", "ours", datagram_bytes=datagram_bytes, **options)

    def _stock(self, datagram_bytes: int, **options: object) -> PythonPeer:
        return PythonPeer("aioquic", "stock", datagram_bytes=datagram_bytes, **options)

    def _engines(self, datagram_bytes: int) -> list[Peer]:
        given: dict[str, object] = {"datagram_bytes": datagram_bytes, "aes_128": True}
        peers: list[Peer] = [
            self._ours(datagram_bytes),
            self._stock(datagram_bytes),
            PythonPeer("plain loop", "plain", **given),
        ]
        if self._qh3 is not None:
            peers.append(PythonPeer("qh3 loop", "plain", python=self._qh3, engine="qh3", framed=True, **given))
        return peers

    def _real(self) -> list[Peer]:
        return [] if self._qp2p is None else [Qp2pPeer("qp2p", self._qp2p)]

    def _program(self, built: Path | str) -> Path | None:
        if isinstance(built, Path):
            return built
        print(f"skipped: {built}")
        return None

    def _measure(self, row: Row) -> None:
        print(f"\n{row.title}")
        found: dict[str, list[Figures]] = {peer.name: [] for peer in row.peers}
        with contextlib.ExitStack() as stack:
            servers = {peer.name: stack.enter_context(peer.serving()) for peer in row.peers}
            for turn in range(self._rounds):
                for peer in row.peers if turn % 2 == 0 else reversed(row.peers):
                    try:
                        found[peer.name].append(_figures(row, peer, servers[peer.name], seed=1 + turn))
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        print(f"  {peer.name:12} {error}")
        for name, figures in found.items():
            _show(name, figures, row.shown)
        for ratio in row.ratios:
            _compare(ratio, found)


def _figures(row: Row, peer: Peer, server: Server, *, seed: int) -> Figures:
    load = row.load._replace(messages=(row.counts or {}).get(peer.name, row.load.messages))
    if row.relay is not None:
        return row.relay.figures(peer, server, load, seed)
    return peer.figures(server, server.port, load)


def _show(name: str, figures: list[Figures], shown: list[Shown]) -> None:
    """One contender's line: medians, and the spread of the first figure."""
    if not figures:
        print(f"  {name:12} failed")
        return
    first = sorted(shown[0].of(one) for one in figures)
    words = [
        f"{statistics.median(map(one.of, figures)):12,.{one.digits}f} {one.unit or one.name}"
        for one in shown
        if one is not RINGS or figures[0].rings
    ]
    digits = shown[0].digits
    print(f"  {name:12}{''.join(words)}   ({first[0]:,.{digits}f} to {first[-1]:,.{digits}f})")


def _compare(ratio: Ratio, found: dict[str, list[Figures]]) -> None:
    """One ratio's line, of the rounds in which both have figures."""
    mine = [ratio.figure.of(one) for one in found.get(ratio.who, [])]
    what = f"{ratio.who}, {ratio.figure.name}"
    if ratio.by is not None:
        what = f"{ratio.figure.name}, {ratio.who} / {ratio.by}"
        mine = [a / ratio.figure.of(b) for a, b in zip(mine, found.get(ratio.by, []), strict=False)]
    if mine:
        median = statistics.median(mine)
        print(f"    {what:42} {median:6.2f}   ({min(mine):.2f} to {max(mine):.2f})   {ratio.verdict(median)}")


def _head() -> Iterator[str]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    yield f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Linux {platform.release()}"
    names = ("aioquic", "cryptography", "uvloop")
    yield f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names)


def main() -> None:
    """Print the figures as they come."""
    rows = ("bulk", "small", "path", "served", "handshake", "idle")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("--rows", default=",".join(rows), help=f"of {', '.join(rows)}")
    parser.add_argument("--qh3", metavar="PYTHON", help="interpreter with qh3 and uvloop")
    options = parser.parse_args()
    for line in _head():
        print(line)
    bench = Bench(options.rounds, options.qh3)
    for row in options.rows.split(","):
        if row not in rows:
            parser.error(f"no row {row!r}: one of {', '.join(rows)}")
        getattr(bench, row)()


if __name__ == "__main__":
    main()
