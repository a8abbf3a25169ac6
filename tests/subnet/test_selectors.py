"""A selector means nodes by name, group and label, or says why it means none."""

from typing import Any

import pytest

from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.selectors import Roster, rank_of
from p2pnet.subnet.spec import API_VERSION, Subnet

GROUPS = [
    {"name": "eu", "nodes": 2, "labels": {"region": "eu", "tier": "core"}},
    {"name": "us", "nodes": 1, "labels": {"region": "us"}},
    {"name": "idle", "nodes": 0, "labels": {"region": "moon"}},
]


def subnet(**spec: Any) -> Subnet:
    return load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})


ROSTER = Roster(subnet(nodes=2, groups=GROUPS))


@pytest.mark.parametrize(
    ("selector", "nodes"),
    [
        ("*", ["eu-0", "eu-1", "node-0", "node-1", "us-0"]),
        ("node-1", ["node-1"]),
        ("node=node-1", ["node-1"]),
        ("group=eu", ["eu-0", "eu-1"]),
        ("group=node", ["node-0", "node-1"]),
        ("region=us", ["us-0"]),
        ("region=eu,tier=core", ["eu-0", "eu-1"]),
        (" region = eu , node = eu-1 ", ["eu-1"]),
        ("region=moon", []),
        ("node=eu-0,node=eu-1", []),
        ("region=eu,group=us", []),
        ("region=mars", []),
        ("node-2", []),
    ],
)
def test_a_selector_means_these_nodes(selector: str, nodes: list[str]) -> None:
    assert ROSTER.in_order(ROSTER.select(selector)) == nodes


@pytest.mark.parametrize(
    ("selector", "mistake"),
    [
        ("*", ""), ("eu-1", ""), ("group=idle", ""), ("region=moon", ""), ("region=eu,tier=core", ""),
        ("node-2", "no node is named 'node-2'"), ("node=eu-2", "'node=eu-2' selects no node"),
        ("group=mars", "'group=mars' selects no node"), ("tier=edge", "'tier=edge' selects no node"),
        ("region=eu,group=us", "'region=eu,group=us' selects no node: no group has all of it"),
        ("node=eu-0,region=us", "'node=eu-0,region=us' selects no node: no group has all of it"),
        ("20%", "no node is named '20%'"), ("", "no node is named ''"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_selector_is_said(selector: str, mistake: str) -> None:
    assert ROSTER.mistake(selector) == mistake


def test_a_selector_is_more_specific_the_more_it_says() -> None:
    ladder = ["*", "tier=core", "group=eu", "region=eu,tier=core,group=eu", "node-0", "node=eu-0,region=eu"]
    ranks = [rank_of(selector) for selector in ladder]
    assert ranks == [0, 1, 2, 4, 100, 101]
    assert rank_of("node=eu-0") == rank_of("eu-0")
    assert rank_of("region=eu,region=eu") == rank_of("region=eu")
