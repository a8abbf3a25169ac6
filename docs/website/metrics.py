"""The page of metrics, from the calls that make them: a node, a lab and an operator need not run for it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.website.markup import code, page, plain, table

ROOT = Path(__file__).parents[2]
SOURCES = {
    "node": "node/p2pnet/node/health.py",
    "lab": "cli/p2pnet/lab/http/subnet.py",
    "operator": "operator/p2pnet/operator/metrics.py",
}
"""The only modules that import prometheus_client."""
_KINDS = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
    "_gauge": "gauge",
}
_PREFIX = {"_gauge": "p2pnet_node_"}


@dataclass(frozen=True)
class MetricRow:
    """A metric as Prometheus scrapes it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def metrics_of(source: str) -> Iterator[MetricRow]:
    """Every metric that the text of a module makes, in order. ValueError or TypeError where its words are no constants."""
    tree = ast.parse(source)
    lists = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KINDS:
            made = node.func.id
            if isinstance(node.args[0], ast.JoinedStr):
                continue  # in the body of `_gauge`, whose callers are read
            name, meaning = _PREFIX.get(made, "") + ast.literal_eval(node.args[0]), ast.literal_eval(node.args[1])
            kind = _KINDS[made]
            labels = () if made == "_gauge" else tuple(_labels(node, lists))
            yield MetricRow(name + "_total" * (kind == "counter"), kind, labels, meaning)


def _labels(call: ast.Call, lists: dict[str, ast.List]) -> Iterator[str]:
    given = [word.value for word in call.keywords if word.arg in {"labels", "labelnames"}] or call.args[2:3]
    for one in given:
        yield from _words(one, lists)


def _words(node: ast.expr, lists: dict[str, ast.List]) -> Iterator[str]:
    if isinstance(node, ast.Name):
        node = lists[node.id]
    if not isinstance(node, ast.List):
        raise TypeError(f"line {node.lineno}: labels are no list")
    for one in node.elts:
        if isinstance(one, ast.Starred):
            yield from _words(one.value, lists)
        else:
            yield ast.literal_eval(one)


def metrics_page() -> str:
    """What node, lab and operator expose at /metrics."""
    parts = []
    for who, path in SOURCES.items():
        rows = [
            (code(one.name), one.kind, ", ".join(map(code, one.labels)), plain(one.meaning))
            for one in metrics_of((ROOT / path).read_text(encoding="utf-8"))
        ]
        parts += [f"## {who.capitalize()}", table(("metric", "kind", "labels", "meaning"), rows)]
    intro = (
        "Generated from the code: what a node, a lab and the operator answer on `/metrics`, in Prometheus' text format."
    )
    return page("# Metrics", intro, *parts)
