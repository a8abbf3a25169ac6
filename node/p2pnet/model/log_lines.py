"""The log format of every process of a subnet: `2026-11-29T00:01:02.345Z WARNING logger: message`, in UTC."""

import logging
import re
from datetime import UTC, datetime

STAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)?")
"""The time at the start of a line, in the spellings of common loggers."""
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""Names of levels, least first."""
ABOUT_NODES = "p2pnet.lab.nodes"
"""Logger of the lab's lines about one node: the message begins with the node's name and a colon."""
_LEVEL = re.compile(rf" ({'|'.join(LEVELS)}) ([\w.]+): ")


class UtcFormatter(logging.Formatter):
    """Stamps lines in RFC 3339 with milliseconds: UTC sorts correctly also in the hour that clocks are set back."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - of logging
        """Called by logging for the record's time."""
        del datefmt
        return stamp(record.created)


def stamp(seconds: float) -> str:
    """Unix seconds in RFC 3339, UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp_of(line: str) -> float | None:
    """Unix seconds of the time a line begins with; None when it begins otherwise. Without an offset it is local time."""
    match = STAMP.match(line)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match.group().replace(",", ".")).timestamp()
    except ValueError:
        return None


def parts_of(line: str) -> tuple[str, str, str] | None:
    """Level, logger and message of a line in this format; None for any other."""
    match = STAMP.match(line)
    level = _LEVEL.match(line, match.end()) if match else None
    return (level.group(1), level.group(2), line[level.end() :]) if level else None
