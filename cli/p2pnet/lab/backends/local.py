"""The backend of the local target: processes under a supervisor; authority, leaves, ports and configs in the state directory.

Which file is where is said by `store.state`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from p2pnet.lab.backends.backend import LabIdentity, Process
from p2pnet.lab.backends.supervisor_client import SupervisorClient
from p2pnet.model.agent import Action
from p2pnet.model.config import NodeConfig, write_node_config
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.network import NodeNetwork
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.model.text import address_text
from p2pnet.quic.hosts import loopback
from p2pnet.store.files import private_directory, write_atomic
from p2pnet.store.state import SubnetPaths
from p2pnet.subnet.members import edges_of, members, next_membership, pack_of, refused_everywhere
from p2pnet.subnet.node_config import node_config
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import Authority, Identity

NAMESPACE = "local"  # in URIs of local identities, where a cluster's have the Kubernetes namespace
SEEDS = 3  # nodes, the first of the document, that are every node's seeds under discovery by seeds
STALE_FOR = timedelta(minutes=2)  # since when the leaf of a node that misbehaves so has ended, at its start
STALE_TTL = timedelta(minutes=2)
AUTHORITY_LEFT_MIN = timedelta(days=30)  # an authority with less to live is replaced: leaves must not outlive it


class LocalBackend:
    """See `Backend`."""

    target = "local"

    def __init__(self, paths: SubnetPaths, subnet: Subnet) -> None:
        self.subnet = subnet
        self.membership = Membership(Registry(0))
        self.identity = LabIdentity()
        self.on_process: Callable[[str], None] = lambda _node: None
        self.on_lost: Callable[[str], None] = lambda _reason: None
        self.on_members: Callable[[], None] = lambda: None
        self._paths = paths
        # Looked up at each call, for the lab sets the two callbacks after construction.
        self._supervisor = SupervisorClient(
            lambda node: self.on_process(node),  # noqa: PLW0108
            lambda reason: self.on_lost(reason),  # noqa: PLW0108
        )
        self._authority: Authority | None = None
        self._ports: dict[str, int] = {}
        self._leaves: dict[str, datetime] = {}

    async def start(self) -> None:
        """See `Backend`: authority, own leaf, supervisor, then `_add` for all nodes."""
        await self.open_authority(datetime.now(UTC))
        await self._supervisor.open()
        self._ports = _read_ports(self._paths)
        self.membership = _read_membership(self._paths) or self.membership
        await self._add(groups_of(self.subnet))

    async def open_authority(self, now: datetime) -> None:
        """Read or make the subnet's authority, and issue the lab's own leaf."""
        self._authority = await asyncio.to_thread(open_authority, self._paths, now)
        await self._renew_own(now)

    async def close(self) -> None:
        """See `Backend`."""
        await self._supervisor.close()

    # --- members ---

    def groups(self) -> dict[str, str]:
        """See `Backend`."""
        return groups_of(self.subnet)

    async def edit(self, subnet: Subnet) -> set[str]:
        """See `Backend`."""
        old, new = groups_of(self.subnet), groups_of(subnet)
        before, self.subnet = self.subnet, subnet
        try:
            await self._add({name: group for name, group in new.items() if name not in old})
        except BaseException:
            self.subnet = before
            self.on_members()
            raise
        return set(old) - set(new)

    async def retire(self, nodes: set[str]) -> None:
        """See `Backend`. Their keys are removed, so that no process can be that node any more; their logs stay."""
        await asyncio.gather(*(self._supervisor.stop(node) for node in nodes))
        for node in nodes:
            self._leaves.pop(node, None)
            await asyncio.to_thread(_remove_identity, self._paths, node)

    def keep_networks(self, networks: Mapping[str, NodeNetwork]) -> None:
        """See `Backend`: boot copies, so that a node that is started again is shaped from its first datagram."""
        for node, network in networks.items():
            files = self._paths.node(node)
            if network.version:
                private_directory(files.root)
                write_atomic(files.network, msgspec.json.encode(network))
            else:
                files.network.unlink(missing_ok=True)

    async def adopt(self, membership: Membership) -> bool:
        """See `Backend`."""
        del membership
        raise SpecError("the member list is this lab's own: edit the document instead")

    def adopt_document(self, subnet: Subnet) -> None:
        """See `Backend`."""
        del subnet
        raise SpecError("the document is this lab's own: PATCH it")

    async def _add(self, nodes: dict[str, str]) -> None:
        """Start these nodes (group by name): sockets, the new member list, leaves and configs, then the processes."""
        for node in nodes:
            self._ports[node] = await self._supervisor.bind(node, loopback(), self._ports.get(node, 0))
        if nodes:
            write_atomic(self._paths.ports, msgspec.json.format(msgspec.json.encode(self._ports)))
        before = self.membership if self.membership.registry.version else None
        self.membership = membership_of(self.subnet, self._ports, before)
        write_atomic(self._paths.members, msgspec.json.encode(self.membership))
        self.on_members()
        if self.subnet.spec.discovery.mode == "seeds":
            for node, group in self.groups().items():  # a node that is started again must not look for seeds that left
                if node not in nodes:
                    write_config(self.subnet, self._paths, node, group, self._ports)
        for pack in self._packs(nodes):
            configs = {}
            for node in pack:
                await self.issue_leaf(node, datetime.now(UTC))
                configs[node] = write_config(self.subnet, self._paths, node, nodes[node], self._ports)
            # All starts of a pack in one go: it reports ready once all nodes it was asked for serve.
            for node, config in configs.items():
                self._supervisor.start(node, config, self._paths.node(node).log, self._pack_of(node))

    def _packs(self, nodes: Iterable[str]) -> list[list[str]]:
        """These nodes, those of one process together."""
        packs: dict[str, list[str]] = {}
        for node in nodes:
            packs.setdefault(self._pack_of(node) or node, []).append(node)
        return list(packs.values())

    def _pack_of(self, node: str) -> str:
        """The pack a node lives in; empty where each node has a process of its own."""
        return pack_of(self.subnet, node) if self.subnet.spec.nodes_per_pod > 1 else ""

    # --- identities ---

    def leaves(self) -> dict[str, datetime]:
        """See `Backend`."""
        return dict(self._leaves)

    async def renew(self, now: datetime, *, everything: bool = False) -> list[str]:
        """See `Backend`."""
        before_s = self.subnet.spec.identity.renew_before_seconds

        def due(not_after: datetime) -> bool:
            return everything or (not_after - now).total_seconds() <= before_s

        stale = refused_everywhere(self.subnet)
        renewed = [node for node, end in self._leaves.items() if everything or (due(end) and node not in stale)]
        for node in renewed:
            await self.issue_leaf(node, now)
        if due(self.identity.current.not_after):
            await self._renew_own(now)
        return renewed

    async def issue_leaf(self, node: str, now: datetime) -> None:
        """Give a node a new leaf, in the folder where it notices it."""
        folder, uri = self._paths.node(node).identity, uri_of(self.subnet, node)
        if node in refused_everywhere(self.subnet):
            # Within the authority's own time, so that nothing else is wrong with it.
            issued = await self._issue_to(folder, uri, now - STALE_FOR - STALE_TTL, STALE_TTL.total_seconds())
        else:
            issued = await self._issue_to(folder, uri, now)
        self._leaves[node] = issued.not_after

    async def _renew_own(self, now: datetime) -> None:
        uri = lab_uri(self.subnet.spec.identity.trust_domain, NAMESPACE, self.subnet.name)
        self.identity.replace(await self._issue_to(self._paths.lab_identity, uri, now))

    async def _issue_to(self, folder: Path, uri: str, now: datetime, ttl_s: float | None = None) -> Identity:
        assert self._authority is not None  # noqa: S101 - `open_authority` comes first
        ttl_s = self.subnet.spec.identity.ttl.seconds if ttl_s is None else ttl_s
        return await asyncio.to_thread(issue, self._authority, uri, folder, now=now, ttl_s=ttl_s)

    # --- processes ---

    def process(self, node: str) -> Process:
        """See `Backend`; a member that the supervisor has not been told of yet is about to start."""
        process = self._supervisor.process(node)
        return process if process != Process() else Process("starting")

    def check_process(self, node: str) -> None:
        """See `Backend`: the supervisor reports every change by itself."""

    def nodes_sharing_process(self, node: str) -> list[str]:
        """See `Backend`."""
        pack = self._pack_of(node)
        return [one for one in self.groups() if self._pack_of(one) == pack] if pack else [node]

    async def execute(self, node: str, action: Action, *, lease_s: float = 0.0, why: str = "") -> None:
        """See `Backend`."""
        if node not in self.groups():
            raise SpecError(f"there is no node {node!r}; the members are {', '.join(self.groups())}")
        self._supervisor.execute(node, action, lease_s=lease_s, why=why)

    def log_files(self) -> dict[str, Path]:
        """See `Backend`."""
        return {node: self._paths.node(node).log for node in self.groups()}


# --- what a document means on this machine ---


def groups_of(subnet: Subnet) -> dict[str, str]:
    """Group by node, in member order."""
    return dict(members(subnet))


def uri_of(subnet: Subnet, node: str) -> str:
    """The identity of a node."""
    return member_uri(subnet.spec.identity.trust_domain, NAMESPACE, subnet.name, node)


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
        network_file=str(paths.node(node).network),
    )  # fmt: skip


# --- files ---


def open_authority(paths: SubnetPaths, now: datetime) -> Authority:
    """The subnet's authority: the one on disk while it has long enough to live, else a new one. Raises OSError."""
    folder = private_directory(paths.authority)
    certificate, key = folder / "ca.crt", folder / "ca.key"
    try:
        authority = Authority.load(certificate.read_bytes(), key.read_bytes())
    except (OSError, SpecError):
        authority = None
    if authority is not None and authority.not_after - now > AUTHORITY_LEFT_MIN:
        return authority
    authority = Authority.create(f"p2pnet {paths.name}", now=now)
    write_atomic(key, authority.key_pem, mode=0o600)
    write_atomic(certificate, authority.certificate_pem)
    return authority


