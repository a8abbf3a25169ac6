"""Listeners: commands tell them what they wait for. On a terminal one draws on stderr, elsewhere nothing is said."""

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol, TextIO

from p2pnet.cli.terminal import clean, takes_control_sequences
from p2pnet.cli.trends import sparkline
from p2pnet.model.units import format_duration, format_rate, format_size

DRAW_INTERVAL_S = 0.1
PLAIN_INTERVAL_S = 5.0  # between lines where a drawn one cannot be replaced
PACE_AFTER_S = 3.0  # sooner a rate is chance
PACE_WINDOW_S = 10.0  # what a rate is taken over: the last seconds say more about the next ones than the first
PACE_SAMPLE_S = 0.25
LEFT_MAX_S = 86_400.0  # more is not worth a number
BAR_CELLS = 20
TREND_CELLS = 10  # of a second each
UNHEARD = contextlib.suppress(OSError, ValueError)
"""A terminal that has been closed takes nothing more: what is being done, and the order to cancel it, go on without it."""
WIDE = 100  # columns from which on there is room for the whole bar


class ProgressListener(Protocol):
    """Told what a command is doing; never asked anything."""

    def waiting(self, text: str) -> None:
        """What is waited for now, in words: `links 40/45, nodes ready 8/10`."""

    def progress(self, text: str, done: int, total: int, *, beside: str = "", octets: bool = False) -> None:
        """How far a counted piece of work called `text` is; `octets`: what is counted are bytes."""

    def milestone(self, text: str) -> None:
        """A phase ended: worth a line of its own."""

    def close(self) -> None:
        """Nothing more follows; leave the terminal clean."""


