"""Some of many names in a sentence."""

from collections.abc import Iterable

MOST = 8


def some(names: Iterable[str], most: int = MOST) -> str:
    """`a, b, c and 3 more`."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
