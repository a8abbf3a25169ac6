"""The pure parts: what an edit changes, what a machine can hold, when a subnet is ready, what is still awaited."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from p2pnet.cli import capacity, edits
from p2pnet.cli.targets.readiness import awaited, blockers, is_ready
from p2pnet.model.report import LinkCounts, Status
from p2pnet.subnet.document import Subnet, load_subnet


def subnet(**spec: Any) -> Subnet:
    return load_subnet(
        {
            "apiVersion": "p2pnet.io/v1alpha1",
            "kind": "Subnet",
            "metadata": {"name": "demo"},
            "spec": {"nodes": 3, **spec},
        }
    )


EDITS = [
    ({}, {}, []),
    ({}, {"seed": 42}, []),  # a default written out
    ({}, {"topology": {"kind": "full"}}, []),
    ({}, {"nodes": 5}, ["spec.nodes"]),
    ({}, {"seed": 7}, ["spec.seed"]),
    ({}, {"topology": {"kind": "ring"}}, ["spec.topology"]),
    ({}, {"ready": {"connected": "90%"}, "ttl": "2h"}, ["spec.ready", "spec.ttl"]),
    ({}, {"identity": {"ttl": "1d", "trustDomain": "x"}}, ["spec.identity.trustDomain", "spec.identity.ttl"]),
    (
        {"groups": [{"name": "next", "nodes": 2}]},
        {"groups": [{"name": "next", "nodes": 3, "labels": {"region": "eu"}}]},
        ["spec.groups[next].nodes", "spec.groups[next].labels"],
    ),
    ({}, {"groups": [{"name": "next", "nodes": 2}]}, ["spec.groups[next]"]),
    ({}, {"broadcast": {"keep": "1m"}}, ["spec.broadcast"]),
]


@pytest.mark.parametrize(("old", "new", "paths"), EDITS)
def test_an_edit_is_the_paths_whose_meaning_differs(old: Any, new: Any, paths: list[str]) -> None:
    assert edits.changed(subnet(**old), subnet(**new)) == paths


@pytest.mark.parametrize(
    ("path", "live"),
    [
        ("spec.nodes", True), ("spec.groups[next].nodes", True), ("spec.groups[next].labels", False),
        ("spec.network", True), ("spec.faults", True), ("spec.ready", True), ("spec.ttl", True),
        ("spec.identity.ttl", True), ("spec.identity.renewBefore", True), ("spec.identity.trustDomain", False),
        ("spec.image", False), ("spec.topology", False), ("spec.seed", False), ("spec.nodesPerPod", False),
        ("spec.discovery", False), ("spec.broadcast", False), ("spec.clients", False), ("spec.pod", False),
    ],
)  # fmt: skip
def test_what_is_live_is_what_the_design_lists(path: str, live: bool) -> None:
    assert edits.is_live(path) is live


def test_a_machine_refuses_only_what_is_hopeless() -> None:
    machine = capacity.Machine(cores=2, memory_bytes=8 << 30)

    assert capacity.too_much(10, 45, 120.0, machine) == ""
    assert capacity.too_much(50, 1225, 120.0, machine) == ""
    assert capacity.too_much(200, 800, 30.0, machine, processes=8) == ""
    assert "more than the 60 s" in capacity.too_much(200, 19_900, 60.0, machine)
    small = capacity.Machine(cores=2, memory_bytes=4 << 30)
    assert "GiB of memory" in capacity.too_much(500, 2_000, 600.0, small)
    assert capacity.too_much(500, 2_000, 600.0, small, processes=10) == ""
    assert capacity.too_much(500, 2_000, 600.0, capacity.Machine(cores=2, memory_bytes=None)) == ""
    # one process has one loop, and so one core
    assert "about 13 s" in capacity.too_much(50, 1225, 10.0, machine, processes=1)


def test_what_a_control_group_allows_is_all_there_is() -> None:
    confined = capacity.Machine(cores=0.5, memory_bytes=200 << 20, confined=True)

    assert "200 MiB are free in this control group" in capacity.too_much(30, 435, 120.0, confined)
    assert "on 0.5 cores in this control group" in capacity.too_much(30, 435, 5.0, confined)
    assert capacity.too_much(2, 1, 120.0, confined) == ""


def test_ready_is_the_share_of_edges_between_the_nodes_wanted(make_status: Callable[..., Status]) -> None:
    status = make_status(5, connected=4)  # 6 of 10 links

    assert not is_ready(status, nodes=5, share=1.0)
    assert is_ready(status, nodes=5, share=0.6)
    assert not is_ready(status, nodes=5, share=0.61)
    assert is_ready(make_status(5), nodes=5, share=1.0)
    assert not is_ready(make_status(5), nodes=6, share=1.0)  # the lab knows the old document yet


def test_a_lone_node_is_ready_when_it_says_so(make_status: Callable[..., Status]) -> None:
    assert is_ready(make_status(1), nodes=1, share=1.0)
    assert not is_ready(make_status(1, connected=0), nodes=1, share=1.0)


def test_what_is_awaited_names_only_what_is_missing(make_status: Callable[..., Status]) -> None:
    assert awaited(make_status(5, connected=4), 5) == "nodes ready 4/5, links 6/10"
    settled = msgspec.structs.replace(make_status(5), links=LinkCounts(10, 9))
    assert awaited(settled, 5) == "links 9/10"


def test_the_worst_blockers_come_first_and_the_rest_is_counted(make_status: Callable[..., Status]) -> None:
    said = blockers(make_status(12, connected=4))

    assert said.startswith("node-4 starting (0/11 links, 2 restarts, exit code 1), node-5")
    assert said.endswith("and 3 more")
    assert blockers(make_status(3)) == "every node is connected"
