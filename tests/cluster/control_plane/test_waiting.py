"""`kubectl wait` after an edit waits for what was edited, also while a lab speaks of what was before."""

from typing import Any

from tests.cluster.control import Control
from tests.cluster.kit import Cluster, until


def connected(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The condition, and what stands beside it."""
    status = cluster.get("subnet", "demo", "--namespace", namespace).get("status", {})
    [found] = [one for one in status["conditions"] if one["type"] == "Connected"]
    return {**found, "column": status["connected"], "generation": status["observedGeneration"]}


def test_after_a_scaling_nothing_is_connected_while_the_lab_speaks_of_the_former_members(control: Control) -> None:
    with control.place("waiting") as place, control.operator():
        subnet = place.subnet("demo", {"nodes": 5})
        subnet.until_ready(5)
        control.labs.deaf = lambda namespace, _: namespace == place.name
        try:
            control.cluster.kubectl("scale", "subnet/demo", "--replicas=9", "--namespace", place.name)
            until(lambda: connected(control.cluster, place.name)["generation"] == 2, "the operator has looked")
            until(lambda: len(place.find("pods", "p2pnet.io/role=node")) == 9, "all pods are there")
            words = ("wait", "--for=condition=Connected", "subnet/demo", "--timeout=4s", "--namespace", place.name)
            assert "timed out" in control.cluster.refused(*words)
            seen = connected(control.cluster, place.name)
            assert (seen["status"], seen["reason"], seen["column"]) == ("Unknown", "LabOutdated", "?")
        finally:
            control.labs.deaf = lambda *_: False
        control.cluster.kubectl(
            "wait", "--for=condition=Connected", "subnet/demo", "--timeout=60s", "--namespace", place.name
        )
        assert connected(control.cluster, place.name)["column"] == "9/9"
