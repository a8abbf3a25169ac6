"""Quantities as people write them: `90ms`, `64KiB`, `2/s`, `50Mbit`, `0.2%`. A number without its unit is an error."""

import re
from decimal import Context, Decimal

from p2pnet.model.errors import SpecError

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_SECONDS = {"us": "0.000001", "ms": "0.001", "s": "1", "m": "60", "h": "3600", "d": "86400"}
_BYTES = {
    "B": 1, "KB": 10**3, "kB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 1 << 10, "Ki": 1 << 10, "MiB": 1 << 20, "Mi": 1 << 20, "GiB": 1 << 30, "Gi": 1 << 30,
}  # fmt: skip
_BITS = {"bit": 1, "kbit": 10**3, "Kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}
_EXACT = Context(
    prec=200
)  # digits: more than the longest text that documents and options take has, so that none is rounded
_RATES = {"/s": "1", "/m": "60", "/h": "3600"}


def _words(what: str, example: str, units: dict[str, str] | dict[str, int]) -> str:
    return f"no {what}: write a number with its unit, like {example} (units: {' '.join(units)})"


NO_DURATION = _words("duration", "90ms or 2h", _SECONDS)
NO_SIZE = _words("size", "64KiB", _BYTES)
NO_WHOLE_SIZE = "no size: it is not a whole number of bytes"
NO_BANDWIDTH = _words("bandwidth", "50Mbit", _BITS)
NO_RATE = "no rate: write a number per time above zero, like 2/s or 30/m"
NO_SHARE = "no share: write a percentage between 0% and 100%, like 0.2%"
"""What a wrong text is told after `'5' is`, here and by an API server."""


def _parse(text: str, units: dict[str, str] | dict[str, int], words: str) -> Decimal:
    match = re.fullmatch(_NUMBER + r"\s*(\D+)", text.strip()) if isinstance(text, str) else None
    if match is None or match.group(2) not in units:
        raise SpecError(f"{text!r} is {words}")
    return _EXACT.multiply(Decimal(match.group(1)), Decimal(units[match.group(2)]))


def parse_duration(text: str) -> float:
    """Seconds."""
    return float(_parse(text, _SECONDS, NO_DURATION))


def parse_size(text: str) -> int:
    """Bytes; a fraction of a byte is an error."""
    size = _parse(text, _BYTES, NO_SIZE)
    if size != int(size):
        raise SpecError(f"{text!r} is {NO_WHOLE_SIZE}")
    return int(size)


def parse_bandwidth(text: str) -> float:
    """Bits per second."""
    return float(_parse(text, _BITS, NO_BANDWIDTH))


def parse_rate(text: str) -> float:
    """Events per second, above zero."""
    match = re.fullmatch(_NUMBER + r"\s*(/[smh])", text.strip())
    if match is None or Decimal(match.group(1)) <= 0:
        raise SpecError(f"{text!r} is {NO_RATE}")
    return float(Decimal(match.group(1)) / Decimal(_RATES[match.group(2)]))


def parse_throughput(text: str) -> float:
    """Bytes per second."""
    size, slash, second = text.strip().rpartition("/") if isinstance(text, str) else ("", "", "")
    try:
        if (slash, second) != ("/", "s"):
            raise SpecError(text)
        return float(_parse(size, _BYTES, NO_SIZE))
    except SpecError:
        units = " ".join(f"{unit}/s" for unit in _BYTES)
        raise SpecError(f"{text!r} is no throughput: write bytes per second, like 5MB/s (units: {units})") from None


def parse_share(text: str) -> float:
    """A share between 0 and 1, written in percent."""
    match = re.fullmatch(_NUMBER + r"\s*%", text.strip())
    if match is None or Decimal(match.group(1)) > 100:
        raise SpecError(f"{text!r} is {NO_SHARE}")
    return float(Decimal(match.group(1)) / 100)


def format_size(size: float) -> str:
    """`64 KiB`, `1.5 MiB`: for people."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if size / scale < 1000 else f"{size / scale:.0f} {unit}"
    return f"{size:.0f} B"


def format_rate(per_s: float) -> str:
    """`240/s`, `4.98/s`, `0.05/s`: for people."""
    return f"{per_s:,.0f}/s" if per_s >= 1000 else f"{per_s:.3g}/s"


def format_bandwidth(bits_per_s: float) -> str:
    """`50 Mbit/s`, `9.77 Mbit/s`, `640 kbit/s`: for people."""
    for unit, scale in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits_per_s >= scale:
            return (
                f"{bits_per_s / scale:.3g} {unit}" if bits_per_s < 1000 * scale else f"{bits_per_s / scale:.0f} {unit}"
            )
    return f"{bits_per_s:.3g} bit/s"


def format_duration(seconds: float) -> str:
    """`850 µs`, `12.3 ms`, `4.5 s`, `3m 20s`, `2h 5m`, `6d 3h`: for people."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 120:
        return f"{minutes}m {rest}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes}m"
    return f"{hours // 24}d {hours % 24}h"
