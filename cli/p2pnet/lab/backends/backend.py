"""What a lab needs of the place where its nodes run: members, processes, identities. The lab decides, a backend executes.

`local.LocalBackend` keeps everything on this machine. A lab in a cluster provisions nothing: `pod.PodBackend` reads what
the operator mounts, and reaches processes through the agents of pods.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from p2pnet.model.agent import Action
from p2pnet.model.errors import SpecError
from p2pnet.model.network import NodeNetwork
from p2pnet.model.registry import Membership
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import Identity

ProcessState = Literal["starting", "running", "restarting", "paused", "stopped", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Process:
    """A node's process as the backend knows it. `running`: the node reported that it serves."""

    state: ProcessState = "unknown"
    pid: int | None = None
    restarts: int = 0
    detail: str = ""
    halted: bool = False
    """Something other than the lab stopped it (SIGSTOP, a debugger): the state is `unknown`, it may go on at any time."""


class LabIdentity:
    """The lab's own leaf and trust bundle, replaced while the lab runs: an `IdentitySource` for its endpoints."""

    def __init__(self) -> None:
        self.known: Identity | None = None
        """None until the backend has started."""
        self.version = 0
        """Grows with every replacement."""

    @property
    def current(self) -> Identity:
        """The identity in force. Raises SpecError before the backend has started."""
        if self.known is None:
            raise SpecError("the lab has no identity before its backend is started")
        return self.known

    def replace(self, identity: Identity) -> None:
        """Put another identity in force."""
        self.known = identity
        self.version += 1


class Backend(Protocol):
    """The place where a lab's nodes run."""

    target: str
    """`local` or `cluster`."""
    subnet: Subnet
    """The document in force."""
    membership: Membership
    identity: LabIdentity
    on_process: Callable[[str], None]
    """Called with a node's name when its process has changed."""
    on_lost: Callable[[str], None]
    """Called with a reason when the backend can keep no node alive any more."""
    on_members: Callable[[], None]
    """Called when document or members have changed, before new nodes start."""

    async def start(self) -> None:
        """Provide what nodes need, then start them all. Raises P2pnetError."""
        ...

    async def close(self) -> None:
        """End what `start` started; returns when it has ended."""
        ...

    # --- members ---

    def groups(self) -> dict[str, str]:
        """Group by node, in member order."""
        ...

    async def edit(self, subnet: Subnet) -> set[str]:
        """Put a document in force that the lab has checked, and start its new nodes. Raises SpecError.

        Returns the nodes that are members no more; they run until `retire`.
        """
        ...

    async def retire(self, nodes: set[str]) -> None:
        """End nodes that `edit` has removed from the members."""
        ...

    async def adopt(self, membership: Membership) -> bool:
        """Put a member list of the operator in force if it is newer; whether it was. Raises SpecError on local targets."""
        ...

    def adopt_document(self, subnet: Subnet) -> None:
        """Put a document of the operator in force. Raises SpecError on local targets."""
        ...

    def keep_networks(self, networks: Mapping[str, NodeNetwork]) -> None:
        """Keep these networks, by node, where their nodes find them when they start, if there is such a place. Raises OSError."""
        ...

    # --- identities ---

    def leaves(self) -> dict[str, datetime]:
        """When the leaf of each node ends; nodes whose leaf the backend does not know are left out."""
        ...

    async def renew(self, now: datetime, *, everything: bool = False) -> list[str]:
        """Renew the leaves that are due, or all; the nodes that have a new one. Raises SpecError, OSError."""
        ...

    # --- processes ---

    def process(self, node: str) -> Process:
        """The node's process now."""
        ...

    def check_process(self, node: str) -> None:
        """Ask for the state of a process whose node does not answer, where the backend is not told by itself."""
        ...

    def nodes_sharing_process(self, node: str) -> list[str]:
        """The nodes in the process of this one, itself included: a kill or a pause hits them all."""
        ...

    async def execute(self, node: str, action: Action, *, lease_s: float = 0.0, why: str = "") -> None:
        """Act on the node's process, see `ProcessAction`. Raises SpecError for an unknown node, TargetError."""
        ...

    def log_files(self) -> dict[str, Path]:
        """Path of the log by node; empty where nodes log elsewhere."""
        ...
