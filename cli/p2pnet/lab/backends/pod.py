"""The backend of a lab in a pod: it makes nothing and reads what the operator mounts.

Nodes are pods of their own: Kubernetes has their leaves and logs, and their processes are reached through the agents of
their pods.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from p2pnet.lab.backends.agents import AgentPod, Agents
from p2pnet.lab.backends.backend import LabIdentity, Process
from p2pnet.model.agent import PORT_BELOW, Action, ProcessAction
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.network import NodeNetwork
from p2pnet.model.registry import MEMBERSHIP_BYTES_MAX, Membership, Registry
from p2pnet.model.text import parse_address
from p2pnet.quic.hosts import ANY
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import Identity

MOUNTS = Path("/etc/p2pnet")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mounts:
    """Paths of what the operator mounts into the lab's pod."""

    root: Path = MOUNTS

    @property
    def identity(self) -> Path:
        """The folder with tls.crt, tls.key and ca.crt."""
        return self.root / "lab"

    @property
    def members(self) -> Path:
        """The `Membership`."""
        return self.root / "members" / "members.json"

    @property
    def document(self) -> Path:
        """The checked Subnet document."""
        return self.root / "spec" / "subnet.json"

    @property
    def token(self) -> Path:
        """The token that every HTTP request must carry."""
        return self.root / "token" / "token"


