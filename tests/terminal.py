"""A command whose messages go to a terminal, where it tells how it goes: a test can wait for its words."""

import contextlib
import os
import pty
import select
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from tests.patience import PATIENCE_S


class Terminal:
    """The terminal of one running command; what it said there so far."""

    def __init__(self, process: "subprocess.Popen[str]", ours: int) -> None:
        self.process = process
        self.said = ""
        self._ours = ours

    def until(self, words: str) -> None:
        """Read until it has said so. Raises AssertionError with what it said instead."""
        while words not in self.said:
            assert self._read(), f"{words!r} was not said: {self.said}"

    def end(self) -> str:
        """All it said, read to its end."""
        while self._read():
            pass
        self.process.wait(PATIENCE_S)
        return self.said

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, f"silent for {PATIENCE_S:g} s after: {self.said}"
        try:
            piece = os.read(self._ours, 1 << 16)
        except OSError:  # EIO: nobody holds the other end any more
            return False
        self.said += piece.decode(errors="replace")
        return bool(piece)


@contextlib.contextmanager
def on_terminal(start: Callable[..., "subprocess.Popen[str]"], *words: str, **how: Any) -> Iterator[Terminal]:
    """The command that `start` starts with `stderr` on a terminal."""
    ours, theirs = pty.openpty()
    try:
        with start(*words, stderr=theirs, **how) as process:
            os.close(theirs)
            yield Terminal(process, ours)
    finally:
        os.close(ours)
