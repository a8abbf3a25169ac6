"""Lines of logs: written in UTC, read in any zone, in order across the hour that clocks are set back."""

import json
import logging
import os
import subprocess
import sys
import time

import pytest

from p2pnet.model.log_lines import FIELDS, JsonFormatter, UtcFormatter, json_line, parts_of, stamp, stamp_of

BEFORE_THE_CHANGE = 1_792_890_000.5  # 2026-10-25 00:20:00.5 UTC, 02:20 in summer's Berlin
AFTER_IT = BEFORE_THE_CHANGE + 3600  # 02:20 again, in winter's


def written(at: float, level: int = logging.WARNING, message: str = "hello") -> str:
    record = logging.LogRecord("p2pnet.node", level, "", 0, message, (), None)
    record.created = at
    return UtcFormatter().format(record)


def test_a_line_says_utc_level_and_logger_and_is_read_back():
    line = written(1_795_911_633.25)
    assert line == "2026-11-29T00:20:33.250Z WARNING p2pnet.node: hello"
    assert stamp_of(line) == 1_795_911_633.25
    assert parts_of(line) == ("WARNING", "p2pnet.node", "hello")
    assert stamp(1_795_911_633.25) == "2026-11-29T00:20:33.250Z"


def test_a_line_that_is_an_object_reads_as_the_same_lines_of_text():
    record = logging.LogRecord("p2pnet.node", logging.WARNING, "", 0, 'says "%s"\nand more', ("ö\ud800",), None)
    record.created = 1_795_911_633.25
    setattr(record, FIELDS, {"event": "exited", "name": "node-1"})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert '"event":"exited","name":"node-1"' in line
    assert json.loads(line)["time"] == "2026-11-29T00:20:33.250Z"
    found = json_line(line.encode("utf-8", "replace").decode())
    assert found is not None
    assert found.texts == ['2026-11-29T00:20:33.250Z WARNING p2pnet.node: says "ö?"', "and more"]
    assert found.name == "node-1"
    assert [json_line(other) for other in ("hello", "{", '{"a":1}', line.replace("WARNING", "LOUD"))] == [None] * 4


def test_with_objects_warnings_and_what_nobody_caught_are_objects_too():
    program = (
        "import logging, sys, threading, warnings\n"
        "from p2pnet.model.log_lines import log_all\n"
        "log_all(logging.StreamHandler(sys.stderr))\n"
        "warnings.warn('old')\n"
        "logging.getLogger('library').info('of a library')\n"
        "logging.getLogger('library').debug('more of it')\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "class Bad:\n"
        "    def __del__(self): raise ValueError('late')\n"
        "Bad()\n"
        "raise RuntimeError('the end')\n"
    )
    environment = {**os.environ, "P2PNET_LOG_FORMAT": "json", "P2PNET_LOG_LEVEL": "debug"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    found = [json_line(line) for line in done.stderr.splitlines()]
    assert None not in found, done.stderr
    lines = [one for one in found if one]
    assert [(one.level, one.logger) for one in lines] == [
        ("WARNING", "py.warnings"), ("INFO", "library"), ("DEBUG", "library"), *[("CRITICAL", "p2pnet")] * 3,
    ]  # fmt: skip
    assert [one.last for one in lines[3:]] == [
        "ZeroDivisionError: division by zero", "ValueError: late", "RuntimeError: the end",
    ]  # fmt: skip
    assert done.returncode == 1


def test_the_hour_that_comes_twice_keeps_its_order_in_the_text_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        lines = [written(BEFORE_THE_CHANGE), written(AFTER_IT)]
        assert lines == sorted(lines)
        assert [stamp_of(line) for line in lines] == [BEFORE_THE_CHANGE, AFTER_IT]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-29T01:20:33.250+01:00 x", "2026-11-29T00:20:33.250Z x"),
        ("2026-11-29 00:20:33,250 x", "2026-11-29 00:20:33.250 x"),
        ("2026-11-29T00:20:33Z x", "2026-11-29T00:20:33.000Z x"),
    ],
)
def test_other_spellings_of_a_time_are_understood(text, same):
    assert stamp_of(text) == stamp_of(same) is not None


@pytest.mark.parametrize(
    "text", ["", "Traceback (most recent call last):", "2026-13-40T00:00:00Z INFO x: y", "  at 2026"]
)
def test_what_carries_no_time_has_none(text):
    assert stamp_of(text) is None


@pytest.mark.parametrize(
    "text", ["", "hello", "2026-11-29T00:20:33.250Z hello: x", "2026-11-29T00:20:33.250Z NOTE a: x"]
)
def test_a_line_that_a_client_printed_has_no_level(text):
    assert parts_of(text) is None


def test_lines_without_a_time_carry_the_one_before_them():
    assert stamp_of("Traceback (most recent call last):") is None
    assert stamp_of("2026-11-21 10:00:01,500 INFO x") - stamp_of("2026-11-21 10:00:01,000 INFO x") == 0.5
