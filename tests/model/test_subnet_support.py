"""What a target cannot honour is named; what only repeats a default asks for nothing."""

from typing import Any

import pytest

from p2pnet.model.subnet import API_VERSION, default_subnet, load_subnet, unsupported
from p2pnet.model.subnet_support import FEATURES, REFUSED


def local(implemented: frozenset[str] = frozenset(), **spec: Any) -> list[str]:
    subnet = load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})
    return [line.partition(":")[0] for line in unsupported(subnet, "local", implemented)]


@pytest.mark.parametrize("target", sorted(REFUSED))
def test_a_subnet_of_defaults_runs_everywhere(target: str) -> None:
    assert unsupported(default_subnet("demo", 10), target) == []


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"network": {"default": {"latency": "5ms"}}}, ["spec.network.default"]),
        ({"network": {"rules": [{"loss": "1%"}, {"to": "node-0"}]}}, ["spec.network.rules[0]"]),
        ({"faults": [{"name": "a", "block": True}]}, ["spec.faults"]),
        ({"nodesPerPod": 2}, []),
        ({"image": "x"}, ["spec.image"]),
        ({"groups": [{"name": "a", "nodes": 1, "image": "x"}]}, ["spec.groups[0].image"]),
        ({"groups": [{"name": "a", "nodes": 1, "env": {"A": "b"}}]}, ["spec.groups[0].env"]),
        ({"groups": [{"name": "a", "nodes": 1, "pod": {"nodeSelector": {"a": "b"}}}]}, ["spec.groups[0].pod"]),
        ({"groups": [{"name": "a", "nodes": 1, "behaviour": "slow"}]}, ["spec.groups[0].behaviour"]),
        ({"identity": {"issuer": "certManager", "issuerRef": {"name": "x"}}}, ["spec.identity.issuer"]),
        ({"discovery": {"mode": "seeds"}}, []),
        ({"pod": {"nodeSelector": {"a": "b"}}}, ["spec.pod"]),
        ({"lab": {"storage": "1Gi"}}, ["spec.lab"]),
        ({"clients": [{"name": "chat", "class": "a:B", "settings": {"c": [1]}}]}, []),
        ({"ttl": "2h"}, []),
    ],
)
def test_each_field_that_does_something_is_named(spec: dict[str, Any], paths: list[str]) -> None:
    assert local(**spec) == paths


def test_discovery_by_seeds_runs_where_there_are_processes() -> None:
    document = {"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}}
    subnet = load_subnet({**document, "spec": {"discovery": {"mode": "seeds"}}})
    refusing = {target for target in REFUSED if unsupported(subnet, target)}
    assert refusing == {"sim"}


def test_repeating_a_default_asks_for_nothing() -> None:
    assert (
        local(
            network={"default": {"latency": "0ms", "loss": "0%"}, "rules": []},
            faults=[],
            groups=[{"name": "a", "nodes": 1, "pod": {}, "env": {}, "behaviour": "honest"}],
            topology={"kind": "full"},
            discovery={"mode": "registry"},
            clients=[{"name": "blob"}],
            pod={"resources": {}, "imagePullPolicy": "IfNotPresent", "tolerations": []},
            lab={"storage": "emptyDir", "resources": {}},
            nodesPerPod=1,
            ttl=None,
        )
        == []
    )


def test_an_implemented_feature_is_honoured() -> None:
    cut = [{"name": "cut", "from": "node-0", "block": True}]
    assert local(frozenset({"faults"}), faults=cut, image="x") == ["spec.image"]


def test_the_table_names_only_features_there_are() -> None:
    assert set().union(*REFUSED.values()) <= set(FEATURES)
