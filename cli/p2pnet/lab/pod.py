"""The ground of a lab in a pod: everything is mounted, nothing is made. The operator writes it, this only reads.

Nodes are pods of their own: their leaves, their logs and their processes are Kubernetes' business.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from p2pnet.lab.ground import Action, Process
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.ids import lab_uri
from p2pnet.model.registry import MEMBERSHIP_BYTES_MAX, Membership, Registry
from p2pnet.model.subnet import Subnet, load_subnet
from p2pnet.trust import Identity

MOUNTS = Path("/etc/p2pnet")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where things are mounted."""

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
        """What every request must carry."""
        return self.root / "token" / "token"


class PodGround:
    """See `ground.Ground`. Mounted files change under it; `renew` takes what is new and fits."""

    target = "cluster"

    def __init__(self, mounts: Mounts, namespace: str) -> None:
        """Read the document. Raises SpecError."""
        self._mounts = mounts
        self._namespace = namespace
        self.subnet = _read_document(mounts.document)
        self.membership = Membership(Registry(0))
        self.on_process: Callable[[str], None] = lambda _node: None
        self.on_lost: Callable[[str], None] = lambda _reason: None
        self._identity: Identity | None = None
        self._version = 0

    async def start(self) -> None:
        """Read identity and members. Raises SpecError: the pod starts again, and perhaps they are there by then."""
        self._take_identity(datetime.now(UTC))
        self._take_file(_read_members(self._mounts.members))

    async def close(self) -> None:
        """Nothing: nodes outlive their lab."""

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
        """None: nodes tell which they use."""
        return {}

    async def renew(self, now: datetime, *, everything: bool = False) -> list[str]:
        """Take what is new of the mounted files. Raises SpecError for one that does not fit: the old one stays in force."""
        if everything:
            raise SpecError(
                "leaves are the operator's here: kubectl annotate --overwrite subnet"
                f" {self.subnet.name} -n {self._namespace} p2pnet.io/force-renew=$(date +%s)"
            )
        await asyncio.to_thread(self._take_files, now)
        return []

    def _take_files(self, now: datetime) -> None:
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
        if self._identity is not None and identity == self._identity:
            return
        wanted = lab_uri(self.subnet.spec.identity.trust_domain, self._namespace, self.subnet.name)
        if identity.uri != wanted:
            raise SpecError(f"{self._mounts.identity}: is for {identity.uri}, this lab is {wanted}")
        try:
            identity.verify(now=now)
        except P2pnetError as error:
            raise SpecError(f"{self._mounts.identity}: {error}") from error
        self._identity = identity
        self._version += 1
        log.info("identity in use: valid until %s", identity.not_after)

    def _take_document(self) -> None:
        self.subnet = _read_document(self._mounts.document)

    def _take_members(self) -> None:
        self._take_file(_read_members(self._mounts.members))

    # --- members ---

    def groups(self) -> dict[str, str]:
        """See `Ground`: what the registry says, which is what nodes are told."""
        return {member.name: member.name.rpartition("-")[0] for member in self.membership.registry.members}

    async def adopt(self, membership: Membership) -> bool:
        """See `Ground`."""
        return self._take_file(membership)

    def _take_file(self, membership: Membership) -> bool:
        if membership.registry.version <= self.membership.registry.version:
            return False
        self.membership = membership
        log.info("members of version %d: %d", membership.registry.version, len(membership.registry.members))
        return True

    async def edit(self, subnet: Subnet) -> set[str]:
        """Refused: the Subnet object decides."""
        raise SpecError(
            f"the document of {subnet.name} is the Subnet object's: p2pnet up --on cluster -f FILE, or"
            f" kubectl edit subnet {subnet.name} -n {self._namespace}"
        )

    async def retire(self, nodes: set[str]) -> None:
        """Nothing: the operator ends pods."""

    # --- processes ---

    def process(self, node: str) -> Process:
        """Unknown: whether a node lives shows in its link."""
        del node
        return Process()

    def log_files(self) -> dict[str, Path]:
        """None: pods' logs are Kubernetes'."""
        return {}

    def mates(self, node: str) -> list[str]:
        """See `Ground`: the nodes of its pod."""
        return [other for other in self.groups() if self._pod(other) == self._pod(node)]

    async def act(self, node: str, action: Action) -> None:
        """Refused: a pod's processes are out of reach. The message names the kubectl command that does the same."""
        if node not in self.groups():
            raise SpecError(f"there is no node {node!r}; the members are {', '.join(self.groups())}")
        raise SpecError(f"{node} runs in a pod, which this lab cannot {action}; {self._by_kubectl(node, action)}")

    def _by_kubectl(self, node: str, action: Action) -> str:
        pod = self._pod(node)
        if action in ("restart", "kill"):
            force = " --grace-period=0 --force" if action == "kill" else ""
            return f"kubectl delete pod {pod} -n {self._namespace}{force} ends it, the operator makes it again"
        return f"a pod cannot stand still; kubectl delete pod {pod} -n {self._namespace} restarts it"

    def _pod(self, node: str) -> str:
        group, _, number = node.rpartition("-")
        return f"{self.subnet.name}-{group}-{int(number) // self.subnet.spec.nodes_per_pod}"


def _read_document(path: Path) -> Subnet:
    try:
        return load_subnet(path.read_bytes(), str(path))
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
