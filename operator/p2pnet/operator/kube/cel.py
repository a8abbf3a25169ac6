"""Words of CEL for the rules of the CRD: quantities of the document as numbers, texts by their patterns. Pure."""

from typing import NamedTuple

WHOLE_TO = 1e15
"""Bytes. Of more a double does not tell the nearest whole number."""
_SUFFIXES = {"Ki": "Ki", "Mi": "Mi", "Gi": "Gi", "KB": "k", "kB": "k", "MB": "M", "GB": "G"}
"""Units of ours as quantities of Kubernetes, which are exact, write them."""


class CelRule(NamedTuple):
    """One rule. `message_expression` is CEL for a message with values in it; `path` the field below the rule's own path."""

    rule: str
    message: str
    message_expression: str = ""
    path: str = ""


def is_like(text: str, pattern: str) -> str:
    """CEL expression: whether a text is of a pattern."""
    return f"{text}.matches(r'{pattern}')"


def said(text: str, words: str) -> str:
    """CEL expression: `'5' is no duration: ...`, of a text that is none."""
    return f"'\\'' + {text} + '\\' is {words}'"


def text_rule(pattern: str, words: str, text: str = "self") -> CelRule:
    """A text is of this pattern. `words`: what another one is told after `'5' is`."""
    return CelRule(is_like(text, pattern), words, said(text, words))


def seconds(text: str) -> str:
    """CEL expression: the seconds of a duration. By way of microseconds, of which each unit is a whole number."""
    unit = "{'us': 1.0, 'ms': 1000.0, 's': 1000000.0, 'm': 60000000.0, 'h': 3600000000.0, 'd': 86400000000.0}"
    return f"{number(text)} * {unit}[{text}.find('[a-z]+$')] / 1000000.0"


def size_bytes(text: str) -> str:
    """CEL expression: the bytes of a size."""
    unit = (
        "{'B': 1.0, 'KB': 1000.0, 'kB': 1000.0, 'MB': 1000000.0, 'GB': 1000000000.0, 'Ki': 1024.0, 'KiB': 1024.0,"
        " 'Mi': 1048576.0, 'MiB': 1048576.0, 'Gi': 1073741824.0, 'GiB': 1073741824.0}"
    )
    return f"{number(text)} * {unit}[{text}.find('[A-Za-z]+$')]"


def is_whole(text: str) -> str:
    """CEL expression: whether a size of at most `WHOLE_TO` bytes is of whole bytes; 1.1MB is, though not quite in binary."""
    size = size_bytes(text)
    suffix = " : ".join(f"{text}.contains('{unit}') ? '{its}'" for unit, its in _SUFFIXES.items())
    exact = f"quantity({text}.find('^[0-9.]+') + ({suffix} : ''))"
    return f"({size} > {WHOLE_TO!r} || sign({exact}.sub(int({size} + 0.5))) == 0)"


def between(text: str, low: float, high: float) -> str:
    """CEL expression: whether a number lies between two, both included."""
    return f"{text} >= {float(low)!r} && {text} <= {float(high)!r}"


def bits(text: str) -> str:
    """CEL expression: the bits per second of a bandwidth."""
    unit = "{'bit': 1.0, 'kbit': 1000.0, 'Kbit': 1000.0, 'Mbit': 1000000.0, 'Gbit': 1000000000.0}"
    return f"{number(text)} * {unit}[{text}.find('[A-Za-z]+$')]"


def per_second(text: str) -> str:
    """CEL expression: the events per second of a rate."""
    return f"{number(text)} / {{'s': 1.0, 'm': 60.0, 'h': 3600.0}}[{text}.find('[smh]$')]"


def number(text: str) -> str:
    """CEL expression: the number of a quantity, in its own unit."""
    return f"double({text}.find('^[0-9]+([.][0-9]+)?'))"
