"""What the live page draws, in the rich page's form: a document without receipts, and the parts that change while a run goes on.

Receipts are told one by one and appended by the page; all else is told whole when it has changed, each part with the bounds
that `view` puts on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2pnet.measure.propagation import ReachCurve, SpreadSums
from p2pnet.measure.sampled import SampledNodes
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.report import FaultStatus, Finding, NetworkRow, NodeReceipts
from p2pnet.present import network
from p2pnet.present.markup import join, tag
from p2pnet.present.slow import SlowHop, slowest
from p2pnet.present.view import (
    FAULTS_MAX,
    SCHEMA,
    Json,
    Surroundings,
    duplicates_of,
    faults_of,
    network_of,
    reach_of,
    series_of,
    traffic_of,
)
from p2pnet.present.words import clean

SERIES_NODES_MAX = 20
"""Fewer than in the rich page: series are told again and again."""


@dataclass(frozen=True, kw_only=True)
class LiveSums:
    """What is known of a subnet while it runs, in sums. It tells why something is slow as a report does, see `slow.Telling`."""

    sums: SpreadSums
    reach: ReachCurve | None = None
    start: float = 0.0
    """The begin of the axis of time: the first publication, in Unix seconds."""
    series: SampledNodes | None = None
    faults: Sequence[FaultStatus] = ()
    network: Sequence[NetworkRow] = ()
    findings: Sequence[Finding] = ()
    per_node: Sequence[NodeReceipts] = ()
    clock_bound_ms: float = 0.0
    slow: Mapping[str, SlowHop] = field(default_factory=dict)
    """By node, the hop of its slowest receipt, as far as it is known."""


def live_view(
    subnet: str, target: str, nodes: Sequence[str], around: Surroundings, *, seed: int = 0,
    adversaries: Sequence[AdversaryGroup] = (),
) -> Json:  # fmt: skip
    """The document about a subnet whose receipts are yet to come; a page appends them."""
    curve: Json = {
        "run": "", "label": "all that is shown", "subnet": clean(subnet), "points_ms": [], "reach": None, "expected": 0,
        **dict.fromkeys(("p50", "p95", "p99", "max")),
    }  # fmt: skip
    return {
        "schema": SCHEMA, "run": "", "subnet": clean(subnet), "target": target, "seed": seed, "live": True,
        "latency": {"curves": [curve], "limits": []},
        **network_of(SpreadSums(nodes), around, seed, adversaries),
        "artifacts": {"id": [], "name": [], "publisher": [], "size": [], "at_us": [], "total": 0}, "events": [],
    }  # fmt: skip


def live_parts(known: LiveSums) -> Json:
    """What the page draws of it, by the name of the part. `tables`: by place, HTML of the rich page's tables."""
    faults = list(known.faults[:FAULTS_MAX])
    found = [tag("h3", "What stands out"), network.findings(known.findings)] if known.findings else []
    return {
        "reach": reach_of(known.reach),
        "traffic": traffic_of(known.sums, known.series),
        "duplicates": duplicates_of(known.sums),
        "faults": faults_of(faults, known.network, known.start),
        "series": series_of(known, known.series, known.sums.nodes, SERIES_NODES_MAX),
        "tables": {
            "slow": str(slowest(known, known.sums, "No receipt came yet.", known.slow)),
            "faults": str(network.asked_and_seen(faults, known.network, "Nothing is shaped.")),
            "findings": str(join(found)),
        },
    }
