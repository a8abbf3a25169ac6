"""Floor 1, events in, report out: reach, latency, hops, duplicates and cost of a run, its expectations, and hop trees. Pure.

Called by the lab (`RunMeasure`, which learns as events come in), scenarios (`expectations`) and cli (`hop_tree`).
"""

from p2pnet.measure.expectations import DEFAULT_EXPECTATION, Expectation, parse
from p2pnet.measure.hop_ends import EndLoad, HopEnds, hop_ends, window_ns
from p2pnet.measure.receipts import Publication, ReceiptRow, Receipts, publications
from p2pnet.measure.report import RunFacts, RunMeasure, facts_of, load_of, most_telling, unmeasured
from p2pnet.measure.tree import HopNode, HopTree, hop_tree
from p2pnet.model.expectation_words import METRICS

__all__ = [
    "DEFAULT_EXPECTATION",
    "METRICS",
    "EndLoad",
    "Expectation",
    "HopEnds",
    "HopNode",
    "HopTree",
    "Publication",
    "ReceiptRow",
    "Receipts",
    "RunFacts",
    "RunMeasure",
    "facts_of",
    "hop_ends",
    "hop_tree",
    "load_of",
    "most_telling",
    "parse",
    "publications",
    "unmeasured",
    "window_ns",
]
