"""Text forms that several rooms share: addresses as `host:port`, names and counts in a sentence, signals."""

import signal
from collections.abc import Iterable


def parse_address(text: str) -> tuple[str, int] | None:
    """`host:port` or `[v6]:port` as (host, port); None for any other text."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def address_text(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets: what `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


NAMES_SHOWN = 8
"""Default of `some`: more are counted."""


def some(names: Iterable[str], most: int = NAMES_SHOWN) -> str:
    """Names in a sentence: `a, b, c and 3 more`."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def plural(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`, `1,234 nodes`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 40` for one without a name, as real-time signals are."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
