"""The ConfigMaps: the registry with its edges, and the node config with the document. Pure."""

from collections.abc import Mapping

import msgspec

from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.operator.kube.api import CONFIG_MAP, Object
from p2pnet.operator.kube.desired import digest
from p2pnet.operator.subnet.context import EVERYWHERE, HEALTH_PORT, PORT_BASE, Observed, SubnetContext
from p2pnet.subnet.document import kept_annotations, to_document
from p2pnet.subnet.members import edges_of, next_membership
from p2pnet.subnet.node_config import node_config as nodes_config

MEMBERS_KEY = "members.json"
DENIED_KEY = "denied.json"
"""The member list without its members, for nodes that find each other by seeds: whom to refuse, and nothing more."""
CONFIG_KEY = "node.json"
DOCUMENT_KEY = "subnet.json"


def membership(site: SubnetContext, observed: Observed) -> Membership:
    """The registry and edges of the document.

    Versions never go back, also when somebody deletes the ConfigMap: status and lab remember. Who was removed is known to
    the lab too; only without either are they forgotten, and kept out by the end of their leaves alone.
    """
    listed = [
        Member(member, site.uri(member), [f"{site.host(placed.pod)}:{site.port(member)}"])
        for placed in site.placement
        for member in placed.members
    ]
    order = {name: index for index, (name, _) in enumerate(site.members)}
    listed.sort(key=lambda member: order[member.name])
    before = read_membership(observed.of(CONFIG_MAP).get(site.members_map)) or observed.lab_members
    known = [int(observed.status.get("registryVersion") or 0), observed.lab.registry_version if observed.lab else 0]
    return next_membership(listed, edges_of(site.subnet), before, max(known))


def read_membership(config_map: Object | None) -> Membership | None:
    """The registry in a ConfigMap, if there is a readable one."""
    try:
        return msgspec.json.decode((config_map or {})["data"][MEMBERS_KEY], type=Membership)
    except (KeyError, TypeError, msgspec.DecodeError):
        return None


def members_map(site: SubnetContext, members: Membership) -> Object:
    """The ConfigMap with the registry."""
    data = {MEMBERS_KEY: msgspec.json.encode(members).decode()}
    if site.subnet.spec.discovery.mode == "seeds":
        denied = Membership(Registry(members.registry.version, [], members.registry.removed))
        data[DENIED_KEY] = msgspec.json.encode(denied).decode()
    return site.object(CONFIG_MAP, site.members_map, data=data)


def config_map(site: SubnetContext) -> Object:
    """The ConfigMap with what a node is told (its name is filled in by its pod) and the document for the lab."""
    data = {CONFIG_KEY: _json(node_config(site)), DOCUMENT_KEY: _json(document(site))}
    return site.object(CONFIG_MAP, site.config_map, data=data)


def document(site: SubnetContext) -> Object:
    """The document as the lab is told it, with the word on what is ignored."""
    metadata = {"name": site.name, "namespace": site.namespace, **kept_annotations(site.annotations)}
    return {**to_document(site.subnet), "metadata": metadata}


def node_config(site: SubnetContext) -> dict[str, object]:
    """A `NodeConfig` without its name."""
    config = nodes_config(
        site.subnet, name="", namespace=site.namespace, host=EVERYWHERE,
        # One port: the first node of every pod has it, and a pod's nodes live and die together.
        seeds=[f"{site.nodes_service}.{site.namespace}.svc:{PORT_BASE}"],
        health_host=EVERYWHERE, health_port=HEALTH_PORT, identity_dir="/etc/p2pnet/identity",
        members_file=f"/etc/p2pnet/members/{MEMBERS_KEY}",
    )  # fmt: skip
    built: dict[str, object] = msgspec.to_builtins(config)
    return {key: value for key, value in built.items() if key != "name"}


def rolling_hash(site: SubnetContext) -> str:
    """Changes when nodes must start again for it: what they read once, and the shape asked for.

    Not the edges themselves: those follow the number of nodes, and a live node takes them from a newer registry.
    """
    written = site.subnet.spec.topology
    shape = written.model_dump(mode="json", by_alias=True, exclude_unset=True) if written else None
    return digest([node_config(site), shape])


def _json(value: Mapping[str, object]) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
