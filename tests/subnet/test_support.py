"""What a target cannot honour is named; what only repeats a default asks for nothing."""

from typing import Any

import pytest

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import default_subnet, honoured, in_force, load_subnet, nodes_max_of, to_document
from p2pnet.subnet.spec import API_VERSION, Subnet
from p2pnet.subnet.support import FEATURES, IGNORED, REFUSED, ignored, unsupported, without_fields


def subnet(**spec: Any) -> Subnet:
    return load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})


EVERYTHING: dict[str, Any] = {
    "nodes": 4,
    "image": "x",
    "groups": [
        {"name": "a", "nodes": 1, "image": "x", "env": {"A": "b"}, "behaviour": "stale-certificate"},
        {"name": "b", "nodes": 1, "pod": {"nodeSelector": {"a": "b"}}},
    ],
    "network": {
        "preset": "ic-lhg73",
        "lossMax": "5%",
        "access": {"groups": {"a": {"up": "1Mbit"}}},
        "default": {"latency": "5ms"},
        "rules": [{"loss": "1%"}, {"to": "node-0"}, {"loss": "2%"}],
    },
    "faults": [{"name": "a", "block": True}],
    "identity": {"issuer": "certManager", "issuerRef": {"name": "x"}, "ttl": "2d"},
    "discovery": {"mode": "seeds"},
    "pod": {"nodeSelector": {"a": "b"}},
    "lab": {"storage": "1Gi"},
    "nodesPerPod": 2,
    "ttl": "2h",
}


@pytest.mark.parametrize("target", sorted(REFUSED))
def test_a_document_as_a_target_honours_it_asks_for_nothing_else_and_says_what_it_left_out(target: str) -> None:
    asked = subnet(**EVERYTHING)
    left = honoured(asked, target)
    assert unsupported(left, target) == []
    assert ignored(left, target) == ignored(asked, target) == unsupported(asked, target)
    assert left.node_count == asked.node_count
    assert left.spec.broadcast == asked.spec.broadcast
    assert honoured(left, target) == left
    assert load_subnet(to_document(left)) == left


def test_what_is_in_force_is_the_document_without_what_is_ignored() -> None:
    spec = in_force(subnet(**EVERYTHING), "local")["spec"]
    assert spec["network"] == EVERYTHING["network"]
    assert spec["faults"] == EVERYTHING["faults"]
    assert spec["identity"] == {"ttl": "2d"}
    assert spec["groups"] == [{"name": "a", "nodes": 1, "behaviour": "stale-certificate"}, {"name": "b", "nodes": 1}]
    assert not {"image", "pod", "lab"} & set(spec)
    assert spec["nodesPerPod"] == 2
    simulated = in_force(subnet(**EVERYTHING), "sim")["spec"]
    assert (simulated["network"], simulated["faults"]) == (EVERYTHING["network"], EVERYTHING["faults"])
    assert simulated["identity"] == {}
    assert not {"image", "pod", "lab", "nodesPerPod", "ttl"} & set(simulated)


def test_fields_that_make_no_sense_without_an_ignored_one_go_with_it() -> None:
    document = {"spec": {"network": {"preset": "aws", "lossMax": "5%", "rules": [{"to": "node-0"}]}}}
    assert without_fields(document, ["spec.network.preset"]) == {"spec": {"network": {"rules": [{"to": "node-0"}]}}}


def test_a_document_that_is_honoured_whole_stays_as_it_is() -> None:
    asked = subnet(nodes=4, ttl="2h")
    assert honoured(asked, "local") is asked
    assert IGNORED not in honoured(asked, "local").metadata.annotations


def test_a_field_without_which_nothing_sensible_is_left_cannot_be_ignored() -> None:
    with pytest.raises(SpecError, match="in pieces"):
        honoured(subnet(nodes=3, topology={"kind": "edges", "edgesFrom": {"configMap": "x"}}), "local")


def refused(target: str, implemented: frozenset[str] = frozenset(), **spec: Any) -> list[str]:
    return [line.partition(":")[0] for line in unsupported(subnet(**spec), target, implemented)]


def local(**spec: Any) -> list[str]:
    return refused("local", **spec)


