"""A Subnet that was stored before a rule stays readable, is scaled, and is mended; only what is written anew is judged."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.control import Control, Place
from tests.cluster.kit import until
from tests.cluster.server import RefusedError

from p2pnet.operator.subnet.crd import crd

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/subnets.p2pnet.io?fieldManager=test&force=true"
STORED = {
    "nodes": 2, "ttl": "9999999d", "pod": {"nodeSelector": {"a b": "c"}, "tolerations": [{"key": "a b"}]},
    "groups": [{"name": "eu", "nodes": 1, "labels": {"region": "eu west"}, "env": {"A=B": "x"}}],
}  # fmt: skip


def without_rules(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_rules(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: without_rules(value) for key, value in schema.items() if key != "x-kubernetes-validations"}


def define(control: Control, definition: dict[str, Any], place: Place, *, strict: bool) -> None:
    control.inside.do(control.server.ask("PATCH", PATH, definition, "application/apply-patch+yaml"))

    def in_force() -> bool:
        body = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "probe"}, "spec": STORED}
        try:
            path = f"/apis/p2pnet.io/v1alpha1/namespaces/{place.name}/subnets?dryRun=All"
            control.inside.do(control.server.ask("POST", path, body))
        except RefusedError:
            return strict
        return not strict

    until(in_force, "the definition is served", every_s=0.1)


@pytest.fixture
def stored(control: Control) -> Iterator[Place]:
    """A place with a Subnet that today's definition would refuse."""
    today = json.loads(json.dumps(crd()))
    with control.place("stored") as place:
        try:
            define(control, without_rules(copy.deepcopy(today)), place, strict=False)
            place.subnet("old", STORED)
        finally:
            define(control, today, place, strict=True)
        yield place


def test_a_subnet_from_before_a_rule_is_scaled_annotated_and_mended_and_only_what_is_new_is_judged(
    stored: Place,
) -> None:
    server, inside = stored.control.server, stored.control.inside
    scaled = inside.do(server.patch("subnets", stored.name, "old", {"spec": {"replicas": 5}}, "scale"))
    assert scaled["spec"]["replicas"] == 5
    stored.patch("subnets", "old", {"metadata": {"annotations": {"p2pnet.io/paused": "true"}}})
    inside.do(server.patch("subnets", stored.name, "old", {"status": {"ready": "0/6"}}, "status"))
    stored.patch("subnets", "old", {"spec": {"groups": [{**STORED["groups"][0], "nodes": 2}]}})  # type: ignore[index]
    with pytest.raises(RefusedError, match=r"spec\.pod\.nodeSelector: .*'d e' is no value of a label"):
        stored.patch("subnets", "old", {"spec": {"pod": {"nodeSelector": {"b": "d e"}}}})
    stored.patch("subnets", "old", {"spec": {"pod": {"nodeSelector": {"a b": None, "b": "d"}}}})
    found = stored.get("subnets", "old") or {}
    assert found["spec"]["nodes"] == 5
    assert found["spec"]["pod"]["nodeSelector"] == {"b": "d"}
    assert found["status"]["ready"] == "0/6"