class PodBackend:
    """See `Backend`. Mounted files change while the lab runs; `renew` puts those in force that are new and fit."""

    target = "cluster"

    def __init__(self, mounts: Mounts, namespace: str, *, host: str = ANY) -> None:
        """Read the document; `host` is the address to dial agents from. Raises SpecError."""
        self._mounts = mounts
        self._namespace = namespace
        self._mounted = _read_bytes(mounts.document)
        self.subnet = self._parsed(self._mounted)
        self.membership = Membership(Registry(0))
        self.on_process: Callable[[str], None] = lambda _node: None
        self.on_lost: Callable[[str], None] = lambda _reason: None
        self.on_members: Callable[[], None] = lambda: None
        self.identity = LabIdentity()
        # Looked up at each call, for the lab sets the callback after construction.
        self._agents = Agents(self.identity, lambda node: self.on_process(node), host=host)  # noqa: PLW0108

    async def start(self) -> None:
        """Read identity and members. Raises SpecError where they are missing: the pod is started again until they are there."""
        self._take_identity(datetime.now(UTC))
        await self._agents.open()
        self._take_members()
        self._agents.follow(self._pods())
        self.on_members()

    async def close(self) -> None:
        """Close the connections with agents; nodes outlive their lab."""
        await self._agents.close()

    # --- identities ---

    def leaves(self) -> dict[str, datetime]:
        """See `Backend`: none is known here, nodes report which they use."""
        return {}

    async def renew(self, now: datetime, *, everything: bool = False) -> list[str]:
        """Put new mounted files in force. Raises SpecError for a file that does not fit: the former one stays in force."""
        if everything and self.subnet.spec.identity.issuer == "certManager":
            raise SpecError(
                f"leaves are cert-manager's here: cmctl renew -n {self._namespace} -l p2pnet.io/subnet={self.subnet.name}"
            )
        if everything:
            raise SpecError(
                "leaves are the operator's here: kubectl annotate --overwrite subnet"
                f" {self.subnet.name} -n {self._namespace} p2pnet.io/force-renew=$(date +%s)"
            )
        before, known = self.identity.version, (self.subnet, self.membership)
        try:
            await asyncio.to_thread(self._take_files, now)
        finally:
            self._agents.follow(self._pods())
            if known != (self.subnet, self.membership):
                self.on_members()
            if self.identity.version != before:
                self._agents.identity_changed()
        return []

    def _take_files(self, now: datetime) -> None:
        """Take each of the three; a bad one does not keep the others from being taken."""
        problems = []
        takes: list[Callable[[], object]] = [lambda: self._take_identity(now), self._take_document, self._take_members]
        for take in takes:
            try:
                take()
            except P2pnetError as error:
                problems.append(str(error))
        if problems:
            raise SpecError("; ".join(problems))

    def _take_identity(self, now: datetime) -> None:
        identity = Identity.read(self._mounts.identity)
        if identity == self.identity.known:
            return
        wanted = lab_uri(self.subnet.spec.identity.trust_domain, self._namespace, self.subnet.name)
        if identity.uri != wanted:
            raise SpecError(f"{self._mounts.identity}: is for {identity.uri}, this lab is {wanted}")
        try:
            identity.verify(now=now)
        except P2pnetError as error:
            raise SpecError(f"{self._mounts.identity}: {error}") from error
        self.identity.replace(identity)
        log.info("identity in use: valid until %s", identity.not_after)

    def _take_document(self) -> None:
        # The kubelet updates mounted files up to two minutes late: an unchanged one is older than what the operator pushed.
        mounted = _read_bytes(self._mounts.document)
        if mounted != self._mounted:
            self._mounted = mounted
            self.subnet = self._parsed(mounted)

    def _parsed(self, text: bytes) -> Subnet:
        return load_subnet(text, str(self._mounts.document))

    def _take_members(self) -> None:
        self._take_newer(_read_members(self._mounts.members))

    # --- members ---

    def groups(self) -> dict[str, str]:
        """See `Backend`; by the registry, for that is what nodes are told."""
        return {member.name: member.name.rpartition("-")[0] for member in self.membership.registry.members}

    async def adopt(self, membership: Membership) -> bool:
        """See `Backend`."""
        taken = self._take_newer(membership)
        self._agents.follow(self._pods())
        self.on_members()
        return taken

    def _take_newer(self, membership: Membership) -> bool:
        if membership.registry.version <= self.membership.registry.version:
            return False
        self.membership = membership
        log.info("members of version %d: %d", membership.registry.version, len(membership.registry.members))
        return True

    async def edit(self, subnet: Subnet) -> set[str]:
        """See `Backend`. Always raises SpecError: in a cluster the Subnet object is edited."""
        raise SpecError(
            f"the document of {subnet.name} is the Subnet object's: p2pnet up --on cluster -f FILE, or"
            f" kubectl edit subnet {subnet.name} -n {self._namespace}"
        )

    def adopt_document(self, subnet: Subnet) -> None:
        """See `Backend`."""
        if subnet.name != self.subnet.name:
            raise SpecError(f"metadata.name: this subnet is {self.subnet.name}, not {subnet.name}")
        self.subnet = subnet
        self.on_members()

    def keep_networks(self, networks: Mapping[str, NodeNetwork]) -> None:
        """See `Backend`: there is no such place, nodes wait for what the lab pushes."""

    async def retire(self, nodes: set[str]) -> None:
        """See `Backend`: nothing to do, the operator ends pods."""

    # --- processes ---

    def process(self, node: str) -> Process:
        """See `Backend`: as its agent reported last; unknown while that does not answer."""
        return self._agents.process(node)

    def check_process(self, node: str) -> None:
        """See `Backend`."""
        self._agents.check_process(node)

    def log_files(self) -> dict[str, Path]:
        """See `Backend`: pods log to Kubernetes."""
        return {}

    def nodes_sharing_process(self, node: str) -> list[str]:
        """See `Backend`: the nodes of its pod."""
        if self.subnet.spec.nodes_per_pod == 1:
            return [node]
        return [other for other in self.groups() if self._pod(other) == self._pod(node)]

    async def execute(self, node: str, action: Action, *, lease_s: float = 0.0, why: str = "") -> None:
        """See `Backend`. Raises TargetError, with the kubectl command that helps, for a pod that does not answer."""
        if node not in self.groups():
            raise SpecError(f"there is no node {node!r}; the members are {', '.join(self.groups())}")
        try:
            await self._agents.execute(ProcessAction(node, action, lease_s, why))
        except TargetError as error:
            hint = f"kubectl get pod {self._pod(node)} -n {self._namespace}; deleted, the operator makes it again"
            raise TargetError(str(error), hint=hint) from error

    def _pods(self) -> dict[str, AgentPod]:
        """Pods by name, of all members that have addresses."""
        per_pod = self.subnet.spec.nodes_per_pod
        pods: dict[str, AgentPod] = {}
        for member in self.membership.registry.members:
            if not member.addresses:
                continue
            address = parse_address(member.addresses[0])
            if address is None:
                continue
            host, port = address
            group, _, number = member.name.rpartition("-")
            # The nodes of a pod have ports in a row, and its agent shows the leaf of the first one.
            offset = int(number) % per_pod
            first = f"{group}-{int(number) - offset}"
            uri = member_uri(self.subnet.spec.identity.trust_domain, self._namespace, self.subnet.name, first)
            name = self._pod(member.name)
            nodes = (*pods[name].nodes, member.name) if name in pods else (member.name,)
            pods[name] = AgentPod(name, (host, port - offset - PORT_BELOW), uri, nodes)
        return pods

    def _pod(self, node: str) -> str:
        group, _, number = node.rpartition("-")
        return f"{self.subnet.name}-{group}-{int(number) // self.subnet.spec.nodes_per_pod}"


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: cannot read the Subnet document: {error.strerror}") from error


def _read_members(path: Path) -> Membership:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MEMBERSHIP_BYTES_MAX), type=Membership)
    except OSError as error:
        raise SpecError(f"{path}: cannot read the member list: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SpecError(f"{path}: not a member list: {error}") from error
