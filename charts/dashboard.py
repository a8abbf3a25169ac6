"""The Grafana dashboard as data: rows of panels, each with a question, a unit and its expressions. `generate.py` writes it.

Series of nodes and labs have their Subnet as `p2pnet_io_subnet`, from the pod's label; those of the operator as `subnet`.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

HEIGHT = 8  # of a panel, in Grafana's grid
WIDTH = 24  # of the grid
SCHEMA = 39
"""Grafana's version of this form: what it has newer ways for, it migrates as it loads it."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
NODES = 'namespace=~"$namespace",p2pnet_io_subnet=~"$subnet"'
SUBNETS = 'namespace=~"$namespace",subnet=~"$subnet"'
BY = "namespace, p2pnet_io_subnet"
NAME = "{{namespace}}/{{p2pnet_io_subnet}}"
THEIRS = "namespace, subnet"
SUBNET = "{{namespace}}/{{subnet}}"

Panel = dict[str, Any]


class Graph(NamedTuple):
    """A panel: `queries` are (expression, legend)."""

    title: str
    meaning: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    ceiling: float | None = None


def of_nodes(metric: str, *labels: str) -> str:
    """A metric of nodes or labs, of the Subnets chosen above."""
    return f"{metric}{{{','.join((NODES, *labels))}}}"


def of_subnets(metric: str, *labels: str) -> str:
    """A metric of the operator about the Subnets chosen above."""
    return f"{metric}{{{','.join((SUBNETS, *labels))}}}"


def summed(by: str, series: str) -> str:
    """Gauges together."""
    return f"sum by ({by}) ({series})"


def rated(by: str, series: str) -> str:
    """Counters together, as a rate a second."""
    return f"sum by ({by}) (rate({series}[$__rate_interval]))"


def quantile(share: float) -> str:
    """Of the durations of reconciliations."""
    buckets = rated("le", "p2pnet_reconcile_duration_seconds_bucket")
    return f"histogram_quantile({share}, {buckets})"


# One series each, though two operators may tell of a Subnet while one takes over from the other.
CONDITIONS = (
    f"max by ({THEIRS}, condition, status) ({of_subnets('p2pnet_subnet_condition')}) "
    f"* on ({THEIRS}, condition) group_left (reason) "
    f"topk by ({THEIRS}, condition) (1, max by ({THEIRS}, condition, reason) "
    f"({of_subnets('p2pnet_subnet_condition_reason')})) == 1"
)
UP, EXPECTED = 'state="up"', 'state="expected"'
DUPLICATE, VALIDATED = 'kind="duplicate"', 'kind="validated"'
LINKS_UP = (
    f"{summed(BY, of_nodes('p2pnet_lab_links', UP))} / ({summed(BY, of_nodes('p2pnet_lab_links', EXPECTED))} > 0)"
)
DUPLICATES = (
    f"{rated(BY, of_nodes('p2pnet_node_events_total', DUPLICATE))} / "
    f"({rated(BY, of_nodes('p2pnet_node_events_total', VALIDATED))} > 0)"
)
UNREADY = f"count by ({BY}) ({of_nodes('p2pnet_node_ready')} == 0) or {summed(BY, of_nodes('p2pnet_node_ready'))} * 0"
EXPIRY = f"min by ({THEIRS}) ({of_subnets('p2pnet_certificate_expiry_timestamp_seconds')}) - time()"
KINDS = 'kind=~"published|received|validated|duplicate|rejected"'
TROUBLES = 'what=~"send_errors|fetch_errors|resent|given_up|publications_refused"'
WAITING = 'what=~"publications_waiting|relays_waiting|tasks|unvalidated"'
DELAY = 'figure="delay_ms"'

