"""Why nodes and links were slow, as far as receipts and samples tell."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.samples import sample_report

from p2pnet.measure import EndLoad, HopEnds, HopNode
from p2pnet.measure.propagation import LinkUse, SlowestReceipt, SpreadSums
from p2pnet.measure.tree import HopPhases
from p2pnet.model.report import Finding
from p2pnet.present.slow import SlowHop, SlowLink, slow_nodes, why_link, why_node


def receipt(latency_ms, sender_ms):
    return SlowestReceipt(latency_ms, "aa", 2, "b", sender_ms)


def test_a_slow_way_is_told_from_a_late_sender():
    assert why_node("a", receipt(100.0, 10.0), {}, {}) == "the way from b took 90% of it"
    assert why_node("a", receipt(100.0, 90.0), {}, {}) == "b had it late itself"
    assert why_node("a", receipt(100.0, 50.0), {}, {}) == "b had it late, and the way from there took as long"
    assert why_node("a", receipt(100.0, None), {}, {}) == "when b had it is not on record"
    assert "before it had validated it" in why_node("a", receipt(100.0, 120.0), {}, {})


def test_a_hop_is_explained_by_its_longest_phase_and_by_what_its_ends_did():
    hop = HopNode("a", "b", 2, 0, 100.0, 90.0, phases=HopPhases(5.0, 5.0, 10.0, 69.0, 1.0))
    quiet = EndLoad(0.2, 3.0, 0, 0)
    one = receipt(100.0, 10.0)
    way = "the way from b took 90% of it"
    assert why_node("a", one, {}, {}, SlowHop(hop)) == f"{way}; 77% of the hop was the bytes on their way"
    late = HopEnds(EndLoad(0.3, 118.0, 443 << 10, 0), EndLoad(0.97, 5.0, 0, 0))
    assert why_node("a", one, {}, {}, SlowHop(replace(hop, phases=None), late)) == (
        f"{way}; the event loop of b came 118 ms late; 443 KiB waited at b; a used 97% of a core"
    )
    assert why_node("a", one, {}, {}, SlowHop(replace(hop, phases=None), HopEnds(quiet, None))) == way
    starved = {"b": [Finding("b", "its loop was late", "starved")]}
    assert "118 ms" not in why_node("a", one, starved, {}, SlowHop(hop, late))


def test_the_table_of_the_slowest_has_the_phases_of_their_hops_where_they_are_on_record():
    spread = SpreadSums(["a", "b", "c"])
    for node in "ab":
        spread.slowest[node] = SlowestReceipt(100.0, "aa", 2, "c", 10.0)
    hop = HopNode("a", "c", 2, 0, 100.0, 90.0, phases=HopPhases(0.0, 0.5, 20.0, 69.0, 0.5))
    drawn = str(
        slow_nodes(sample_report(), spread, {"a": SlowHop(hop), "b": SlowHop(replace(hop, node="b", phases=None))})
    )
    assert "request 20.0 ms, transfer 69.0 ms</td>" in drawn
    assert drawn.count(">Phases<") == 1
    assert ">Phases<" not in str(slow_nodes(sample_report(), spread, {}))


def test_what_stood_out_in_the_samples_comes_first():
    found = {
        "a": [Finding("a", "its uplink was full", "uplink-full")],
        "b": [Finding("b", "its loop was late", "starved")],
    }
    said = why_node("a", receipt(100.0, 10.0), found, {"a": "3 missing, slow"})
    assert said == "its uplink was full; 3 missing; the way from b took 90% of it; b: its loop was late"


def test_a_node_all_of_whose_ways_are_slow_is_the_reason():
    use = LinkUse(1, 10, 1, 100.0, 100.0)
    medians = {("from", "a"): (95.0, 4), ("to", "b"): (10.0, 4)}
    assert why_link(SlowLink("a", "b", use), {}, medians) == "all ways from a took about as long"
    assert why_link(SlowLink("c", "b", use), {}, medians) == "this way alone"
    assert why_link(SlowLink("a", "b", use), {}, {("from", "a"): (95.0, 2)}) == "this way alone"


def test_a_link_is_explained_by_what_its_ends_showed_of_each_other():
    use = LinkUse(1, 10, 1, 100.0, 100.0)
    full = Finding("a", "its link was full", "link-full", peer="b")
    other = Finding("a", "its link was full", "link-full", peer="c")
    assert why_link(SlowLink("a", "b", use), {"a": [full]}, {}) == "a: its link was full"
    assert why_link(SlowLink("a", "b", use), {"a": [other]}, {}) == "this way alone"
