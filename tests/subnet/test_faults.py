"""Faults act on the same nodes for everybody who knows the document, or are refused with what to do."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import load_subnet, to_document
from p2pnet.subnet.faults import churn_schedule, describe, is_about_nodes, kind_of_fault, read_fault, victims
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.spec import API_VERSION, Subnet

GROUPS = [
    {"name": "eu", "nodes": 2, "labels": {"region": "eu"}},
    {"name": "us", "nodes": 2, "labels": {"region": "us"}},
]


def subnet(**spec: Any) -> Subnet:
    return load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})


def fault(name: str = "x", **written: Any) -> FaultSpec:
    return FaultSpec.model_validate({"name": name, **written})


def refusal(subnet: Subnet, written: dict[str, Any], **more: Any) -> str:
    with pytest.raises(SpecError) as caught:
        read_fault(subnet, written, **more)
    return str(caught.value)


# --- whom it is about ---


@pytest.mark.parametrize(("share", "count"), [("10%", 1), ("20%", 2), ("24%", 2), ("25%", 3), ("94%", 9), ("14.9%", 1)])
def test_a_share_is_so_many_of_all_nodes_halves_rounded_up(share: str, count: int) -> None:
    assert len(victims(subnet(nodes=10), fault(block=True, **{"from": share}))) == count


@pytest.mark.parametrize(
    ("nodes", "share", "words"),
    [
        (10, "4%", "from: 4% of 10 nodes is nobody (0.4 is rounded): write a larger share, or a selector"),
        (2, "80%", "from: 80% of 2 nodes is everybody (1.6 is rounded): write a smaller share, or a selector"),
        (1, "50%", "from: 50% of 1 nodes is everybody"),
        (3, "0%", "from: 0% of 3 nodes is nobody"),
        (3, "100%", "from: 100% of 3 nodes is everybody"),
    ],
)
def test_a_share_that_is_nobody_or_everybody_is_refused(nodes: int, share: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        victims(subnet(nodes=nodes), fault(kill=True, **{"from": share}))
    assert words in str(caught.value)
    assert words in refusal(subnet(nodes=nodes), {"name": "x", "kill": True, "from": share})


def test_the_nodes_of_a_share_follow_from_seed_and_name_alone() -> None:
    one = fault("one", block=True, **{"from": "20%"})
    found = victims(subnet(nodes=50), one)
    again = load_subnet(to_document(subnet(nodes=50, faults=[{"name": "one", "from": "20%", "block": True}])))
    assert victims(again, again.spec.faults[0]) == found
    assert victims(subnet(nodes=50), fault("other", block=True, **{"from": "20%"})) != found
    assert victims(subnet(nodes=50, seed=7), one) != found
    assert found == sorted(found, key=lambda name: int(name.partition("-")[2])), "in member order"


@given(st.integers(10, 120), st.integers(0, 2**32))
def test_scaling_by_one_node_changes_few_of_them(nodes: int, seed: int) -> None:
    one = fault(block=True, **{"from": "30%"})
    before, after = (set(victims(subnet(nodes=count, seed=seed), one)) for count in (nodes, nodes + 1))
    assert len(before - after) <= 1
    assert len(after - before) <= 1


def test_victims_are_the_nodes_in_from_and_of_a_partition_those_cut_off_by_name() -> None:
    here = subnet(nodes=2, groups=GROUPS)
    assert victims(here, fault(pause=True, **{"from": "region=eu"})) == ["eu-0", "eu-1"]
    assert victims(here, fault(loss="5%")) == ["eu-0", "eu-1", "node-0", "node-1", "us-0", "us-1"]
    assert victims(here, fault(partition={"groups": ["group=us", "eu-0"]})) == ["eu-0", "us-0", "us-1"]
    assert len(victims(here, fault(partition={"minority": "30%"}))) == 2


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        ({"minority": "5%"}, "partition.minority: 5% of 6 nodes is nobody"),
        ({"minority": "60%"}, "partition.minority: 60%: a minority is at most half, 50%"),
        ({}, "partition: give one of minority and groups"),
        ({"minority": "30%", "groups": ["eu-0"]}, "partition: give one of minority and groups"),
        (
            {"groups": ["region=eu", "eu-1"]},
            "partition.groups[1]: eu-1 is in 'region=eu' too: a node is in one part alone",
        ),
        ({"groups": ["*"]}, "partition.groups: all nodes are in one part: nothing would be cut"),
        ({"groups": ["region=moon"]}, "partition.groups[0]: 'region=moon' selects no node"),
        ({"groups": ["30%"]}, "partition.groups[0]: no node is named '30%'"),
    ],
)
def test_a_partition_has_parts_that_are_apart(partition: dict[str, Any], words: str) -> None:
    assert words in refusal(subnet(nodes=2, groups=GROUPS), {"name": "x", "partition": partition})


# --- reading one ---


def test_a_fault_is_read_as_in_the_document() -> None:
    read = read_fault(subnet(nodes=3), {"name": "cut", "from": "node-0", "block": True, "for": "30s", "to": None})
    assert (read.name, read.from_, read.to, read.block) == ("cut", "node-0", "*", True)
    assert read.for_ is not None
    assert read.for_.seconds == 30


def test_a_fault_without_a_name_gets_the_first_free_one_of_its_kind() -> None:
    here = subnet(nodes=3)
    assert read_fault(here, {"loss": "5%"}).name == "loss-1"
    assert read_fault(here, {"loss": "5%"}, taken=["loss-1", "loss-3"]).name == "loss-2"
    assert read_fault(here, {"pause": True, "from": "node-0"}).name == "pause-1"


def test_a_name_that_is_taken_is_refused() -> None:
    words = refusal(subnet(nodes=3), {"name": "cut", "block": True}, taken={"cut"})
    assert words == "name: there is a fault 'cut' already: choose another name, or clear that one first"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"lose": "5%"}, "lose: unknown key, did you mean 'loss'?"),
        ({"loss": 5}, "loss: '5' is no share"),
        ({"loss": "5%", "from": "node-9"}, "from: no node is named 'node-9'"),
        ({"name": "Bad Name", "loss": "5%"}, "name: 'Bad Name' is no name of a fault"),
        ({}, "does nothing: give it a shape, access, block, partition, pause, kill, restart or churn"),
        (
            {"latency": "2h", "from": "node-9"},
            "2 mistakes\n  from: no node is named 'node-9'\n  latency: 2h: at most 1h",
        ),
    ],
)
def test_a_mistake_names_the_field(written: dict[str, Any], words: str) -> None:
    assert refusal(subnet(nodes=3), written).startswith(words)


@pytest.mark.parametrize(
    ("written", "kind", "about_nodes", "words"),
    [
        ({"loss": "20%", "from": "node-0"}, "loss", False, "loss 20% from node-0 to *"),
        ({"latency": "90ms", "jitter": "5ms", "loss": "1%", "lossBurst": 4.5, "to": "region=eu", "bothWays": True},
         "latency", False, "latency 90ms, jitter 5ms, loss 1% in bursts of 4.5 from * to region=eu, both ways"),
        ({"bandwidth": "1Mbit", "mtu": 1280}, "bandwidth", False, "bandwidth 1Mbit, mtu 1280 from * to *"),
        ({"loss": "0%", "reorder": "1%"}, "reorder", False, "reorder 1% from * to *"),
        ({"block": True, "from": "20%"}, "block", False, "block from 20% of the nodes to *"),
        ({"access": {"up": "1Mbit", "down": "2Mbit"}, "from": "us-0"}, "access", False, "access up 1Mbit, down 2Mbit of us-0"),
        ({"partition": {"minority": "30%"}}, "partition", False, "partition 30% from the rest"),
        ({"partition": {"groups": ["region=eu", "us-0"]}}, "partition", False, "partition region=eu | us-0"),
        ({"pause": True, "from": "us-1"}, "pause", True, "pause us-1"),
        ({"kill": True, "from": "25%"}, "kill", True, "kill 25% of the nodes"),
        ({"restart": True, "from": "*"}, "restart", True, "restart every node"),
        ({"churn": {"rate": "6/m"}}, "churn", True, "churn 6/m of every node, each away for 5s"),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_a_few_words(written: dict[str, Any], kind: str, about_nodes: bool, words: str) -> None:
    read = read_fault(subnet(nodes=2, groups=GROUPS), written)
    assert (kind_of_fault(read), is_about_nodes(read), describe(read)) == (kind, about_nodes, words)


# --- churn ---


def test_a_churn_has_the_rate_asked_for_and_gaps_that_are_exponential() -> None:
    here = subnet(nodes=40)
    events = list(churn_schedule(here, fault(churn={"rate": "2/s", "down": "1s"}), 2_000))
    gaps = sorted(after - before for (before, _), (after, _) in pairwise(events))
    assert 3_700 < len(events) < 4_300, "mean and standard deviation are 4,000 and 63"
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.1)
    assert gaps[len(gaps) // 2] == pytest.approx(0.5 * 0.693, rel=0.1), "the median is mean x ln 2"
    assert {node for _, node in events} == {f"node-{index}" for index in range(40)}


def test_a_churn_never_kills_who_is_away() -> None:
    here = subnet(nodes=3)
    back: dict[str, float] = {}
    for at, node in churn_schedule(here, fault(churn={"rate": "1/s", "down": "2s"}), 1_000):
        assert back.get(node, 0.0) <= at
        back[node] = at + 2


def test_a_churn_is_drawn_from_seed_and_name_and_ends_with_the_fault() -> None:
    here = subnet(nodes=9)
    asked = {"rate": "1/s"}

    def times(until_s: float, name: str = "x", **more: Any) -> list[tuple[float, str]]:
        return list(churn_schedule(here, fault(name, churn={**asked, **more.pop("churn", {})}, **more), until_s))

    assert times(60) == times(60) == times(120)[: len(times(60))]
    assert times(60, "y") != times(60)
    assert times(60, churn={"seed": 7}) != times(60) == times(60, churn={"seed": 42})
    assert times(60, **{"for": "10s"}) == times(10)
    assert list(churn_schedule(here, fault(block=True), 60)) == []


def test_only_nodes_in_from_churn() -> None:
    here = subnet(nodes=2, groups=GROUPS)
    events = churn_schedule(here, fault(churn={"rate": "1/s", "down": "1s"}, **{"from": "region=us"}), 100)
    assert {node for _, node in events} == {"us-0", "us-1"}