ROWS: dict[str, tuple[Graph, ...]] = {
    "Subnets": (
        Graph("Conditions", "What each says now, with the reason it gives.", ((CONDITIONS, ""),), kind="table"),
        Graph(
            "Nodes by state", "Desired, ready (their pods are), and connected (the lab sees all their links).",
            ((summed(f"{THEIRS}, state", of_subnets("p2pnet_subnet_nodes")), f"{SUBNET} {{{{state}}}}"),),
        ),
        Graph(
            "Links up", "Share of the expected links that are authenticated at both ends.", ((LINKS_UP, NAME),),
            "percentunit", ceiling=1,
        ),
        Graph(
            "Time until the first leaf expires", "It falls to a third of a leaf's life and rises again, or nobody renews.",
            ((EXPIRY, SUBNET),), "s",
        ),
    ),
    "Runs and Injections": (
        Graph(
            "Injections by state", "Those that are there, by the Subnet they name.",
            ((summed(f"{THEIRS}, state", of_subnets("p2pnet_subnet_injections")), f"{SUBNET} {{{{state}}}}"),),
        ),
        Graph(
            "Injections ended", "By verdict, of all Subnets of this operator.",
            (("sum by (verdict) (increase(p2pnet_injections_total[$__rate_interval]))", "{{verdict}}"),),
        ),
        Graph(
            "Runs by state", "Of each lab: Injections, and what people asked for.",
            ((summed(f"{BY}, state", of_nodes("p2pnet_lab_runs")), f"{NAME} {{{{state}}}}"),),
        ),
        Graph(
            "Runs by verdict", "Of those that a lab knows.",
            ((summed(f"{BY}, verdict", of_nodes("p2pnet_lab_run_verdicts")), f"{NAME} {{{{verdict}}}}"),),
        ),
        Graph(
            "Reach of the last run", "Share of the receipts it asked for.",
            ((of_nodes("p2pnet_lab_last_run_reach_ratio"), NAME),), "percentunit", ceiling=1,
        ),
        Graph(
            "p95 latency of the last run", "From publishing to the moment a node's client has validated it.",
            ((of_nodes("p2pnet_lab_last_run_p95_seconds"), NAME),), "s",
        ),
    ),
    "Propagation": (
        Graph(
            "Artifacts through the nodes", "Published, and what became of them at those who did not publish them.",
            ((rated("kind", of_nodes("p2pnet_node_events_total", KINDS)), "{{kind}}"),), "cps",
        ),
        Graph("Duplicates per delivery", "Whole payloads for what was held already.", ((DUPLICATES, NAME),)),
        Graph(
            "What went wrong on the way", "Sent again, failed fetches, peers given up, publications refused.",
            ((rated("what", of_nodes("p2pnet_broadcast_total", TROUBLES)), "{{what}}"),), "cps",
        ),
        Graph(
            "Under way in the nodes", "What waits for a slot, fetches that are open, what is not validated yet.",
            ((summed("what", of_nodes("p2pnet_broadcast_now", WAITING)), "{{what}}"),),
        ),
        Graph(
            "UDP payload exchanged with peers", "The lab's links are left out.",
            ((rated("direction", of_nodes("p2pnet_node_udp_bytes_total")), "{{direction}}"),), "Bps",
        ),
        Graph(
            "Artifacts in validated pools", "Of all nodes together.",
            ((summed("client", of_nodes("p2pnet_node_pool_artifacts")), "{{client}}"),),
        ),
    ),
    "Nodes": (
        Graph(
            "Peers in use and wanted", "Of all nodes together.",
            ((summed(BY, of_nodes("p2pnet_node_peers")), f"{NAME} in use"),
             (summed(BY, of_nodes("p2pnet_node_peers_wanted")), f"{NAME} wanted")),
        ),
        Graph(
            "Event loop lateness, worst ten nodes", "Over a second, what is measured there says little.",
            ((f"topk(10, {of_nodes('p2pnet_node_loop_lag_seconds')})", "{{pod}} {{node}}"),), "s",
        ),
        Graph("CPU of the nodes", "Cores, user and system.", ((rated(BY, of_nodes("p2pnet_node_cpu_seconds_total")), NAME),)),
        Graph("Nodes that are not ready", "As they say themselves.", ((UNREADY, NAME),)),
        Graph(
            "Restarts", "Nodes that ended and were started again, since the lab began.",
            ((of_nodes("p2pnet_lab_restarts"), NAME),),
        ),
        Graph(
            "Handshakes and hellos refused", "By the nodes, whoever called.",
            ((rated(BY, of_nodes("p2pnet_node_refused_total")), NAME),), "cps",
        ),
    ),
    "Network and faults": (
        Graph(
            "Rules in force", "1: the canary has seen the figures that a rule asks for.",
            ((of_nodes("p2pnet_lab_network_in_force"), f"{NAME} {{{{rule}}}}"),), ceiling=1,
        ),
        Graph(
            "Delay asked for and seen", "One way, by rule.",
            ((of_nodes("p2pnet_lab_network_asked", DELAY), f"{NAME} {{{{rule}}}} asked"),
             (of_nodes("p2pnet_lab_network_seen", DELAY), f"{NAME} {{{{rule}}}} seen")), "ms",
        ),
        Graph(
            "Datagrams dropped", "By the emulated network, with the reason.",
            ((rated("at, reason", of_nodes("p2pnet_node_network_dropped_total")), "{{at}} {{reason}}"),), "cps",
        ),
        Graph(
            "Faults by state", "Those of documents, scenarios and commands.",
            ((summed(f"{BY}, state", of_nodes("p2pnet_lab_faults")), f"{NAME} {{{{state}}}}"),),
        ),
    ),
    "Operator": (
        Graph(
            "Acting replicas", "One; none for over 15 s is an outage.", (("sum(p2pnet_leader)", "acting"),),
        ),
        Graph(
            "Reconciliations by result", "conflict is harmless; forbidden misses a right; error is in the log.",
            ((rated("result", "p2pnet_reconcile_total"), "{{result}}"),), "cps",
        ),
        Graph(
            "Duration of a reconciliation", "Milliseconds at rest, seconds while pods are made.",
            ((quantile(0.5), "median"), (quantile(0.99), "p99")), "s",
        ),
        Graph(
            "Requests to the API server", "By verb and status.",
            ((rated("verb, code", "p2pnet_api_requests_total"), "{{verb}} {{code}}"),), "reqps",
        ),
        Graph("Resources waiting for a worker", "Near 0.", (("sum by (pod) (p2pnet_workqueue_depth)", "{{pod}}"),)),
        Graph(
            "Time since the last full list", "All resources are listed every 5 minutes.",
            (("time() - max by (pod) (p2pnet_last_list_timestamp_seconds > 0)", "{{pod}}"),), "s",
        ),
    ),
}  # fmt: skip


