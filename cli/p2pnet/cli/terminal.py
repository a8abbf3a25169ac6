"""What a terminal can show, and text that is safe to show on it."""

import contextlib
import os
import shutil
import sys
from typing import TextIO

WIDTH_OFF_TERMINAL = 120
WIDTH_MIN = 40
HEIGHT_MIN = 5  # lines: in fewer nothing can be shown
_CONTROL = {code: "?" for code in (*range(32), *range(127, 160)) if code not in (9, 10)} | {9: " "}


def clean(text: str) -> str:
    """The text without control characters: names and messages come from files and networks, and a terminal executes them."""
    return text.translate(_CONTROL)


def takes_control_sequences() -> bool:
    """Whether a terminal can erase and colour; one with TERM=dumb cannot."""
    return os.environ.get("TERM") != "dumb"


def colours_wanted() -> bool:
    """Whether to colour: not with NO_COLOR set to anything (https://no-color.org), nor on a dumb terminal."""
    return not os.environ.get("NO_COLOR") and takes_control_sequences()


def terminal_height() -> int:
    """Lines: LINES where set, else the terminal's."""
    return max(HEIGHT_MIN, shutil.get_terminal_size((80, 24)).lines)


def terminal_width(stream: TextIO) -> int:
    """Columns: COLUMNS where set, else the terminal's; off a terminal a width that logs can take."""
    if not stream.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return WIDTH_OFF_TERMINAL
    return max(WIDTH_MIN, shutil.get_terminal_size((80, 24)).columns)


def encodes_unicode(stream: TextIO) -> bool:
    """Whether the stream can take any character; if not, tables are drawn in ASCII."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def drop_stdout() -> None:
    """Discard what Python still buffers for a stdout that cannot be written, or the interpreter's exit would report it again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
