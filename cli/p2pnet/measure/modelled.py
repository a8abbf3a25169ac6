"""The emulated network of a simulated run: what was asked of its links, rule by rule, in force by construction. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.model.report import LinkFigures, NetworkRow, SeenFigures

_MS = 1e6


class ModelledPath(NamedTuple):
    """What some links of a rule do, one way."""

    rule: str
    shape: LinkShape


class ModelledLine(NamedTuple):
    """What some access links of a rule do, one way."""

    rule: str
    shape: AccessShape


def modelled_rows(
    paths: Counter[ModelledPath], lines: Counter[ModelledLine], selectors: Callable[[str], tuple[str, str]]
) -> list[NetworkRow]:
    """A row for each rule, with the means over its links: of paths first, in the order in which rules first appear.

    `paths`, `lines`: how many directed links, and directions of access links, do what. `selectors`: both ends of a rule.
    """
    rows = []
    for rule in dict.fromkeys(path.rule for path in paths if path.rule):
        found = [(path.shape, count) for path, count in paths.items() if path.rule == rule]
        asked = LinkFigures(
            delay_ms=_mean((0 if shape.blocked else shape.delay_ns / _MS, count) for shape, count in found),
            jitter_ms=_mean((0 if shape.blocked else shape.jitter_ns / _MS, count) for shape, count in found),
            loss=_mean((1 if shape.blocked else shape.loss, count) for shape, count in found),
            bandwidth_bps=_mean((shape.bandwidth_bps or 0, count) for shape, count in found),
        )
        rows.append(_row(rule, selectors(rule), asked, sum(count for _, count in found)))
    for rule in dict.fromkeys(line.rule for line in lines):
        limits = [(line.shape.bandwidth_bps, count) for line, count in lines.items() if line.rule == rule]
        rows.append(
            _row(rule, selectors(rule), LinkFigures(bandwidth_bps=_mean(limits)), sum(count for _, count in limits))
        )
    return rows


def _row(rule: str, ends: tuple[str, str], asked: LinkFigures, links: int) -> NetworkRow:
    return NetworkRow(
        rule=rule, source=ends[0], to=ends[1], asked=asked, seen=SeenFigures(), ok=True, links=links, links_total=links,
        modelled=True,
    )  # fmt: skip


def _mean(values: Iterable[tuple[float, int]]) -> float | None:
    """The mean of the values that ask for something, each so many times; None when none does."""
    asking = [(value, count) for value, count in values if value]
    total = sum(count for _, count in asking)
    return sum(value * count for value, count in asking) / total if total else None
