"""Files of the local target: the authority, leaves, ports, the member list, node configs. What is where: `desk.state`."""

from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from p2pnet.model.config import NodeConfig, write_node_config
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.registry import Member, Membership
from p2pnet.model.text import address_text
from p2pnet.quic.hosts import loopback
from p2pnet.store.files import private_directory, write_atomic
from p2pnet.store.state import SubnetPaths
from p2pnet.subnet.members import edges_of, members, next_membership
from p2pnet.subnet.node_config import node_config
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import Authority, Identity

SEEDS = 3
"""How many nodes are everybody's seeds under discovery by seeds: the first of the document."""
NAMESPACE = "local"


def groups_of(subnet: Subnet) -> dict[str, str]:
    """Group by node, in member order."""
    return {name: group for name, group, *_ in members(subnet)}


def uri_of(subnet: Subnet, node: str) -> str:
    """The identity of a node."""
    return member_uri(subnet.spec.identity.trust_domain, NAMESPACE, subnet.name, node)


def uri_of_lab(subnet: Subnet) -> str:
    """The identity of the lab."""
    return lab_uri(subnet.spec.identity.trust_domain, NAMESPACE, subnet.name)


def open_authority(paths: SubnetPaths, now: datetime) -> Authority:
    """The subnet's authority: the one on disk while it lasts, else a new one."""
    folder = private_directory(paths.authority)
    certificate, key = folder / "ca.crt", folder / "ca.key"
    try:
        authority = Authority.load(certificate.read_bytes(), key.read_bytes())
    except (OSError, SpecError):
        authority = None
    if authority is not None and authority.not_after - now > timedelta(days=30):
        return authority
    authority = Authority.create(f"p2pnet {paths.name}", now=now)
    write_atomic(key, authority.key_pem, mode=0o600)
    write_atomic(certificate, authority.certificate_pem)
    return authority


def issue(authority: Authority, uri: str, folder: Path, *, now: datetime, ttl_s: float) -> Identity:
    """A new leaf for `uri`, written to `folder` for its reader to notice."""
    leaf = authority.issue(uri, now=now, ttl=timedelta(seconds=ttl_s), ip_addresses=[loopback()])
    identity = Identity.of(leaf, authority.certificate_pem)
    identity.write(private_directory(folder))
    return identity


def membership_of(subnet: Subnet, ports: dict[str, int], before: Membership | None) -> Membership:
    """The member list of a document, with the addresses of this machine; see `next_membership`."""
    listed = [Member(name, uri_of(subnet, name), [address_text(loopback(), ports[name])]) for name in groups_of(subnet)]
    return next_membership(listed, edges_of(subnet), before)


def config_of(subnet: Subnet, paths: SubnetPaths, node: str, group: str, ports: dict[str, int]) -> NodeConfig:
    """What a node is told before it starts."""
    return node_config(
        subnet, name=node, namespace=NAMESPACE, group=group, host=loopback(),
        seeds=[address_text(loopback(), ports[one]) for one in list(groups_of(subnet))[:SEEDS]],
        identity_dir=str(paths.node(node).identity), members_file=str(paths.members),
    )  # fmt: skip


def write_config(subnet: Subnet, paths: SubnetPaths, node: str, group: str, ports: dict[str, int]) -> Path:
    """Write the node's config; its path."""
    files = paths.node(node)
    private_directory(files.root)
    write_node_config(files.config, config_of(subnet, paths, node, group, ports))
    return files.config


def read_ports(paths: SubnetPaths) -> dict[str, int]:
    """Ports chosen before, by node."""
    try:
        return msgspec.json.decode(paths.ports.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        return {}


def write_ports(paths: SubnetPaths, ports: dict[str, int]) -> None:
    """Record the ports."""
    write_atomic(paths.ports, msgspec.json.format(msgspec.json.encode(ports)))


def read_membership(paths: SubnetPaths) -> Membership | None:
    """The member list on disk, if there is a readable one."""
    try:
        return msgspec.json.decode(paths.members.read_bytes(), type=Membership)
    except (OSError, msgspec.DecodeError):
        return None


def write_membership(paths: SubnetPaths, membership: Membership) -> None:
    """Replace the member list that nodes boot from."""
    write_atomic(paths.members, msgspec.json.encode(membership))


def write_document(paths: SubnetPaths, document: dict[str, object]) -> None:
    """Replace the Subnet document."""
    write_atomic(paths.document, msgspec.json.format(msgspec.json.encode(document)), durable=True)


def forget_node(paths: SubnetPaths, node: str) -> None:
    """Remove a retired node's key, so that nobody is that node any more; its log stays."""
    for file in paths.node(node).identity.glob("*"):
        file.unlink(missing_ok=True)