def dashboard() -> str:
    """The dashboard as Grafana imports it, JSON with its panels in order."""
    body = {
        "title": "p2pnet",
        "uid": "p2pnet",
        "description": "Subnets of p2pnet: their state, what runs through them, their network, and the operator.",
        "tags": ["p2pnet"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(_panels()),
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def _variables() -> list[Panel]:
    def values(name: str, query: str) -> Panel:
        return {
            "name": name, "type": "query", "datasource": DATASOURCE, "query": query,
            "includeAll": True, "multi": True, "refresh": 2, "sort": 1,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }  # fmt: skip

    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
        values("namespace", "label_values(p2pnet_subnet_nodes, namespace)"),
        values("subnet", 'label_values(p2pnet_subnet_nodes{namespace=~"$namespace"}, subnet)'),
    ]


def _panels() -> Iterator[Panel]:
    number, top = 0, 0
    for title, graphs in ROWS.items():
        number += 1
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        top += 1
        across = 2 if len(graphs) % 3 else 3
        width = WIDTH // across
        for index, graph in enumerate(graphs):
            number += 1
            place = {"x": index % across * width, "y": top + index // across * HEIGHT, "w": width, "h": HEIGHT}
            yield {"id": number, "gridPos": place, **_panel(graph)}
        top += -(-len(graphs) // across) * HEIGHT


def _panel(graph: Graph) -> Panel:
    defaults: Panel = {"unit": graph.unit, "min": 0}
    if graph.ceiling is not None:
        defaults["max"] = graph.ceiling
    if graph.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 10,
            "showPoints": "never",
            "spanNulls": False,
        }
    panel = {
        "type": graph.kind, "title": graph.title, "description": graph.meaning, "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [_target(chr(ord("A") + index), graph.kind, *query) for index, query in enumerate(graph.queries)],
    }  # fmt: skip
    if graph.kind == "table":
        shown = ("namespace", "subnet", "condition", "status", "reason")
        hidden = ("Time", "Value")
        panel["options"] = {
            "showHeader": True,
            "cellHeight": "sm",
            "footer": {"show": False, "reducer": [], "countRows": False},
        }
        order = {
            "excludeByName": dict.fromkeys(hidden, True),
            "indexByName": {name: at for at, name in enumerate(shown)},
        }
        panel["transformations"] = [{"id": "organize", "options": {**order, "renameByName": {}}}]
    return panel


def _target(letter: str, kind: str, expr: str, legend: str) -> Panel:
    target: Panel = {"refId": letter, "datasource": DATASOURCE, "expr": expr, "editorMode": "code"}
    if kind == "table":
        return target | {"instant": True, "range": False, "format": "table"}
    return target | {"range": True, "legendFormat": legend}
