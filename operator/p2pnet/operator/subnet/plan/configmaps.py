"""The two ConfigMaps: the member list with its edges, and the node config with the document. Pure."""

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
"""The member list without its members, for nodes that find each other by seeds: only whom to refuse."""
CONFIG_KEY = "node.json"
DOCUMENT_KEY = "subnet.json"


def membership(context: SubnetContext, observed: Observed) -> Membership:
    """The member list and edges that the document asks for.

    Its version never decreases, even when the ConfigMap is deleted: status and lab know it, too. The lab also knows removed
    members; without lab and ConfigMap they are forgotten, and refused only once their leaves have expired.
    """
    listed = [
        Member(member, context.uri(member), [f"{context.host(placed.pod)}:{context.port(member)}"])
        for placed in context.placements
        for member in placed.members
    ]
    order = {name: index for index, (name, _) in enumerate(context.members)}
    listed.sort(key=lambda member: order[member.name])
    before = read_membership(observed.of(CONFIG_MAP).get(context.members_map)) or observed.lab_members
    known = [int(observed.status.get("registryVersion") or 0), observed.lab.registry_version if observed.lab else 0]
    return next_membership(listed, edges_of(context.subnet), before, max(known))


def read_membership(config_map: Object | None) -> Membership | None:
    """The member list in a ConfigMap; None when it is missing or damaged."""
    try:
        return msgspec.json.decode((config_map or {})["data"][MEMBERS_KEY], type=Membership)
    except (KeyError, TypeError, msgspec.DecodeError):
        return None


def members_map(context: SubnetContext, members: Membership) -> Object:
    """The ConfigMap with the member list."""
    data = {MEMBERS_KEY: msgspec.json.encode(members).decode()}
    if context.subnet.spec.discovery.mode == "seeds":
        denied = Membership(Registry(members.registry.version, [], members.registry.removed))
        data[DENIED_KEY] = msgspec.json.encode(denied).decode()
    return context.object(CONFIG_MAP, context.members_map, data=data)


def config_map(context: SubnetContext) -> Object:
    """The ConfigMap with the node config, to which each pod adds its names, and with the document for the lab."""
    data = {CONFIG_KEY: _json(node_config(context)), DOCUMENT_KEY: _json(document(context))}
    return context.object(CONFIG_MAP, context.config_map, data=data)


def document(context: SubnetContext) -> Object:
    """The document for the lab, with the annotation that says which fields to ignore."""
    metadata = {"name": context.name, "namespace": context.namespace, **kept_annotations(context.annotations)}
    return {**to_document(context.subnet), "metadata": metadata}


def node_config(context: SubnetContext) -> dict[str, object]:
    """A `NodeConfig` without its name."""
    config = nodes_config(
        context.subnet, name="", namespace=context.namespace, host=EVERYWHERE,
        # One port suffices: the first node of every pod has it, and nodes of a pod start and end together.
        seeds=[f"{context.nodes_service}.{context.namespace}.svc:{PORT_BASE}"],
        health_host=EVERYWHERE, health_port=HEALTH_PORT, identity_dir="/etc/p2pnet/identity",
        members_file=f"/etc/p2pnet/members/{MEMBERS_KEY}",
    )  # fmt: skip
    built: dict[str, object] = msgspec.to_builtins(config)
    return {key: value for key, value in built.items() if key != "name"}


def rolling_hash(context: SubnetContext) -> str:
    """A hash of everything for which nodes must be restarted: what they read only at start, and the topology asked for.

    The edges are left out: they follow the number of nodes, and a running node takes them from a newer member list.
    """
    written = context.subnet.spec.topology
    shape = written.model_dump(mode="json", by_alias=True, exclude_unset=True) if written else None
    return digest([node_config(context), shape])


def _json(value: Mapping[str, object]) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()  # the text is hashed
