"""What an edit changes, and who can take it: the lists of the design, on every target."""

from typing import Any

import pytest

from p2pnet.model.errors import SpecError
from p2pnet.subnet import edits
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import IGNORED


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": {"nodes": 3, **spec},
    }  # fmt: skip


def subnet(**spec: Any) -> Subnet:
    return load_subnet(document(**spec))


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


LIVE = [
    "spec.nodes", "spec.groups[next]", "spec.groups[next].nodes", "spec.network", "spec.faults", "spec.ready", "spec.ttl",
    "spec.identity.ttl", "spec.identity.renewBefore", edits.ANNOTATION,
]  # fmt: skip
ROLLING = [
    "spec.image", "spec.clients", "spec.broadcast", "spec.topology", "spec.pod", "spec.lab", "spec.identity.issuerRef",
    "spec.groups[next].labels", "spec.groups[next].image", "spec.groups[next].env",
]  # fmt: skip
IMMUTABLE = [
    "spec.identity.trustDomain", "spec.identity.issuer", "spec.discovery.mode", "spec.nodesPerPod", "spec.seed",
]  # fmt: skip


def test_live_edits_are_taken_everywhere() -> None:
    assert edits.refused(LIVE, "local") == []
    assert edits.refused(LIVE, "cluster") == []


def test_rolling_edits_are_taken_where_pods_can_be_replaced() -> None:
    assert edits.refused(ROLLING, "local") == ROLLING
    assert edits.refused(ROLLING, "cluster") == []
    assert edits.refused(ROLLING, "kind") == []


def test_immutable_fields_are_refused_everywhere() -> None:
    assert edits.refused(IMMUTABLE, "local") == IMMUTABLE
    assert edits.refused(IMMUTABLE, "cluster") == IMMUTABLE
    assert ["spec." + ".".join(path) for path in edits.immutable_fields()] == IMMUTABLE


def test_every_field_of_the_spec_has_a_kind() -> None:
    """A new field without one would make `changed` name a path that nobody can judge."""
    spec = subnet().spec.model_dump(by_alias=True)
    parts = {f"{name}.{part}" for name in ("identity", "discovery") for part in spec[name]}
    assert parts | (spec.keys() - {"identity", "discovery", "groups"}) == set(edits.KINDS)


def test_an_issuer_reference_may_change_where_cert_manager_issues() -> None:
    before = subnet(identity={"issuer": "certManager", "issuerRef": {"name": "old"}})
    after = subnet(identity={"issuer": "certManager", "issuerRef": {"name": "new"}})
    paths = edits.changed(before, after)
    assert paths == ["spec.identity.issuerRef"]
    assert edits.refused(paths, "cluster") == []


def test_an_edit_is_a_whole_document_or_a_merge_patch() -> None:
    assert edits.edited(subnet(), document(nodes=5), "local").spec.nodes == 5
    assert edits.edited(subnet(), {"spec": {"nodes": 4}}, "local").spec.nodes == 4
    assert edits.edited(subnet(ttl="1h"), {"spec": {"ttl": None}}, "local").spec.ttl is None


def test_an_edit_names_every_field_that_cannot_change() -> None:
    with pytest.raises(SpecError, match=r"spec\.broadcast, spec\.seed"):
        edits.edited(subnet(), {"spec": {"seed": 7, "broadcast": {"keep": "1m"}}}, "local")
    with pytest.raises(SpecError, match=r"this subnet is demo, not other"):
        edits.edited(subnet(), {"metadata": {"name": "other"}}, "local")


def test_an_edit_of_what_a_target_cannot_honour_says_why() -> None:
    before = subnet(groups=[{"name": "next", "nodes": 1}])
    change = {"spec": {"groups": [{"name": "next", "nodes": 1}, {"name": "bad", "nodes": 1, "env": {"A": "b"}}]}}
    with pytest.raises(SpecError, match=r"spec\.groups\[1\]\.env: is not implemented yet \(target local\)"):
        edits.edited(before, change, "local")


def test_another_behaviour_replaces_the_nodes_of_a_group() -> None:
    before = subnet(nodes=1, groups=[{"name": "next", "nodes": 1}])
    change = {"spec": {"groups": [{"name": "next", "nodes": 1, "behaviour": "lying"}]}}
    with pytest.raises(SpecError, match=r"spec\.groups\[next\]\.behaviour"):
        edits.edited(before, change, "local")
    assert edits.kind_of("spec.groups[next].behaviour") is edits.EditKind.ROLLING
    assert edits.edited(before, change, "cluster").spec.groups[0].behaviour == "lying"


@pytest.mark.parametrize("target", ["local", "cluster", "kind"])
def test_network_and_faults_are_edited_while_the_subnet_runs(target: str) -> None:
    network = {"preset": "aws", "access": {"up": "10Mbit"}, "rules": [{"from": "node-0", "latency": "20ms"}]}
    change = {"spec": {"network": network, "faults": [{"name": "cut", "from": "node-0", "block": True}]}}
    new = edits.edited(subnet(), change, target)
    paths = edits.changed(subnet(), new)
    assert paths == ["spec.network", "spec.faults"]
    assert {edits.kind_of(path) for path in paths} == {edits.EditKind.LIVE}


def test_other_ignored_fields_are_an_edit_of_the_annotation() -> None:
    noted = document()
    noted["metadata"]["annotations"] = {IGNORED: "spec.pod: there are no pods"}
    assert edits.changed(subnet(), load_subnet(noted)) == [edits.ANNOTATION]


def test_merge_patches_replace_merge_and_remove() -> None:
    patched = edits.merge_patch({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3, "c": None}, "d": [2]})
    assert patched == {"a": {"b": 3}, "d": [2]}
