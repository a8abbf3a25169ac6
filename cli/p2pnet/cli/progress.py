"""Listeners: commands tell them what they wait for. On a terminal one draws on stderr, elsewhere nothing is said."""

import sys
import time
from typing import Protocol, Self, TextIO

DRAW_INTERVAL_S = 0.1


class Listener(Protocol):
    """Told what a command is doing; never asked anything."""

    def waiting(self, text: str) -> None:
        """What is waited for now, in words: `links 40/45, nodes ready 8/10`."""

    def progress(self, text: str, done: int, total: int) -> None:
        """How far a counted piece of work is."""

    def milestone(self, text: str) -> None:
        """A phase ended: worth a line of its own."""

    def close(self) -> None:
        """Nothing more follows; leave the terminal clean."""


class Silence:
    """Off a terminal, and in tests."""

    def waiting(self, text: str) -> None:
        """Say nothing."""

    def progress(self, text: str, done: int, total: int) -> None:
        """Say nothing."""

    def milestone(self, text: str) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing to clean."""


class Terminal:
    """One live line on stderr: a spinner or a bar, with the seconds since the phase began."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        from rich.console import Console

        self._console = Console(file=stream, no_color=not colour, highlight=False, emoji=False, markup=False)
        self._started = time.monotonic()
        self._drawn_at = 0.0
        self._live = False

    @classmethod
    def on(cls, stream: TextIO, *, colour: bool) -> Self:
        """A listener for this terminal."""
        return cls(stream, colour=colour)

    def waiting(self, text: str) -> None:
        """Redraw the line."""
        self._draw(f"{self._frame()} {text}", force=False)

    def progress(self, text: str, done: int, total: int) -> None:
        """Redraw the line with a bar."""
        cells = 20
        filled = cells * done // total if total else 0
        full, empty = ("#", ".") if self._console.options.ascii_only else ("█", "░")
        self._draw(
            f"{self._frame()} {full * filled}{empty * (cells - filled)} {done}/{total} {text}", force=done == total
        )

    def milestone(self, text: str) -> None:
        """A line that stays, with the seconds it took."""
        self._erase()
        mark = "*" if self._console.options.ascii_only else "✓"
        self._console.print(f"{mark} {text}  {time.monotonic() - self._started:.1f} s", style="green")
        self._started = time.monotonic()

    def close(self) -> None:
        """Erase the live line."""
        self._erase()

    def _frame(self) -> str:
        frames = "|/-\\" if self._console.options.ascii_only else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        return frames[int(time.monotonic() * 10) % len(frames)]

    def _draw(self, line: str, *, force: bool) -> None:
        now = time.monotonic()
        if not force and now - self._drawn_at < DRAW_INTERVAL_S:
            return
        self._drawn_at = now
        self._live = True
        room = max(20, self._console.width - 1)
        shown = f"{line}  {now - self._started:.0f} s"
        self._console.file.write("\r\x1b[2K" + (shown if len(shown) <= room else shown[: room - 1] + "…"))
        self._console.file.flush()

    def _erase(self) -> None:
        if self._live:
            self._console.file.write("\r\x1b[2K")
            self._console.file.flush()
        self._live = False


class Lines(Silence):
    """On a terminal that cannot erase: what has ended, a line each."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = time.monotonic()

    def milestone(self, text: str) -> None:
        """A line with the seconds it took."""
        self._stream.write(f"* {text}  {time.monotonic() - self._started:.1f} s\n")
        self._stream.flush()
        self._started = time.monotonic()


def listener_for(stream: TextIO | None = None, *, quiet: bool, colour: bool, clever: bool = True) -> Listener:
    """A drawing one on a terminal that is `clever` enough to erase a line, unless `quiet`; off a terminal silence."""
    stream = sys.stderr if stream is None else stream
    if quiet or not stream.isatty():
        return Silence()
    return Terminal.on(stream, colour=colour) if clever else Lines(stream)
