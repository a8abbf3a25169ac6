"""The Subnet document: read whole, or refused with the path of every mistake."""

from datetime import date
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import default_subnet, load_subnet, subnet_json_schema, to_document
from p2pnet.subnet.members import members, topology_of
from p2pnet.subnet.spec import API_VERSION, Subnet

WHOLE = """
apiVersion: p2pnet.io/v1alpha1
kind: Subnet
metadata: {name: demo}
spec:
  nodes: 20
  groups:
    - {name: next, nodes: 4, image: x, labels: {region: eu}, env: {A: b}, pod: {}, behaviour: honest}
    - {name: us, nodes: 2, labels: {region: us}}
  image: registry.example/node:1
  topology: {kind: random-regular, degree: 4}
  discovery: {mode: registry}
  identity: {trustDomain: p2pnet, ttl: 7d, renewBefore: 2d, issuer: certManager, issuerRef: {name: ours}}
  broadcast: {pushBelow: 1024, relay: auto, slotsPerPeer: 10000, artifactBytesMax: 128Mi, keep: 10m}
  clients: [{name: blob}, {name: mine, class: "my.module:Client", settings: {a: [1, {b: null}], c: 0.5, d: true}}]
  network: {default: {latency: 0ms}, rules: [{from: region=eu, to: region=us, latency: 90ms, loss: 0.2%}]}
  faults: [{name: cut, from: node-0, to: "group=next,region=eu", block: true}, {name: sleep, from: us-1, pause: true}]
  ready: {connected: 100%, within: 120s}
  nodesPerPod: 1
  pod:
    resources: {limits: {cpu: 1, memory: 64Mi}}
    imagePullPolicy: IfNotPresent
    imagePullSecrets: [{name: s}]
    nodeSelector: {a: b}
    tolerations: [{key: k}]
    code: {configMap: chat}
  lab: {storage: 1Gi, resources: {}}
  seed: 42
  ttl: 2h
"""

TWICE = [["node-0", "node-1"], ["node-1", "node-0"]]


