"""The ground of the local target: processes under a supervisor, identities and ports in the state directory."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from p2pnet.lab.backends import local_files
from p2pnet.lab.backends.backend import Action, Process
from p2pnet.lab.backends.supervisor_client import SupervisorClient
from p2pnet.model.errors import SpecError
from p2pnet.model.registry import Membership, Registry
from p2pnet.quic.hosts import loopback
from p2pnet.store.state import SubnetPaths
from p2pnet.subnet.members import pack_of
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import Authority, Identity

log = logging.getLogger(__name__)


class LocalBackend:
    """See `ground.Ground`."""

    target = "local"

    def __init__(self, paths: SubnetPaths, subnet: Subnet) -> None:
        self.subnet = subnet
        self.membership = Membership(Registry(0))
        self.on_process: Callable[[str], None] = lambda _node: None
        self.on_lost: Callable[[str], None] = lambda _reason: None
        self._paths = paths
        self._supervisor = SupervisorClient(self._tell_process, self._tell_lost)
        self._authority: Authority | None = None
        self._identity: Identity | None = None
        self._version = 0
        self._ports: dict[str, int] = {}
        self._leaves: dict[str, datetime] = {}

    async def start(self) -> None:
        """Authority, leaves, ports, members, configs, processes: in that order."""
        now = datetime.now(UTC)
        self._authority = await asyncio.to_thread(local_files.open_authority, self._paths, now)
        await self._renew_own(now)
        await self._supervisor.open()
        self._ports = local_files.read_ports(self._paths)
        self.membership = local_files.read_membership(self._paths) or self.membership
        await self._add(local_files.groups_of(self.subnet))

    async def close(self) -> None:
        """See `Ground`."""
        await self._supervisor.close()

    # --- identity ---

    @property
    def current(self) -> Identity:
        """See `Ground`."""
        if self._identity is None:
            raise SpecError("the lab has no identity before its ground is started")
        return self._identity

    @property
    def version(self) -> int:
        """See `Ground`."""
        return self._version

    def leaves(self) -> dict[str, datetime]:
        """See `Ground`."""
        return dict(self._leaves)

    async def renew(self, now: datetime, *, everything: bool = False) -> list[str]:
        """See `Ground`."""
        before_s = self.subnet.spec.identity.renew_before_seconds

        def due(not_after: datetime) -> bool:
            return everything or (not_after - now).total_seconds() <= before_s

        renewed = [node for node, not_after in self._leaves.items() if due(not_after)]
        for node in renewed:
            await self._issue(node, now)
        if due(self.current.not_after):
            await self._renew_own(now)
        return renewed

    async def _issue(self, node: str, now: datetime) -> None:
        folder, uri = self._paths.node(node).identity, local_files.uri_of(self.subnet, node)
        self._leaves[node] = (await self._issue_to(folder, uri, now)).not_after

    async def _renew_own(self, now: datetime) -> None:
        self._identity = await self._issue_to(self._paths.lab_identity, local_files.uri_of_lab(self.subnet), now)
        self._version += 1

    async def _issue_to(self, folder: Path, uri: str, now: datetime) -> Identity:
        assert self._authority is not None  # noqa: S101 - `start` makes it first
        ttl_s = self.subnet.spec.identity.ttl.seconds
        return await asyncio.to_thread(local_files.issue, self._authority, uri, folder, now=now, ttl_s=ttl_s)

    # --- members ---

    def groups(self) -> dict[str, str]:
        """See `Ground`."""
        return local_files.groups_of(self.subnet)

    async def edit(self, subnet: Subnet) -> set[str]:
        """See `Ground`."""
        old, new = local_files.groups_of(self.subnet), local_files.groups_of(subnet)
        before, self.subnet = self.subnet, subnet
        try:
            await self._add({name: group for name, group in new.items() if name not in old})
        except BaseException:
            self.subnet = before
            raise
        return set(old) - set(new)

    async def adopt(self, membership: Membership) -> bool:
        """Refused: this ground makes the list."""
        del membership
        raise SpecError("the member list is this lab's own: edit the document instead")

    def adopt_document(self, subnet: Subnet) -> None:
        """Refused: here it is edited."""
        del subnet
        raise SpecError("the document is this lab's own: PATCH it")

    async def retire(self, nodes: set[str]) -> None:
        """See `Ground`."""
        await asyncio.gather(*(self._supervisor.stop(node) for node in nodes))
        for node in nodes:
            self._leaves.pop(node, None)
            await asyncio.to_thread(local_files.forget_node, self._paths, node)

    async def _add(self, nodes: dict[str, str]) -> None:
        """Nodes not running yet: everything they need, the new member list, then their processes."""
        for node in nodes:
            self._ports[node] = await self._supervisor.bind(node, loopback(), self._ports.get(node, 0))
        if nodes:
            local_files.write_ports(self._paths, self._ports)
        before = self.membership if self.membership.registry.version else None
        self.membership = local_files.membership_of(self.subnet, self._ports, before)
        local_files.write_membership(self._paths, self.membership)
        if self.subnet.spec.discovery.mode == "seeds":
            for node, group in self.groups().items():  # a node that is started again must not look for seeds that left
                if node not in nodes:
                    local_files.write_config(self.subnet, self._paths, node, group, self._ports)
        for pack in self._packs(nodes):
            configs = {}
            for node in pack:
                await self._issue(node, datetime.now(UTC))
                configs[node] = local_files.write_config(self.subnet, self._paths, node, nodes[node], self._ports)
            for node, config in configs.items():  # in one go: a pack is ready when all it was asked for are
                self._supervisor.start(node, config, self._paths.node(node).log, self._pack_of(node))

    def _packs(self, nodes: Iterable[str]) -> list[list[str]]:
        """These nodes, those of one process together."""
        packs: dict[str, list[str]] = {}
        for node in nodes:
            packs.setdefault(self._pack_of(node) or node, []).append(node)
        return list(packs.values())

    def _pack_of(self, node: str) -> str:
        """The pack a node lives in; empty without packing."""
        return pack_of(self.subnet, node) if self.subnet.spec.nodes_per_pod > 1 else ""

    # --- processes ---

    def _tell_process(self, node: str) -> None:
        self.on_process(node)

    def _tell_lost(self, reason: str) -> None:
        self.on_lost(reason)

    def process(self, node: str) -> Process:
        """See `Ground`; a member that the supervisor has not been told of yet is about to be."""
        process = self._supervisor.process(node)
        return process if process != Process() else Process("starting")

    def doubt(self, node: str) -> None:
        """Nothing: the supervisor tells everything by itself."""

    def mates(self, node: str) -> list[str]:
        """See `Ground`."""
        pack = self._pack_of(node)
        return [one for one in self.groups() if one == node or (pack and self._pack_of(one) == pack)]

    def log_files(self) -> dict[str, Path]:
        """See `Ground`."""
        return {node: self._paths.node(node).log for node in self.groups()}

    async def act(self, node: str, action: Action) -> None:
        """See `Ground`."""
        if node not in self.groups():
            raise SpecError(f"there is no node {node!r}; the members are {', '.join(self.groups())}")
        self._supervisor.act(node, action)
