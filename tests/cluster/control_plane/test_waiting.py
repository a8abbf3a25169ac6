"""`kubectl wait` after an edit waits for what was edited, also while a lab speaks of what was before."""

from typing import Any

import pytest
from tests.cluster.control import Control, Twin
from tests.cluster.kit import Cluster, conditions, until

EDITS: list[tuple[str, dict[str, Any], int]] = [
    ("scaled up", {"nodes": 6}, 6),
    ("scaled down", {"nodes": 2}, 2),
    ("a group more", {"groups": [{"name": "far", "nodes": 1}]}, 3),
    ("another topology", {"topology": {"kind": "ring"}}, 3),
]


def connected(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The condition, and what stands beside it."""
    status = cluster.get("subnet", "demo", "--namespace", namespace).get("status", {})
    [found] = [one for one in status["conditions"] if one["type"] == "Connected"]
    return {**found, "column": status["connected"], "generation": status["observedGeneration"]}


def test_after_each_edit_nobody_who_waits_is_let_go_by_what_was_before(control: Control) -> None:
    with control.place("waiting") as place, control.operator():
        subnet = place.subnet("demo", {"nodes": 3})
        subnet.until_ready(3)
        for what, spec, nodes in EDITS:
            edited(control, subnet, what, spec, nodes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(control.labs, "deaf", lambda namespace, _: namespace == place.name)
            subnet.edit(nodes=5)
            place.injection("early", **{"from": "node-4"})
            until(lambda: place.find("pods", "p2pnet.io/role=node")[5:], "all have pods", every_s=0.1)
            assert not (place.get("injections", "early") or {}).get("status", {}).get("run"), (
                "it waits for the new node"
            )
        control.cluster.wait("injection/early", "condition=Propagated", place.name)


def edited(control: Control, subnet: Twin, what: str, spec: dict[str, Any], nodes: int) -> None:
    """An edit; whoever waits goes on waiting while the lab speaks of the former members, and then sees the new ones."""
    cluster, namespace = control.cluster, subnet.place.name
    former = subnet.uids()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control.labs, "deaf", lambda space, _: space == namespace)
        subnet.edit(**spec)
        generation = subnet.thing()["metadata"]["generation"]
        until(
            lambda: connected(cluster, namespace)["generation"] == generation,
            f"{what}: the operator has looked",
            every_s=0.1,
        )
        words = ("wait", "--for=condition=Connected", "subnet/demo", "--timeout=1s", "--namespace", namespace)
        assert "timed out" in cluster.refused(*words), what
        seen = connected(cluster, namespace)
        assert conditions(subnet.thing())["Ready"] == "False", what
        assert (seen["status"], seen["reason"], seen["column"]) == ("False", "MembersChanging", "?"), what
    for kind in ("Connected", "Ready"):
        cluster.wait("subnet/demo", f"condition={kind}", namespace)
    assert connected(cluster, namespace)["column"] == f"{nodes}/{nodes}", what
    if "topology" in spec:  # every node was started with it
        kept = {name for name, uid in subnet.uids().items() if former.get(name) == uid}
        assert kept == {"demo-lab"}
