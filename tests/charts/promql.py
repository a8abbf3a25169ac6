"""What PromQL expressions ask for: metrics with their matchers, and labels by which they group and join."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

PLAIN = ("namespace", "subnet", "datasource")
"""Variables of the dashboard."""


class Asked(NamedTuple):
    """A metric that is selected: its matchers by label, each with the values that it allows; no values: anything."""

    metric: str
    matchers: dict[str, tuple[str, ...]]


def substituted(text: str, window: str = "15s", **values: str) -> str:
    """An expression of the dashboard as Grafana sends it; all namespaces and Subnets unless `values` has others."""
    for name in PLAIN:
        text = text.replace(f"${name}", values.get(name, ".*"))
    return text.replace("$__rate_interval", window)


def asked(expression: str) -> list[Asked]:
    """Every metric selected. ValueError where the expression is none."""
    found = []
    for node in _nodes(promql_parser.parse(expression)):
        if isinstance(node, promql_parser.VectorSelector):
            matchers = {
                one.name: tuple(part for part in one.value.split("|") if part not in ("", ".*"))
                for one in node.matchers.matchers
            }
            found.append(Asked(node.name, matchers))
    return found


def grouped(expression: str) -> set[str]:
    """Labels that aggregations and joins name."""
    found: set[str] = set()
    for node in _nodes(promql_parser.parse(expression)):
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
            found |= set(modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and modifier is not None:
            found |= set(modifier.matching.labels if modifier.matching else ()) | set(modifier.group_labels or ())
    return found


def dashboard_queries(file: Path) -> dict[str, str]:
    """Expressions by panel and letter."""
    panels = json.loads(file.read_text())["panels"]
    return {f"{panel['title']} {one['refId']}": one["expr"] for panel in panels for one in panel.get("targets", [])}


def alert_queries(file: Path) -> dict[str, str]:
    """Expressions by alert."""
    groups = yaml.safe_load(file.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        below = getattr(node, name, None)
        if below is not None:
            yield from _nodes(below)
    for below in getattr(node, "args", None) or ():
        yield from _nodes(below)
