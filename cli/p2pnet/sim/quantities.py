"""Quantities as people write them, with a unit or as a bare number, parsed into the integers of the simulation."""

import math

from p2pnet.model.errors import SpecError
from p2pnet.model.units import parse_bandwidth, parse_duration, parse_share, parse_size

NS = 1_000_000_000

Duration = str | float
"""`"250ms"`, or seconds."""
Bandwidth = str | float
"""`"100Mbit"`, or bits per second."""
Size = str | int
"""`"400kB"`, or bytes."""
Share = str | float
"""`"2%"`, or a number between 0 and 1."""


def nanoseconds(value: Duration) -> int:
    """Parse a duration. Raises SpecError for what is none, or negative."""
    seconds = parse_duration(value) if isinstance(value, str) else value
    if not 0 <= seconds < math.inf:
        raise SpecError(f"{value!r} is no duration: a number with its unit, like 250ms, or seconds from 0 on")
    return round(seconds * NS)


def bits_per_second(value: Bandwidth | None) -> float | None:
    """Parse a bandwidth; None: no limit. Raises SpecError for what is none, or not above zero."""
    if value is None:
        return None
    bits = parse_bandwidth(value) if isinstance(value, str) else value
    if not 0 < bits < math.inf:
        raise SpecError(f"{value!r} is no bandwidth: a number with its unit, like 100Mbit, or bits per second above 0")
    return bits


def byte_count(value: Size) -> int:
    """Parse a size. Raises SpecError for what is none, or negative."""
    size = parse_size(value) if isinstance(value, str) else value
    if size < 0:
        raise SpecError(f"{value!r} is no size: a number with its unit, like 400kB, or bytes from 0 on")
    return size


def share(value: Share) -> float:
    """Parse a share, as a number between 0 and 1. Raises SpecError for what is none."""
    found = parse_share(value) if isinstance(value, str) else value
    if not 0 <= found <= 1:
        raise SpecError(f"{value!r} is no share: a percentage like 2%, or a number between 0 and 1")
    return found
