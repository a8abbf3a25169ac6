"""What a target must offer the lab: members, processes, identities. The lab asks; a ground acts.

`local.LocalGround` keeps everything on this machine. A lab in a cluster provisions nothing: its ground reads the member
list from a file, and its processes are pods.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from p2pnet.model.registry import Membership
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import Identity

ProcessState = Literal["starting", "running", "restarting", "paused", "stopped", "failed", "unknown"]
Action = Literal["restart", "kill", "pause", "resume"]


@dataclass(frozen=True, slots=True)
class Process:
    """A node's process as the ground knows it. `running`: it said that it serves."""

    state: ProcessState = "unknown"
    pid: int | None = None
    restarts: int = 0
    detail: str = ""
    halted: bool = False
    """Somebody stopped it whom the lab did not ask to: the state is `unknown`, for nobody knows for how long."""


class Backend(Protocol):
    """The target under a lab."""

    target: str
    subnet: Subnet
    membership: Membership
    on_process: Callable[[str], None]
    """Called with a node's name when its process changed."""
    on_lost: Callable[[str], None]
    """Called with a reason when the ground can keep no node alive any more."""

    async def start(self) -> None:
        """Everything a node needs, then all nodes. Raises P2pnetError."""
        ...

    async def close(self) -> None:
        """All nodes end; returns when they have."""
        ...

    @property
    def current(self) -> Identity:
        """The lab's own identity in force now; with `version`, what an endpoint reads."""
        ...

    @property
    def version(self) -> int:
        """Grows with every change of `current`."""
        ...

    def groups(self) -> dict[str, str]:
        """Group by node, in member order."""
        ...

    def process(self, node: str) -> Process:
        """The node's process now."""
        ...

    def leaves(self) -> dict[str, datetime]:
        """When the leaf of each node ends; nodes without one are missing."""
        ...

    def doubt(self, node: str) -> None:
        """The node is silent: find out about its process, if that takes asking somebody."""
        ...

    def log_files(self) -> dict[str, Path]:
        """Each node's log."""
        ...

    def mates(self, node: str) -> list[str]:
        """The nodes that share its process, itself included: a kill or a pause hits them all."""
        ...

    async def act(self, node: str, action: Action) -> None:
        """Act on the node's process. Raises SpecError for a node there is not."""
        ...

    async def edit(self, subnet: Subnet) -> set[str]:
        """Make the members those of this document; new nodes are started. The names that are no members any more,
        which still run until `retire`.
        """
        ...

    async def adopt(self, membership: Membership) -> bool:
        """Take a member list made elsewhere, if it is newer; whether it was. Raises SpecError where the lab makes it."""
        ...

    def adopt_document(self, subnet: Subnet) -> None:
        """Take a document checked elsewhere. Raises SpecError where the lab decides what is in force."""
        ...

    async def retire(self, nodes: set[str]) -> None:
        """End nodes that `edit` took out of the registry."""
        ...

    async def renew(self, now: datetime, *, everything: bool = False) -> list[str]:
        """Issue anew what is due (or everything); the nodes that have a new leaf."""
        ...
