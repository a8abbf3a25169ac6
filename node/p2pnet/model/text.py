"""Text forms that several rooms share: addresses as `host:port`, names in a sentence, signals."""

import signal
from collections.abc import Iterable


def parse_address(text: str) -> tuple[str, int] | None:
    """`host:port` or `[v6]:port` as a pair; None when it is neither."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def address_text(host: str, port: int) -> str:
    """What `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


MOST = 8


def some(names: Iterable[str], most: int = MOST) -> str:
    """`a, b, c and 3 more`."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 40` for one without a name, as real-time signals are."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
