"""What the live page is told whole: harmless whatever names are, bounded for thousands of nodes, saying where nothing is."""

import json

import msgspec

from p2pnet.measure.propagation import BINS, ReachSums, SpreadSums
from p2pnet.measure.receipts import ReceiptRow
from p2pnet.measure.sampled import PARTS_MAX, SampledNodes
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.control import Sample
from p2pnet.model.report import FaultStatus
from p2pnet.model.time_series import NodeSample
from p2pnet.present import LiveSums, Surroundings, live_parts, live_view
from p2pnet.present.live_view import SERIES_NODES_MAX
from p2pnet.present.view import BLOCKS_MAX, DUPLICATE_NODES_MAX, FAULTS_MAX

HARMFUL = "</script><img src=x onerror=hacked=1>"
PART_BYTES_MAX = 400_000
"""Of all parts together: what a page is told in a second where everything has changed."""


def sums(nodes: list[str]) -> SpreadSums:
    found = SpreadSums(nodes)
    for number, node in enumerate(nodes[1:], 1):
        sender = nodes[number // 2]
        found.passed(sender, node, 65536)
        found.took(
            ReceiptRow("3f" * 32, nodes[0], node, 0, number, 1, sender, 65536, 0, "received"), float(number), 0.5
        )
        found.duplicates[number] += number % 3
    return found


def test_names_stay_text_in_the_tables_that_the_page_puts_in_as_html():
    nodes = ["a-0", HARMFUL, "a-1"]
    fault = FaultStatus(HARMFUL, HARMFUL, "lease", "active", nodes, detail=HARMFUL)
    told = live_parts(LiveSums(sums=sums(nodes), faults=[fault]))
    for html in told["tables"].values():
        assert "<img" not in html
        assert "</script" not in html
    assert "&lt;img" in told["tables"]["slow"]


def test_the_parts_of_thousands_of_nodes_and_hours_are_bounded():
    nodes = [f"node-{number}" for number in range(5000)]
    reach, series = ReachSums(), SampledNodes(0)
    for hour in range(4):
        reach.due(hour * 3600 * 10**9, 4999)
        reach.came(hour * 3600 * 10**9 + 7)
    for node in nodes[:100]:
        for second in (1, 900, 7200):
            series.add(NodeSample(node, second * 10**9, Sample(second * 10**9, 1.0, 0.01, 0.2)))
    faults = [FaultStatus(f"f-{number}", "loss 20%", "lease", "ended") for number in range(3 * FAULTS_MAX)]
    told = live_parts(LiveSums(sums=sums(nodes), reach=reach.curve(), series=series, faults=faults))
    assert len(told["traffic"]["labels"]) <= BLOCKS_MAX
    assert len(told["duplicates"]["node"]) == DUPLICATE_NODES_MAX
    assert len(told["faults"]) == FAULTS_MAX
    assert len(told["reach"]["due"]) <= BINS
    assert (len(told["series"]["nodes"]), told["series"]["total"]) == (SERIES_NODES_MAX, 100)
    assert len(told["series"]["times_s"]) <= PARTS_MAX
    assert len(msgspec.json.encode(told)) < PART_BYTES_MAX


def test_before_anything_happened_each_part_says_so():
    told = live_parts(LiveSums(sums=SpreadSums(["a", "b"])))
    assert (told["reach"], told["series"], told["faults"], told["duplicates"]["total"]) == (None, None, [], 0)
    assert "No receipt came yet" in told["tables"]["slow"]
    assert "Nothing is shaped" in told["tables"]["faults"]
    assert told["tables"]["findings"] == ""


def test_nodes_that_do_not_behave_are_named_with_what_they_do():
    groups = [AdversaryGroup("bad", "silent", ["bad-0", "bad-1"])]
    view = live_view("demo", "local", ["a-0", "bad-0", "bad-1"], Surroundings(full=True), adversaries=groups)
    assert view["nodes"]["adversaries"] == [1, 2]
    assert view["nodes"]["behaviours"] == ["silent", "silent"]
    assert json.loads(msgspec.json.encode(view)) == view
