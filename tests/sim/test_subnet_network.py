"""The network of a document does in virtual time what it asks for."""

import pytest
from tests.sim.documents import arrivals_ms, load, subnet

from p2pnet.netem.presets import preset
from p2pnet.sim.simulate import simulate

LINE = {"kind": "edges", "edges": [["node-0", "node-1"], ["node-1", "node-2"]]}


def test_delays_add_up_along_a_line() -> None:
    rules = [
        {"from": "node-0", "to": "node-1", "latency": "10ms"},
        {"from": "node-1", "to": "node-2", "latency": "25ms"},
        {"from": "node-1", "to": "node-0", "latency": "400ms"},
        {"from": "node-2", "to": "node-1", "latency": "500ms"},
    ]
    line = subnet(nodes=3, topology=LINE, broadcast={"relay": "push"}, network={"rules": rules})
    assert arrivals_ms(simulate(line, load(), seed=1)) == {"node-1": 10.0, "node-2": 35.0}
    backwards = simulate(line, load(sender="node-2"), seed=1)
    assert arrivals_ms(backwards) == {"node-1": 500.0, "node-0": 900.0}


def test_a_relay_that_advertises_takes_two_trips_more() -> None:
    line = subnet(
        nodes=3, topology=LINE, broadcast={"relay": "advert", "pushBelow": 0}, network={"default": {"latency": "10ms"}}
    )
    assert arrivals_ms(simulate(line, load(), seed=1)) == {"node-1": 30.0, "node-2": 60.0}


def test_each_pair_of_a_preset_has_its_measured_delay() -> None:
    asked = subnet(nodes=13, network={"preset": "ic-lhg73", "lossMax": "0.01%"})
    seen = arrivals_ms(simulate(asked, load(), seed=1))
    figures = preset("ic-lhg73")
    expected = {f"node-{place}": figures.figures("0", str(place)).delay_ns / 1e6 for place in range(1, 13)}
    assert seen == expected


def test_an_access_link_serves_one_peer_after_the_other() -> None:
    size, uplink = 50_000, 1_000_000
    thin = subnet(nodes=4, network={"access": {"up": "1Mbit", "queue": "16MiB"}})
    times = sorted(arrivals_ms(simulate(thin, load(size), seed=1)).values())
    alone_ms = size * 8 / uplink * 1000
    assert times[-1] == pytest.approx(3 * alone_ms, rel=0.02)  # shared by all peers, with the packets' headers
    assert times[0] > alone_ms


def test_a_group_has_its_own_access_link() -> None:
    spec = {
        "groups": [{"name": "a", "nodes": 2}, {"name": "home", "nodes": 1}],
        "network": {"access": {"groups": {"home": {"down": "1Mbit"}}}},
    }
    times = arrivals_ms(simulate(subnet(**spec), load(60_000, sender="a-0"), seed=1))
    assert times["a-1"] == 0
    assert times["home-0"] == pytest.approx(480, rel=0.02)


def test_nodes_have_the_names_that_live_targets_give() -> None:
    spec = {"nodes": 1, "groups": [{"name": "eu", "nodes": 2}, {"name": "us", "nodes": 11}]}
    names = simulate(subnet(**spec), load(), seed=1).run.nodes
    assert names == ["eu-0", "eu-1", "node-0", *(f"us-{index}" for index in range(11))]


def test_lost_packets_make_messages_late_and_lose_none() -> None:
    lossy = subnet(nodes=6, network={"default": {"latency": "10ms", "loss": "20%"}})
    report = simulate(lossy, load(count=40, rate_per_s=10), seed=1).report
    assert report.reach.ratio == 1
    assert report.latency_ms.p50 == 10
    assert report.latency_ms.max > 40  # a probe timeout, or a round trip more


def test_a_report_has_what_every_rule_and_fault_asked_of_how_many_links() -> None:
    spec = {
        "groups": [{"name": "a", "nodes": 2}, {"name": "b", "nodes": 3}],
        "network": {"access": {"up": "5Mbit"}, "rules": [{"from": "group=a", "to": "group=b", "latency": "7ms"}]},
        "faults": [
            {"name": "late", "latency": "1ms", "after": "1s", "for": "1s"}, {"name": "never", "block": True, "after": "1h"},
        ],
    }  # fmt: skip
    report = simulate(subnet(**spec), load(sender="a-0", count=3, rate_per_s=1.0), seed=1).report
    found = {row.rule: (row.links, row.asked.delay_ms, row.asked.bandwidth_bps) for row in report.network}
    assert found == {
        "rules[0]": (6, 7.0, None),
        "access": (5, None, 5e6),
        "rules[0] + fault late": (6, 8.0, None),
        "fault late": (14, 1.0, None),
    }
    assert all(row.modelled for row in report.network)
    assert report.clock_bound_ms == 0
    assert any(note.startswith("modelled: the network") for note in report.notes)


def test_what_is_odd_about_the_network_is_noted_as_in_a_status() -> None:
    rules = [{"from": "node-0", "latency": "1ms"}, {"from": "node-0", "latency": "2ms"}]
    notes = simulate(subnet(nodes=3, network={"rules": rules}), load(), seed=1).report.notes
    assert any("rules[0]" in note and "rules[1]" in note for note in notes)
