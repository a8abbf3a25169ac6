"""How figures went in the last minute, for a status that is watched: sparklines on a terminal. Pure: time is an argument."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from p2pnet.model.jobs import Progress, RunState
from p2pnet.model.report import Status

TREND, TREND_ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#@"
CELLS_MAX = 60  # of a second each
LATE_S = 3.0  # a total that did not grow for so long stands still; until then its next figure is just not here yet
SAMPLES_MAX = 4 * CELLS_MAX


def sparkline(values: Sequence[float], most: float, *, ascii_only: bool) -> str:
    """A cell per value, as high as its share of `most`; only zero is the lowest, only `most` and more the highest."""
    ramp = TREND_ASCII if ascii_only else TREND
    top = len(ramp) - 1
    return "".join(ramp[min(top, math.ceil(top * max(0.0, value) / most)) if most > 0 else 0] for value in values)


@dataclass(frozen=True, slots=True)
class RunTrend:
    """The run that goes on: how far it is, and what it did in each second, the newest last."""

    run: str
    progress: Progress
    delivered_per_s: tuple[float, ...]
    bytes_per_s: tuple[float, ...]
    """What all nodes sent, on the wire; empty where the lab does not tell it."""


@dataclass(frozen=True, slots=True)
class Trends:
    """The last minute of a subnet by the second, the newest last."""

    connected: tuple[int, ...]
    """Nodes."""
    links_up: tuple[int, ...]
    run: RunTrend | None = None


class Watched:
    """Remembers what was seen of a subnet. A look at it is taken about once a second."""

    def __init__(self) -> None:
        self._connected = _Levels()
        self._links_up = _Levels()
        self._run = ""
        self._delivered = _Growth()
        self._bytes = _Growth()

    def see(self, status: Status, running: RunState | None, now: float) -> Trends:
        """Take in one look at `now`, in seconds of any clock that does not go back; how it went until then."""
        self._connected.see(status.nodes.connected, now)
        self._links_up.see(status.links.up, now)
        trend = None if running is None else self._see_run(running, now)
        return Trends(self._connected.by_second(now), self._links_up.by_second(now), trend)

    def _see_run(self, running: RunState, now: float) -> RunTrend:
        if running.run != self._run:
            self._run, self._delivered, self._bytes = running.run, _Growth(), _Growth()
        progress = running.progress
        self._delivered.see(progress.delivered, now)
        self._bytes.see(progress.sent_bytes, now)
        told = self._bytes.by_second(now) if progress.sent_bytes else ()
        return RunTrend(running.run, progress, self._delivered.by_second(now), told)


class _Levels:
    """What a figure was at each time."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)

    def see(self, value: int, now: float) -> None:
        self._seen.append((now, value))

    def by_second(self, now: float) -> tuple[int, ...]:
        """The figure at the end of each second, from when it was seen first."""
        found, rest = [], list(self._seen)
        for cell in range(CELLS_MAX):
            while rest and rest[-1][0] > now - cell:
                rest.pop()
            if not rest:
                break
            found.append(rest[-1][1])
        return tuple(reversed(found))


class _Growth:
    """How fast a total grew; it may be told less often than it is looked at."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)
        """When it was seen to have changed, and to what."""

    def see(self, total: int, now: float) -> None:
        if not self._seen or total != self._seen[-1][1]:
            self._seen.append((now, total))

    def by_second(self, now: float) -> tuple[float, ...]:
        """Its growth in each second, on lines between what was seen."""
        if len(self._seen) < 2:  # one point is no line
            return ()
        last = self._seen[-1][0]
        end = last if now - last < LATE_S else now
        totals = []
        for cell in range(CELLS_MAX + 1):
            total = self._at(end - cell)
            if total is None:
                break
            totals.append(total)
        return tuple(after - before for before, after in pairwise(reversed(totals)))

    def _at(self, moment: float) -> float | None:
        """The total then; None before it was seen first."""
        if moment < self._seen[0][0]:
            return None
        for (before, least), (after, most) in pairwise(self._seen):
            if moment <= after:
                return least + (most - least) * (moment - before) / (after - before) if after > before else most
        return self._seen[-1][1]