def issue(authority: Authority, uri: str, folder: Path, *, now: datetime, ttl_s: float) -> Identity:
    """A new leaf for `uri`, written to `folder`. Raises OSError."""
    leaf = authority.issue(uri, now=now, ttl=timedelta(seconds=ttl_s), ip_addresses=[loopback()])
    identity = Identity.of(leaf, authority.certificate_pem)
    identity.write(private_directory(folder))
    return identity


def write_config(subnet: Subnet, paths: SubnetPaths, node: str, group: str, ports: dict[str, int]) -> Path:
    """Write a node's config; returns its path. Raises OSError."""
    files = paths.node(node)
    private_directory(files.root)
    write_node_config(files.config, config_of(subnet, paths, node, group, ports))
    return files.config


def _read_ports(paths: SubnetPaths) -> dict[str, int]:
    """UDP ports chosen by an earlier lab, by node: nodes keep their addresses over a restart."""
    try:
        return msgspec.json.decode(paths.ports.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        return {}


def _read_membership(paths: SubnetPaths) -> Membership | None:
    """The member list on disk; None when there is none or it is damaged."""
    try:
        return msgspec.json.decode(paths.members.read_bytes(), type=Membership)
    except (OSError, msgspec.DecodeError):
        return None


def _remove_identity(paths: SubnetPaths, node: str) -> None:
    for file in paths.node(node).identity.glob("*"):
        file.unlink(missing_ok=True)
