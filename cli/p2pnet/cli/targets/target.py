"""What every target can do: the interface through which verbs, and scenarios, reach subnets.

Targets raise errors of `p2pnet.model.errors` and draw nothing: whoever calls them prints, and chooses an exit code.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from p2pnet.model.errors import TargetError

if TYPE_CHECKING:  # each of them costs a command 50 ms or more to import
    from p2pnet.lab_client import LabClient
    from p2pnet.model.jobs import RunFile
    from p2pnet.store import State
    from p2pnet.store.heads import RunHead
    from p2pnet.subnet.spec import Subnet

TargetName = Literal["local", "cluster", "kind", "sim"]
"""Where a subnet can live, or its runs can be from, as `--on` and documents name it."""
LiveTarget = Literal["local", "cluster", "kind"]
"""Where nodes can run."""
Presence = Literal["absent", "starting", "up", "dead", "damaged"]
"""How a subnet is, as far as that can be seen without asking its lab."""


Change: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
"""A document, as it was written last -> the merge patch that edits it."""


class NoSubnetError(TargetError):
    """There is no subnet of that name (exit 3)."""


class TargetProgress(Protocol):
    """Told what a target is doing; never asked anything."""

    def waiting(self, text: str) -> None:
        """What is waited for now, in words."""

    def milestone(self, text: str) -> None:
        """A phase ended."""


class Target(Protocol):
    """Subnets in one place. Where nothing else is said, errors are TargetErrors."""

    @property
    def kind(self) -> TargetName:
        """As documents name it."""

    @property
    def state(self) -> "State":
        """The state directory of this user: copies of finished runs are read there, whatever the target."""

    def location(self) -> tuple[str | None, str | None]:
        """Context and namespace; None and None on this machine."""

    def names(self) -> list[str]:
        """Subnets there are, dead ones too."""

    def presence(self, name: str) -> Presence:
        """How a subnet is, without asking its lab."""

    def subnet(self, name: str) -> "Subnet":
        """The document of a subnet. TargetError (exit 3 or 2) when it is absent or damaged."""

    def lab(self, name: str) -> "AbstractAsyncContextManager[LabClient]":
        """A client of its lab. TargetError (exit 3) when there is none or it is dead; its open runs are invalid then."""

    def why_it_ended(self, name: str) -> TargetError | None:
        """Why its lab gave up, when it left a reason."""

    def owns(self, run: "RunFile | RunHead") -> bool:
        """Whether a run in `state` may be of a subnet here."""

    async def collect(self, name: str) -> None:
        """Copy its runs into `state`, where they are kept elsewhere; does nothing when there is no such subnet."""

    def use_namespace(self, subnet: "Subnet") -> None:
        """Work in the namespace that a document names, from now on."""

    def lock(self, name: str, progress: TargetProgress) -> AbstractAsyncContextManager[None]:
        """Keep other commands from starting or removing this subnet meanwhile."""

    async def prepare(self, subnet: "Subnet", progress: TargetProgress) -> None:
        """Whatever a subnet of this document needs before it can start or be edited, and which the target can make itself."""

    async def start(self, subnet: "Subnet", progress: TargetProgress, *, timeout_s: float) -> None:
        """Start it; returns when its lab answers. Only under `lock`."""

    async def edit(self, name: str, change: Change, progress: TargetProgress) -> None:
        """Edit the document of a subnet that is up: `change` is given it and makes the merge patch (RFC 7386).

        It may be asked again, when somebody else wrote the document meanwhile. What it raises comes out here; ProblemError
        or TargetError (exit 2) for an edit that is refused.
        """

    async def remove(self, name: str, progress: TargetProgress) -> bool:
        """Stop it and remove everything but its runs; whether there was anything. Only under `lock`."""