@pytest.mark.parametrize("target", sorted(REFUSED))
def test_a_subnet_of_defaults_runs_everywhere(target: str) -> None:
    assert unsupported(default_subnet("demo", 10), target) == []


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        (
            {
                "network": {
                    "preset": "aws",
                    "access": {"up": "1Mbit"},
                    "default": {"mtu": 1400},
                    "rules": [{"loss": "1%"}],
                }
            },
            [],
        ),
        ({"faults": [{"name": "a", "block": True}, {"name": "b", "kill": True, "from": "node-0"}]}, []),
        ({"nodesPerPod": 2}, []),
        ({"image": "x"}, ["spec.image"]),
        ({"groups": [{"name": "a", "nodes": 1, "image": "x"}]}, ["spec.groups[0].image"]),
        ({"groups": [{"name": "a", "nodes": 1, "env": {"A": "b"}}]}, ["spec.groups[0].env"]),
        ({"groups": [{"name": "a", "nodes": 1, "pod": {"nodeSelector": {"a": "b"}}}]}, ["spec.groups[0].pod"]),
        ({"nodes": 1, "groups": [{"name": "a", "nodes": 1, "behaviour": "slow"}]}, []),
        (
            {"nodes": 1, "groups": [{"name": "a", "nodes": 1, "behaviour": "stale-certificate"}]},
            [],
        ),
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


def test_the_simulator_honours_network_and_faults_and_names_what_concerns_single_packets() -> None:
    network = {
        "preset": "aws", "access": {"down": "1Mbit"}, "default": {"mtu": 1400, "duplication": "1%"},
        "rules": [{"loss": "1%", "reorder": "0%"}, {"reorder": "2%"}],
    }  # fmt: skip
    faults = [{"name": "a", "block": True}, {"name": "b", "loss": "1%", "duplication": "3%"}]
    paths = ["spec.network.default.duplication", "spec.network.rules[1].reorder", "spec.faults[1].duplication"]
    assert refused("sim", network=network, faults=faults) == paths
    left = honoured(subnet(network=network, faults=faults), "sim")
    assert left.spec.network.default.mtu == 1400
    assert [fault.kinds for fault in left.spec.faults] == [["block"], ["shape"]]


def test_the_simulator_names_the_times_of_certificates() -> None:
    assert refused("sim", identity={"ttl": "24h", "renewBefore": "8h"}) == [
        "spec.identity.ttl",
        "spec.identity.renewBefore",
    ]
    assert refused("sim", identity={"ttl": "7d", "trustDomain": "testing"}) == []


def test_a_simulated_document_may_have_more_nodes_than_a_live_one_whatever_is_ignored() -> None:
    document = {
        "apiVersion": API_VERSION,
        "kind": "Subnet",
        "metadata": {"name": "demo"},
        "spec": {"nodes": 10_000, "ttl": "2h"},
    }
    assert honoured(load_subnet(document, nodes_max=nodes_max_of("sim")), "sim").node_count == 10_000
    with pytest.raises(SpecError, match="1 to 500 nodes"):
        load_subnet(document, nodes_max=nodes_max_of("local"))


@pytest.mark.parametrize(("target", "most"), [("local", 200), ("sim", 1000)])
def test_a_full_mesh_is_refused_above_two_hundred_live_and_a_thousand_simulated_nodes(target: str, most: int) -> None:
    def of(nodes: int) -> Subnet:
        spec = {"nodes": nodes, "topology": {"kind": "full"}}
        document = {"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
        return load_subnet(document, nodes_max=nodes_max_of(target))

    assert of(most).node_count == most
    with pytest.raises(SpecError, match=f"full is for up to {most} nodes"):
        of(most + 1)


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
    assert refused("sim", frozenset({"ttl"}), faults=cut, image="x", ttl="2h") == ["spec.image"]


def test_the_table_names_only_features_there_are() -> None:
    assert set().union(*REFUSED.values()) <= set(FEATURES)


def test_only_a_cluster_cannot_show_a_stale_certificate_yet() -> None:
    document = subnet(nodes=1, groups=[{"name": "a", "nodes": 1, "behaviour": "stale-certificate"}])
    refusing = {target: unsupported(document, target) for target in REFUSED}
    assert {target for target, lines in refusing.items() if lines} == {"cluster", "kind"}
    assert refusing["kind"] == ["spec.groups[0].behaviour: is not implemented yet (target kind)"]
