"""The pure parts: what a machine can hold, when a subnet is ready, what is still awaited."""

from collections.abc import Callable
from typing import Any

import msgspec

from p2pnet.cli import capacity
from p2pnet.cli.targets.readiness import awaited, blockers, is_ready
from p2pnet.model.report import LinkCounts, Status
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import Subnet


def subnet(**spec: Any) -> Subnet:
    return load_subnet(
        {
            "apiVersion": "p2pnet.io/v1alpha1",
            "kind": "Subnet",
            "metadata": {"name": "demo"},
            "spec": {"nodes": 3, **spec},
        }
    )


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
