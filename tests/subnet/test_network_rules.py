"""The most specific rule decides; where only the order of two decides, that is found."""

from typing import Any

from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.network_rules import NO_RULE, Overlap, RuleTable
from p2pnet.subnet.selectors import Roster
from p2pnet.subnet.spec import API_VERSION

GROUPS = [
    {"name": "eu", "nodes": 2, "labels": {"region": "eu"}},
    {"name": "us", "nodes": 3, "labels": {"region": "us"}},
]


def table(*rules: dict[str, Any]) -> RuleTable:
    spec = {"nodes": 1, "groups": GROUPS, "network": {"rules": list(rules)}}
    read = load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})
    return RuleTable(Roster(read), read.spec.network.rules)


def decided(rules: RuleTable, source: str, to: str) -> int:
    return rules.decides(rules.sends[source] & rules.receives[to])


def test_the_larger_of_both_ends_counts_first_then_the_smaller_then_the_order() -> None:
    rules = table(
        {"from": "eu-0", "latency": "1ms"},
        {"from": "group=eu", "to": "group=us", "latency": "2ms"},
        {"from": "eu-0", "to": "region=us", "latency": "3ms"},
        {"from": "region=eu", "to": "us-0", "latency": "4ms"},
    )
    assert decided(rules, "eu-0", "eu-1") == 0
    assert decided(rules, "eu-1", "us-1") == 1
    assert decided(rules, "eu-0", "us-1") == 2
    assert decided(rules, "eu-0", "us-0") == 3, "as specific as rules[2], and later"
    assert decided(rules, "us-0", "eu-0") == NO_RULE


def test_overlapping_rules_are_found_with_the_links_on_which_they_meet() -> None:
    rules = table(
        {"from": "region=eu", "latency": "1ms"},
        {"to": "region=us", "latency": "2ms"},
        {"to": "region=us", "latency": "2ms"},
    )
    assert rules.overlaps() == [Overlap(2, 0, 6, ("eu-0", "us-2"))], "rules[1] asks for the same as rules[2]"
    assert rules.idle() == [1]


def test_rules_do_not_overlap_where_another_one_decides() -> None:
    rules = table(
        {"from": "region=eu", "latency": "1ms"},
        {"to": "region=us", "latency": "2ms"},
        {"from": "group=eu", "to": "group=us", "latency": "3ms"},
    )
    assert rules.overlaps() == []
    assert rules.idle() == []


def test_a_rule_of_which_there_is_no_link_is_idle() -> None:
    rules = table({"from": "eu-0", "latency": "1ms"}, {"latency": "2ms"}, {"from": "eu-0", "to": "*", "latency": "3ms"})
    assert rules.idle() == [0]
