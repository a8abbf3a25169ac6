"""Names of nodes joined by commas: any of them, and one that nobody has is named."""

import pytest

from p2pnet.subnet.document import default_subnet
from p2pnet.subnet.faults import read_fault, victims
from p2pnet.subnet.network import network_plan
from p2pnet.subnet.selectors import NODE_RANK, Roster, rank_of

DEMO = default_subnet("demo", 4)


@pytest.mark.parametrize(
    ("selector", "nodes", "mistake"),
    [
        ("node-1,node-3", ["node-1", "node-3"], ""), ("node-3, node-1", ["node-1", "node-3"], ""),
        ("node-1,node-9", ["node-1"], "no node is named 'node-9'"), ("node-1,", ["node-1"], "no node is named ''"),
        ("node-1,*", ["node-1"], "no node is named '*'"),
    ],
)  # fmt: skip
def test_several_names_mean_all_these_nodes(selector: str, nodes: list[str], mistake: str) -> None:
    roster = Roster(DEMO)

    assert roster.in_order(roster.select(selector)) == nodes
    assert roster.mistake(selector) == mistake
    assert rank_of(selector) == NODE_RANK


def test_a_link_between_two_of_the_named_nodes_is_shaped_once() -> None:
    fault = read_fault(DEMO, {"from": "node-1,node-2", "bothWays": True, "latency": "90ms"})
    plan = network_plan(DEMO, [fault])

    assert victims(DEMO, fault) == ["node-1", "node-2"]
    for pair in (("node-1", "node-2"), ("node-2", "node-1"), ("node-0", "node-1"), ("node-2", "node-3")):
        assert plan.path(*pair)[0].delay_ns == 90_000_000
    assert plan.path("node-0", "node-3")[0].delay_ns == 0
