"""Faults in a file that a person named: one, or a list of them, as in `spec.faults`."""

import sys
from pathlib import Path
from typing import Any

from p2pnet.cli.fault_request import Fault
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.spec_file import unreadable
from p2pnet.model.errors import SpecError
from p2pnet.subnet.reading import values_of

FAULTS_MAX = 64  # what spec.faults holds
CORRECT = "write one fault or a list of them, as in spec.faults: p2pnet schema subnet shows what is known"


def read_faults(path: Path) -> list[Fault]:
    """The faults of a YAML or JSON file, of stdin for `-`; what they say is checked by the lab. CommandError (exit 2)."""
    label = "stdin" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.buffer.read() if label == "stdin" else path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        values = values_of(text)
    except SpecError as error:
        raise _wrong(str(error), label) from None
    faults: list[Any] = [one for value in values for one in (value if isinstance(value, list) else [value])]
    if not faults:
        raise _wrong("there is no fault in it", label)
    if len(faults) > FAULTS_MAX:
        raise _wrong(f"{len(faults)} faults are more than a subnet has, {FAULTS_MAX}", label)
    for index, fault in enumerate(faults):
        if not isinstance(fault, dict):
            raise _wrong(f"[{index}]: a fault is a mapping, not {str(fault)[:40]!r}", label)
        if "kind" in fault and "spec" in fault:
            raise _wrong("this is a whole document, not a fault", label)
    names = [fault["name"] for fault in faults if fault.get("name") is not None]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(f"two faults are named {twice}", label)
    return faults


def _wrong(what: str, label: str) -> CommandError:
    return CommandError(what, where=label, next_step=CORRECT)
