"""The log format of every process of a subnet: `2026-11-29T00:01:02.345Z WARNING logger: message`, in UTC.

With $P2PNET_LOG_FORMAT=json, as in pods, each line is an object instead, with keys `time level logger message`.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import msgspec

FORMAT_ENV = "P2PNET_LOG_FORMAT"
"""The variable that names the format: `text` or `json`."""
LEVEL_ENV = "P2PNET_LOG_LEVEL"
"""The variable that names the least level that is logged; INFO without it or with another word."""
FORMATS = ("text", "json")
FIELDS = "p2pnet_fields"
"""Attribute of a log record: more keys for its object, a mapping."""
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


class JsonFormatter(logging.Formatter):
    """A line is one object, a traceback included: keys `time level logger message`, perhaps `exception`, and the record's own."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging for each record."""
        more: Mapping[str, Any] = getattr(record, FIELDS, {})
        said = {
            "time": stamp(record.created), "level": record.levelname, "logger": record.name, "message": record.getMessage(),
            **more,
        }  # fmt: skip
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, separators=(",", ":"), default=str)


class JsonLine(msgspec.Struct, frozen=True):
    """A line of JsonFormatter."""

    time: str
    level: str
    logger: str
    message: str
    name: str = ""
    """The node it is about, where the supervisor of a pod wrote it."""
    exception: str = ""

    @property
    def texts(self) -> list[str]:
        """The same as lines of UtcFormatter: its own, then those of the traceback."""
        return f"{self.time} {self.level} {self.logger}: {self.message}\n{self.exception}".rstrip("\n").split("\n")

    @property
    def last(self) -> str:
        """What it says in the end: of a traceback the error."""
        return (self.exception or self.message).rstrip("\n").rpartition("\n")[2]


_decoder = msgspec.json.Decoder(JsonLine)


def is_json(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is to log objects."""
    return environment.get(FORMAT_ENV, "").strip().lower() == "json"


def log_all(handler: logging.Handler, level: str = "", *, as_json: bool | None = None) -> None:
    """Have this process log through `handler` alone, as its environment says or as `level` and `as_json` do.

    With objects also warnings, and errors that nobody caught.
    """
    asked = (level or os.environ.get(LEVEL_ENV, "")).strip().upper()
    level = asked if asked in LEVELS else "INFO"
    as_json = is_json() if as_json is None else as_json
    handler.setFormatter(JsonFormatter() if as_json else UtcFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if not as_json:
        return
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = lambda found: _log_uncaught(found.exc_type, found.exc_value, found.exc_traceback)
    threading.excepthook = lambda found: _log_uncaught(found.exc_type, found.exc_value, found.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or issubclass(kind, SystemExit):  # unraisable without a value; the end of a thread
        return
    logging.getLogger("p2pnet").critical("nobody caught: %s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def json_line(line: str) -> JsonLine | None:
    """The object in a line of JsonFormatter; None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    return found if found.level in LEVELS else None


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


def words_of(line: str) -> str:
    """What a line is shown as behind its time, level and node: its logger, where that says more, and its message."""
    parts = parts_of(line)
    if parts is None:
        return line
    _, logger, message = parts
    return message.partition(": ")[2] if logger == ABOUT_NODES else f"{logger}: {message}"


def parts_of(line: str) -> tuple[str, str, str] | None:
    """Level, logger and message of a line in this format; None for any other."""
    match = STAMP.match(line)
    level = _LEVEL.match(line, match.end()) if match else None
    return (level.group(1), level.group(2), line[level.end() :]) if level else None