class NoProgress:
    """Off a terminal, and in tests."""

    def waiting(self, text: str) -> None:
        """Say nothing."""

    def progress(self, text: str, done: int, total: int, *, beside: str = "", octets: bool = False) -> None:
        """Say nothing."""

    def milestone(self, text: str) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing to clean."""


class Pace:
    """How fast one piece of work went lately, and how long the rest takes at that rate. Time is an argument."""

    def __init__(self) -> None:
        self._piece = ""
        self._since = 0.0
        self._samples: deque[tuple[float, int]] = deque()

    def see(self, piece: str, done: int, now: float) -> None:
        """So much of a piece is done. Another piece, or less than before, begins anew."""
        samples = self._samples
        if piece != self._piece or not samples or done < samples[-1][1]:
            self._piece, self._since = piece, now
            samples.clear()
        elif len(samples) > 1 and now - samples[-2][0] < PACE_SAMPLE_S:
            samples.pop()  # the newest one is always kept, and no more than a few in a second
        samples.append((now, done))
        while len(samples) > 2 and now - samples[1][0] >= PACE_WINDOW_S:
            samples.popleft()

    def per_s(self, now: float) -> float | None:
        """The rate; None before it means anything."""
        if not self._samples or now - self._since < PACE_AFTER_S:
            return None
        (first, before), (_, done) = self._samples[0], self._samples[-1]
        return (done - before) / (now - first) if now > first else None

    def trend(self, now: float, *, ascii_only: bool) -> str:
        """The rate of the last seconds as a sparkline, newest last; empty before it means anything."""
        if not self._samples or now - self._since < PACE_AFTER_S:
            return ""
        done = [
            self._done_at(now - PACE_WINDOW_S * (TREND_CELLS - cell) / TREND_CELLS) for cell in range(TREND_CELLS + 1)
        ]
        rates = [after - before for before, after in pairwise(done) if before is not None and after is not None]
        return sparkline(rates, max(rates, default=0.0), ascii_only=ascii_only)

    def _done_at(self, moment: float) -> float | None:
        """How much was done then, on a line between samples; None before the first."""
        if moment < self._samples[0][0]:
            return None
        for (before, least), (after, most) in pairwise(self._samples):
            if moment <= after:
                return least + (most - least) * (moment - before) / (after - before) if after > before else most
        return self._samples[-1][1]

    def words(self, total: int, now: float, *, octets: bool) -> list[str]:
        """`240/s`, `16 s left`; nothing at first, and nothing when all is done."""
        done = self._samples[-1][1] if self._samples else 0
        rate = self.per_s(now)
        if rate is None or done >= total:
            return []
        shown = f"{format_size(rate)}/s" if octets else format_rate(rate)
        if rate <= 0:
            return [shown]
        left_s = math.ceil((total - done) / rate)
        return [shown, f"{format_duration(left_s)} left" if left_s <= LEFT_MAX_S else "more than a day left"]


def counted(text: str, done: int, total: int, pace: list[str], *, beside: str = "", octets: bool = False) -> str:
    """`delivered 1200/5000, 240/s, 16 s left, published 12/20`."""
    figures = f"{format_size(done)}/{format_size(total)}" if octets else f"{done}/{total}"
    return ", ".join([f"{text} {figures}", *pace, *([beside] if beside else [])])


class TerminalProgress:
    """One live line on stderr: a spinner or a bar, with the seconds since the phase began."""

    def __init__(self, stream: TextIO, *, colour: bool, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(file=stream, no_color=not colour, highlight=False, emoji=False, markup=False)
        self._clock = clock
        self._started = clock()
        self._drawn_at = -math.inf
        self._live = False
        self._pace = Pace()

    def waiting(self, text: str) -> None:
        """Redraw the line."""
        self._draw(f"{self._frame()} {text}", force=False)

    def progress(self, text: str, done: int, total: int, *, beside: str = "", octets: bool = False) -> None:
        """Redraw the line with a bar, and after some seconds with rate and time left."""
        now = self._clock()
        self._pace.see(text, done, now)
        cells = BAR_CELLS if self._console.width >= WIDE else BAR_CELLS // 2
        filled = cells * done // total if total else 0
        ascii_only = self._console.options.ascii_only
        full, empty = ("#", ".") if ascii_only else ("█", "░")
        trend = self._pace.trend(now, ascii_only=ascii_only) if self._console.width >= WIDE and done < total else ""
        words = counted(text, done, total, self._pace.words(total, now, octets=octets), beside=beside, octets=octets)
        self._draw(
            f"{self._frame()} {full * filled}{empty * (cells - filled)} {trend}{trend and ' '}{words}",
            force=done == total,
        )

    def milestone(self, text: str) -> None:
        """A line that stays, with the seconds it took."""
        self._erase()
        mark = "*" if self._console.options.ascii_only else "✓"
        with UNHEARD:
            self._console.print(f"{mark} {text}  {self._clock() - self._started:.1f} s", style="green")
        self._started = self._clock()

    def close(self) -> None:
        """Erase the live line."""
        self._erase()

    def _frame(self) -> str:
        frames = "|/-\\" if self._console.options.ascii_only else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        return frames[int(self._clock() * 10) % len(frames)]

    def _draw(self, line: str, *, force: bool) -> None:
        from rich.cells import cell_len, set_cell_size

        now = self._clock()
        if not force and now - self._drawn_at < DRAW_INTERVAL_S:
            return
        self._drawn_at = now
        self._live = True
        room = max(20, self._console.width - 1)
        shown = clean(f"{line}  {now - self._started:.0f} s")
        cut = "..." if self._console.options.ascii_only else "…"
        if cell_len(shown) > room:
            shown = set_cell_size(shown, room - len(cut)) + cut
        with UNHEARD:
            self._console.file.write("\r\x1b[2K" + shown)
            self._console.file.flush()

    def _erase(self) -> None:
        if self._live:
            with UNHEARD:
                self._console.file.write("\r\x1b[2K")
                self._console.file.flush()
        self._live = False


class PlainProgress:
    """On a terminal that cannot take a line back (TERM=dumb): a line now and then, without any control sequence."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._started = self._said_at = clock()
        self._pace = Pace()

    def waiting(self, text: str) -> None:
        """A line, when the last one is some seconds old."""
        self._say(text)

    def progress(self, text: str, done: int, total: int, *, beside: str = "", octets: bool = False) -> None:
        """The same, with rate and time left."""
        now = self._clock()
        self._pace.see(text, done, now)
        pace = self._pace.words(total, now, octets=octets)
        self._say(counted(text, done, total, pace, beside=beside, octets=octets))

    def milestone(self, text: str) -> None:
        """A line at once."""
        self._said_at = -math.inf
        self._say(text)
        self._started = self._clock()

    def close(self) -> None:
        """Nothing to clean."""

    def _say(self, text: str) -> None:
        now = self._clock()
        if now - self._said_at >= PLAIN_INTERVAL_S:
            self._said_at = now
            line = clean(f"{text}  {now - self._started:.0f} s")
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            with UNHEARD:
                self._stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
                self._stream.flush()


def listener_for(stream: TextIO | None = None, *, quiet: bool, colour: bool) -> ProgressListener:
    """A drawing one on a terminal, a plain one on a dumb terminal, unless `quiet`; else silence."""
    stream = sys.stderr if stream is None else stream
    if quiet or not stream.isatty():
        return NoProgress()
    return TerminalProgress(stream, colour=colour) if takes_control_sequences() else PlainProgress(stream)