def document(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


def both(resource: str, amount: str | int) -> dict[str, Any]:
    """A pod that asks for no more and no less of a resource."""
    return {"pod": {"resources": {"requests": {resource: amount}, "limits": {resource: amount}}}}


def doubled(times: int) -> Any:
    """As YAML's aliases do it: 2 ** times values in as many lists."""
    value: Any = 0
    for _ in range(times):
        value = [value, value]
    return value


def mistakes(value: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load_subnet(value)
    return str(caught.value)


def test_every_field_of_the_design_is_read() -> None:
    subnet = load_subnet(WHOLE)
    spec = subnet.spec
    assert (subnet.name, subnet.node_count) == ("demo", 26)
    assert spec.identity.ttl.seconds == 604_800
    assert spec.identity.renew_before_seconds == 172_800
    assert spec.broadcast.artifact_bytes_max.bytes == 128 << 20
    assert spec.network.rules[0].latency is not None
    assert spec.network.rules[0].latency.seconds == 0.09
    assert spec.ready.connected.ratio == 1.0
    assert topology_of(subnet).degree == 4


def test_what_is_left_out_has_the_defaults_of_the_design() -> None:
    spec = load_subnet(document()).spec
    assert (spec.nodes, spec.seed, spec.ttl, spec.nodes_per_pod) == (3, 42, None, 1)
    assert (spec.identity.ttl, spec.identity.renew_before, spec.identity.issuer) == ("7d", None, "builtin")
    assert spec.identity.renew_before_seconds == pytest.approx(604_800 / 3)
    assert (spec.broadcast.push_below, spec.broadcast.relay, spec.broadcast.keep) == ("auto", "auto", "10m")
    assert [client.name for client in spec.clients] == ["blob"]
    assert (spec.ready.connected, spec.ready.within) == ("100%", "120s")


def test_group_node_is_empty_by_default_when_other_groups_are_given() -> None:
    assert load_subnet(document(groups=[{"name": "a", "nodes": 2}])).spec.nodes == 0
    assert load_subnet(document(groups=[{"name": "a", "nodes": 2}], nodes=1)).node_count == 3


@pytest.mark.parametrize("source", [WHOLE, "kind: Subnet\napiVersion: p2pnet.io/v1alpha1\nmetadata: {name: a}\n"])
def test_a_document_is_written_as_it_was_read(source: str) -> None:
    assert to_document(load_subnet(source)) == yaml.safe_load(source)


def test_members_are_ordered_by_group_and_number() -> None:
    subnet = load_subnet(document(nodes=11, groups=[{"name": "next", "nodes": 1}]))
    assert [name for name, _ in members(subnet)] == ["next-0", *(f"node-{index}" for index in range(11))]
    assert members(subnet)[0] == ("next-0", "next")


@pytest.mark.parametrize(
    ("nodes", "kind", "degree"),
    [(1, "full", 1), (50, "full", 49), (51, "random-regular", 8), (500, "random-regular", 8)],
)
def test_the_default_topology_is_full_to_fifty_nodes(nodes: int, kind: str, degree: int) -> None:
    plan = topology_of(default_subnet("demo", nodes))
    assert (plan.kind, plan.degree, plan.full) == (kind, degree, kind == "full")


def test_a_default_degree_fits_a_small_subnet() -> None:
    assert topology_of(load_subnet(document(nodes=4, topology={"kind": "random-regular"}))).degree == 3


def test_what_an_api_server_adds_is_left_out() -> None:
    added = document(nodes=2) | {"status": {"observedGeneration": 1}}
    added["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": [], "namespace": "team"}
    assert to_document(load_subnet(added)) == document(nodes=2) | {"metadata": {"name": "demo", "namespace": "team"}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"nodes": "3"}, "spec.nodes: should be a valid integer"),
        ({"nodes": True}, "spec.nodes"),
        ({"nodes": -1}, "spec.nodes: should be greater than or equal to 0"),
        ({"nodes": 0}, "spec.nodes: 0 nodes: a subnet has 1 to 500 nodes in all groups"),
        ({"nodes": 501}, "spec.nodes: 501 nodes: a subnet has 1 to 500 nodes in all groups"),
        ({"nodes": 300, "groups": [{"name": "a", "nodes": 201}]}, "spec.nodes: 501 nodes"),
        ({"groups": [{"name": "a"}]}, "spec.groups[0].nodes: is missing"),
        ({"groups": [{"name": "A", "nodes": 1}]}, "spec.groups[0].name: 'A' is no name of a group"),
        ({"groups": [{"name": "node", "nodes": 1}]}, "spec.groups[0].name: 'node' is the group of spec.nodes"),
        ({"groups": [{"name": "a", "nodes": 1}] * 2}, "spec.groups[1].name: 'a' stands here twice"),
        ({"groups": [{"name": f"g{i}", "nodes": 1} for i in range(17)]}, "spec.groups: should have at most 16"),
        ({"groups": [{"name": "a", "nodes": 1, "labels": {"node": "x"}}]}, "spec.groups[0].labels: 'node' is set by p2pnet"),
        ({"groups": [{"name": "a", "nodes": 1, "env": {"A": 1}}]}, "spec.groups[0].env.A: should be a valid string, not 1"),
        ({"groups": {}}, "spec.groups: should be a list"),
        ({"groups": [{"name": "a", "nodes": 1, "env": []}]}, "spec.groups[0].env: should be a mapping"),
        ({"topology": "ring"}, "spec.topology: should be a mapping with keys like kind, degree, edges, edgesFrom, not 'ring'"),
        ({"meteor": {}}, "spec.meteor: unknown key"),
        ({"topolgy": {}}, "spec.topolgy: unknown key, did you mean 'topology'?"),
        ({"degree": 2}, "spec.degree: unknown key here, it belongs to spec.topology.degree"),
        ({"degre": 2}, "spec.degre: unknown key here, did you mean spec.topology.degree?"),
        ({"topology": {"nodesPerPod": 2}}, "spec.topology.nodesPerPod: unknown key here, it belongs to spec.nodesPerPod"),
        ({"pod": {"region": "eu"}}, "spec.pod.region: unknown key"),
        ({"groups": [{"name": "a", "nodes": 1, "latency": "9ms"}]},
         "spec.groups[0].latency: unknown key here, it belongs to spec.faults[].latency or spec.network.default.latency or"),
        ({"clients": [{"nme": "a"}]}, "spec.clients[0].nme: unknown key, did you mean 'name'?"),
        ({"topology": {"kind": "star"}}, "spec.topology.kind: should be 'full', 'random-regular'"),
        ({"nodes": 5, "topology": {"kind": "random-regular", "degree": 3}}, "spec.topology.degree: nodes x degree is an odd"),
        ({"nodes": 5, "topology": {"kind": "random-regular", "degree": 5}}, "spec.topology.degree: so many peers each need"),
        ({"nodes": 4, "topology": {"kind": "random-regular", "degree": 1}}, "spec.topology.degree: 1 peer each"),
        ({"nodes": 5, "topology": {"kind": "ring", "degree": 3}}, "spec.topology.degree: a ring has as many peers"),
        ({"nodes": 201, "topology": {"kind": "full"}}, "spec.topology.kind: full is for up to 200 nodes"),
        ({"topology": {"kind": "full", "degree": 3}}, "spec.topology.degree: contradicts kind full"),
        ({"topology": {"kind": "ring", "edges": [["node-0", "node-1"]]}}, "spec.topology.edges: contradicts kind ring"),
        ({"topology": {"kind": "edges", "edges": [["node-0", "node-9"]]}}, "spec.topology.edges[0]: no node is named 'node-9'"),
        ({"topology": {"kind": "edges", "edges": [["node-0", "node-0"]]}}, "spec.topology.edges[0]: node-0 cannot be its own"),
        ({"topology": {"kind": "edges", "edges": [["node-0", "node-1"]]}}, "in pieces: no path from node-0 to node-2"),
        ({"nodes": 2, "topology": {"kind": "edges", "edges": TWICE}}, "edges[1]: node-1 and node-0 are connected twice"),
        ({"topology": {"kind": "edges", "edges": [["node-0"]]}}, "spec.topology.edges[0]: should have at least 2"),
        ({"topology": {"kind": "edges", "edgesFrom": {}}}, "spec.topology.edgesFrom: name either"),
        ({"topology": {"kind": "ring"}, "broadcast": {"relay": "none"}}, "spec.broadcast.relay: none with the sparse"),
        (
            {"topology": {"kind": "ring"}, "broadcast": {"relay": "scatter"}},
            "spec.broadcast.relay: scatter with the sparse topology ring: it needs a full mesh",
        ),
        ({"topology": {"kind": "ring"}, "discovery": {"mode": "seeds"}}, "spec.discovery.mode: seeds with the sparse"),
        ({"identity": {"ttl": "14m"}}, "spec.identity.ttl: 14m: a leaf lives from 15m"),
        ({"identity": {"ttl": "1h", "renewBefore": "1h"}}, "spec.identity.renewBefore"),
        ({"identity": {"issuer": "certManager"}}, "spec.identity.issuerRef"),
        ({"identity": {"trustDomain": "UPPER"}}, "spec.identity.trustDomain"),
        ({"broadcast": {"pushBelow": "1"}}, "spec.broadcast.pushBelow: '1' is no size"),
        ({"broadcast": {"pushBelow": -1}}, "spec.broadcast.pushBelow"),
        ({"broadcast": {"artifactBytesMax": "129Mi"}}, "spec.broadcast.artifactBytesMax: 129Mi"),
        ({"broadcast": {"artifactBytesMax": 1024}}, "spec.broadcast.artifactBytesMax: '1024' is no size"),
        ({"broadcast": {"keep": 600}}, "spec.broadcast.keep: '600' is no duration"),
        ({"clients": []}, "spec.clients: should have at least 1"),
        ({"clients": [{"name": "a"}, {"name": "a"}]}, "spec.clients[1].name: 'a' stands here twice"),
        ({"clients": [{"name": "a", "class": "nonsense"}]}, "spec.clients[0].class"),
        ({"clients": [{"name": "http-outcalls"}]}, "spec.clients[0].name"),
        ({"clients": [{"name": "averylongname"}]}, "spec.clients[0].name"),
        ({"clients": [{"name": "a", "settings": {"when": date(2026, 1, 1)}}]},
         "spec.clients[0].settings: when: a value of type date that JSON does not have"),
        ({"clients": [{"name": "a", "settings": {"b": [{1: 2}]}}]}, "spec.clients[0].settings: b: a value of type dict"),
        ({"clients": [{"name": "a", "settings": {"b": float("inf")}}]}, "spec.clients[0].settings: b: a value of type float"),
        ({"clients": [{"name": "a", "settings": {"b": 1 << 63}}]}, "spec.clients[0].settings: b: a value of type int"),
        ({"clients": [{"name": "a", "settings": {"b": "x" * 70_000}}]}, "spec.clients[0].settings: hold more than 65536"),
        ({"clients": [{"name": "a", "settings": {"b": nested(40)}}]}, "spec.clients[0].settings: hold more than"),
        ({"clients": [{"name": "a", "settings": {"b": doubled(40)}}]}, "spec.clients[0].settings: hold more than"),
        ({"network": {"default": {"latency": 20}}}, "spec.network.default.latency: '20' is no duration"),
        ({"network": {"default": {"loss": "101%"}}}, "spec.network.default.loss: '101%' is no share"),
        ({"network": {"rules": [{"from": "region=eu"}]}}, "spec.network.rules[0].from: 'region=eu' selects no node"),
        ({"network": {"rules": [{"to": "node-3"}]}}, "spec.network.rules[0].to: no node is named 'node-3'"),
        ({"network": {"rules": [{"to": "node-00"}]}}, "spec.network.rules[0].to: no node is named 'node-00'"),
        ({"network": {"rules": [{}] * 65}}, "spec.network.rules: should have at most 64"),
        ({"faults": [{"name": "a"}]}, "spec.faults[0]: does nothing"),
        ({"faults": [{"name": "a", "pause": True, "block": True}]}, "spec.faults[0]: block and pause: a fault does one thing"),
        ({"faults": [{"name": "a", "block": True}] * 2}, "spec.faults[1].name: 'a' stands here twice"),
        ({"ready": {"connected": 1}}, "spec.ready.connected: '1' is no share"),
        ({"ready": {"within": "0s"}}, "spec.ready.within"),
        ({"nodesPerPod": 0}, "spec.nodesPerPod"),
        ({"pod": {"resources": {"limits": {"cpu": []}}}}, "spec.pod.resources.limits.cpu: '[]' is no amount"),
        ({"pod": {"imagePullPolicy": "Sometimes"}}, "spec.pod.imagePullPolicy"),
        (both("nvidia.com/gpu", "0.5"), "spec.pod.resources.requests: nvidia.com/gpu: '0.5' is no whole number"),
        (both("nvidia.com/gpu", "500m"), "spec.pod.resources.limits: nvidia.com/gpu: '500m' is no whole number"),
        (both("memory", 1 << 63), "spec.pod.resources.requests.memory: '9223372036854775808' is no amount"),
        (both("hugepages-2Mi", "3Mi"), "spec.pod.resources.requests: hugepages-2Mi: '3Mi' is no whole number of such pages"),
        (both("hugepages-2Mi", 1), "spec.pod.resources.requests: hugepages-2Mi: '1' is no whole number of such pages"),
        (both("hugepages-0Mi", "2Mi"), "spec.pod.resources.requests: 'hugepages-0Mi' is no resource"),
        (both("requests.x.com/gpu", "1"), "spec.pod.resources.requests: 'requests.x.com/gpu' is no resource"),
        (both("a" * 245 + "/gpu", "1"), "/gpu' is no resource"),
        ({"lab": both("nvidia.com/gpu", "0.5")["pod"]}, "spec.lab.resources.requests: nvidia.com/gpu: '0.5' is no whole number"),
        ({"pod": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "x"}}}, "spec.pod.annotations: 'controller."),
        ({"pod": {"labels": {"sub.p2pnet.io/name": "x"}}}, "spec.pod.labels: 'sub.p2pnet.io/name' is set by"),
        ({"topology": {"kind": "edges", "edgesFrom": {"configMap": "x", "key": "..data"}}},
         "spec.topology.edgesFrom.key: '..data' is no key"),
        *(({"groups": [{"name": "a", "nodes": 1, "env": {name: "x"}}]}, f"spec.groups[0].env: {name!r} is no name of a variable")
          for name in (".", "..", "..A")),
        ({"lab": {"storage": "5"}}, "spec.lab.storage: '5' is no storage"),
        ({"lab": {"storage": "1000000.1GB"}}, "spec.lab.storage: '1000000.1GB' is no storage"),
        ({"nodes": 1, "topology": {"kind": "random-regular", "degree": 3}}, "spec.topology.degree: nodes x degree is an odd"),
        ({"identity": {"ttl": "1.1h", "renewBefore": "66m"}}, "spec.identity.renewBefore: 66m: more than nothing"),
        ({"identity": {"ttl": "1h", "renewBefore": "3599.999999s"}}, "spec.identity.renewBefore: 3599.999999s: more than"),
        ({"seed": -1}, "spec.seed"),
        ({"ttl": "1s"}, "spec.ttl: 1s: from 1m to 3650d"),
        ({"ttl": "1" * 33 + "s"}, "spec.ttl: write at most 32 characters"),
        ({"image": "x" * 254}, "spec.image: should have at most 253 characters"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_path(spec: dict[str, Any], message: str) -> None:
    assert message in mistakes(document(**spec))


@pytest.mark.parametrize(
    ("key", "amount"),
    [("nvidia.com/gpu", 1), ("nvidia.com/gpu", "2.0"), ("example.com/fuse", "1k"), ("requests-of.x.com/gpu", "1"),
     ("hugepages-2Mi", "4Mi"), ("hugepages-1Gi", "2Gi"), ("hugepages-2Mi", "0.5Gi"), ("hugepages-64Ki", 0),
     ("hugepages-2Mi", (1 << 53) + 1), ("cpu", "0.5")],
)  # fmt: skip
def test_resources_that_pods_can_have_are_taken(key: str, amount: str | int) -> None:
    load_subnet(document(**both(key, amount)))


def test_keys_of_other_parts_of_kubernetes_are_the_users() -> None:
    load_subnet(
        document(pod={"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "myp2pnet.io/x": "y"}})
    )


@pytest.mark.parametrize("place", ["spec", "image", "topology", "groups"])
def test_a_null_means_left_out_as_on_an_api_server(place: str) -> None:
    written = document() | {"spec": None} if place == "spec" else document(**{place: None})
    assert load_subnet(written) == load_subnet(document())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apiVersion": "v1"}, "apiVersion: should be 'p2pnet.io/v1alpha1'"),
        ({"kind": "Pod"}, "kind: should be 'Subnet'"),
        ({"metadata": {}}, "metadata.name: is missing"),
        ({"metadata": {"name": "Demo"}}, "metadata.name: 'Demo' is no name of a subnet"),
        ({"metadata": {"name": "a" * 41}}, "metadata.name"),
        ({"spec": [1]}, "spec: should be"),
        ({"extra": 1}, "extra: unknown key"),
        ({"seed": 1}, "seed: unknown key here, it belongs to spec.seed"),
    ],
)
def test_the_frame_is_checked_too(change: dict[str, Any], message: str) -> None:
    assert message in mistakes(document() | change)


def test_many_mistakes_are_one_error_that_shows_ten() -> None:
    lines = mistakes(document(groups=[{"name": "UP", "nodes": -1}] * 6)).splitlines()
    assert lines[0] == "12 mistakes"
    assert len(lines) == 12
    assert lines[-1].strip() == "... and 2 more"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "is a mapping"),
        ("just words", "is a mapping"),
        ("", "one Subnet document is wanted, none is here"),
        ("{", "not YAML"),
    ],
)
def test_what_is_no_document_is_said(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_subnet(text, "file.yaml")
    assert str(caught.value).startswith("file.yaml: ")
    assert message in str(caught.value)


def test_bytes_are_read_as_text_is() -> None:
    assert load_subnet(WHOLE.encode()) == load_subnet(WHOLE)
    with pytest.raises(SpecError, match="not YAML"):
        load_subnet(b"\xff\xfe\xff")


def test_a_simulated_subnet_may_be_larger() -> None:
    assert load_subnet(document(nodes=10_000), nodes_max=100_000).node_count == 10_000


@pytest.mark.parametrize(("name", "nodes"), [("Demo", 3), ("demo", 0), ("demo", 501)])
def test_a_default_subnet_is_checked_like_any_other(name: str, nodes: int) -> None:
    with pytest.raises(SpecError):
        default_subnet(name, nodes)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda some: (
            st.lists(some, max_size=3)
            | st.dictionaries(
                st.sampled_from(["nodes", "groups", "name", "topology", "kind", "ttl", "x"]), some, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_value_is_a_subnet_or_a_spec_error(spec: Any) -> None:
    try:
        assert isinstance(load_subnet(document() | {"spec": spec}), Subnet)
    except SpecError:
        return


def test_the_json_schema_agrees_with_the_reader() -> None:
    schema = subnet_json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(yaml.safe_load(WHOLE))
    validator.validate(document())
    assert not validator.is_valid(document(nodes="3"))
    assert not validator.is_valid(document(ttl="soon"))
    assert not validator.is_valid(document(unknown=1))
