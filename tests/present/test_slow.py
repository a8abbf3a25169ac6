"""Why nodes and links were slow, as far as receipts and samples tell."""

from p2pnet.measure.propagation import LinkUse, SlowestReceipt
from p2pnet.model.report import Finding
from p2pnet.present.slow import SlowLink, why_link, why_node


def receipt(latency_ms, sender_ms):
    return SlowestReceipt(latency_ms, "aa", 2, "b", sender_ms)


def test_a_slow_way_is_told_from_a_late_sender():
    assert why_node("a", receipt(100.0, 10.0), {}, {}) == "the way from b took 90% of it"
    assert why_node("a", receipt(100.0, 90.0), {}, {}) == "b had it late itself"
    assert why_node("a", receipt(100.0, 50.0), {}, {}) == "b had it late, and the way from there took as long"
    assert why_node("a", receipt(100.0, None), {}, {}) == "when b had it is not on record"
    assert "before it had validated it" in why_node("a", receipt(100.0, 120.0), {}, {})


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
