"""The operator asks for no right that it does not use, and for every one that it does."""

from datetime import timedelta
from typing import Any

from tests.operator.injection_kit import InjectionWorld

from p2pnet.operator import rbac
from p2pnet.operator.injection.context import INJECTION
from p2pnet.operator.kube.api import ResourceKind
from p2pnet.operator.subnet.context import SUBNET


async def test_every_right_is_used_and_every_use_has_its_right() -> None:
    injections = InjectionWorld()
    world = injections.world
    world.api.edit(SUBNET, "demo", ttl="1h")
    used: set[tuple[str, str]] = set()

    def note(verb: str, kind: ResourceKind, name: str) -> None:
        words = {"apply": ("create", "patch"), "create": ("create",), "patch": ("patch",), "delete": ("delete",)}[verb]
        resource = kind.plural + ("/status" if name.endswith("/status") else "")
        used.update((resource, word) for word in words if not (word == "create" and "/" in resource))

    world.api.fault = note
    await world.converge()
    world.api.edit(SUBNET, "demo", nodes=1)
    await world.converge()
    injections.apply(ttl="10s")
    await injections.until_rest("smoke")
    world.now += timedelta(seconds=11)
    await injections.reconcile()
    assert not injections.api.all(INJECTION), "its ttl is over"
    world.now += timedelta(hours=2)
    await world.reconcile()
    allowed = {
        (right.rule["resources"][0], verb) for right in rbac.RIGHTS for verb in right.verbs
        if right.kind.plural != "persistentvolumeclaims"
    }  # fmt: skip
    assert used <= allowed
    writing = {(resource, verb) for resource, verb in allowed if verb in ("create", "patch", "delete", "update")}
    assert writing - used <= {("pods", "patch")}, "for labels that were lost"
    assert ("secrets", "get") not in allowed
    assert all(right.why for right in rbac.RIGHTS)


def test_machines_are_read_by_an_operator_of_the_whole_cluster_alone() -> None:
    def of_machines(role: dict[str, Any]) -> list[list[str]]:
        return [rule["verbs"] for rule in role["rules"] if "nodes" in rule["resources"]]

    assert of_machines(rbac.role(cluster_wide=True)) == [["get"]]
    assert of_machines(rbac.role(cluster_wide=False, namespace="x")) == []


def test_no_right_is_a_wildcard_and_a_tester_sees_one_token() -> None:
    for role in (
        rbac.role(cluster_wide=True),
        rbac.lease_role("x"),
        rbac.tester_role("x", "demo"),
        rbac.injector_role("x"),
    ):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
    secrets = [rule for rule in rbac.tester_role("x", "demo")["rules"] if rule["resources"] == ["secrets"]]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in secrets] == [(["demo-lab-token"], ["get"])]
    resources = [one for rule in rbac.injector_role("x")["rules"] for one in rule["resources"]]
    assert resources == ["injections", "subnets"], "who injects by resources needs no token and no way to the lab"
    assert rbac.role(cluster_wide=False, namespace="x")["kind"] == "Role"
