"""What nodes and lab read from the ConfigMaps: members, edges, config and document."""

import json

import msgspec
from tests.operator.kit import NAMESPACE, subnet_context

from p2pnet.model.config import ClientConfig, NodeConfig
from p2pnet.model.registry import Membership, Registry, Removed
from p2pnet.operator.subnet.context import Observed
from p2pnet.operator.subnet.plan import configmaps, pods, wanted_pods
from p2pnet.subnet.document import load_subnet
from p2pnet.topology import is_connected

EMPTY = Observed({})


def test_with_discovery_by_seeds_nodes_get_the_service_and_no_addresses() -> None:
    context = subnet_context(nodes=3, nodesPerPod=2, discovery={"mode": "seeds"})
    config = json.loads(configmaps.config_map(context)["data"]["node.json"])
    assert (config["discovery"], config["seeds"]) == ("seeds", [f"demo-nodes.{NAMESPACE}.svc:4100"])
    before = configmaps.membership(context, EMPTY)
    gone = Removed("spiffe://p2pnet/x", 1)
    members = configmaps.members_map(context, Membership(Registry(2, before.registry.members, [gone])))["data"]
    assert msgspec.json.decode(members["denied.json"], type=Membership) == Membership(Registry(2, [], [gone]))
    [volume] = [one for one in wanted_pods(context)["demo-node-0"]["spec"]["volumes"] if one["name"] == "members"]
    assert volume["configMap"]["items"] == [{"key": "denied.json", "path": "members.json"}]
    [volume] = [one for one in pods.lab_pod(context)["spec"]["volumes"] if one["name"] == "members"]
    assert volume == {"name": "members", "configMap": {"name": "demo-members"}}
    assert len(msgspec.json.decode(members["members.json"], type=Membership).registry.members) == 3
    assert list(configmaps.members_map(subnet_context(nodes=3), before)["data"]) == ["members.json"]


def test_the_node_config_is_one_a_node_reads() -> None:
    context = subnet_context(nodes=60, broadcast={"pushBelow": 7, "keep": "5m"}, seed=7)
    written = json.loads(configmaps.config_map(context)["data"]["node.json"])
    config = msgspec.convert({**written, "name": "node-0"}, NodeConfig)
    assert (config.subnet, config.namespace, config.seed, config.health_port) == ("demo", NAMESPACE, 7, 8080)
    assert (config.broadcast.push_below, config.broadcast.keep_s, config.broadcast.full_mesh) == (7, 300.0, False)
    assert config.identity_dir == "/etc/p2pnet/identity"


def test_clients_reach_the_nodes_with_class_and_settings_as_they_were_written() -> None:
    settings = {"rooms": ["a", "b"], "quorum": {"of": 3, "share": 0.5, "strict": True, "next": None}}
    clients = [{"name": "blob"}, {"name": "chat", "class": "mypkg.chat:Chat", "settings": settings}]
    written = json.loads(configmaps.config_map(subnet_context(nodes=2, clients=clients))["data"]["node.json"])
    config = msgspec.convert({**written, "name": "node-0"}, NodeConfig)
    assert config.clients == [ClientConfig("blob"), ClientConfig("chat", "mypkg.chat:Chat", settings)]


def test_the_lab_reads_the_document_itself() -> None:
    written = json.loads(
        configmaps.config_map(subnet_context(nodes=4, ready={"connected": "90%"}))["data"]["subnet.json"]
    )
    subnet = load_subnet(written)
    assert (subnet.name, subnet.metadata.namespace, subnet.spec.ready.connected) == ("demo", NAMESPACE, "90%")


def test_a_sparse_subnets_edges_are_in_the_member_list_and_connect_all_nodes() -> None:
    membership = configmaps.membership(subnet_context(nodes=60), EMPTY)
    assert membership.edges is not None
    assert is_connected([one.name for one in membership.registry.members], membership.edges)
    assert configmaps.membership(subnet_context(nodes=50), EMPTY).edges is None
