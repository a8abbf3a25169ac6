"""The target `sim`: nothing of a simulated subnet is left when its run has ended but the run, which is kept as all are."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.target import Change, NoSubnetError, Presence, TargetName, TargetProgress
from p2pnet.model.errors import TargetError
from p2pnet.store import State, archive
from p2pnet.store.simulated import TARGET

if TYPE_CHECKING:  # as in `targets.target`
    from p2pnet.lab_client import LabClient
    from p2pnet.model.jobs import RunFile
    from p2pnet.store.heads import RunHead
    from p2pnet.subnet.spec import Subnet


class SimTarget:
    """The target `sim`: kept runs, and no subnet."""

    kind: TargetName = "sim"

    def __init__(self, state: State) -> None:
        self.state = state

    def location(self) -> tuple[str | None, str | None]:
        """This machine has neither context nor namespace."""
        return None, None

    def names(self) -> list[str]:
        """Subnets of which runs are kept."""
        return sorted({head.subnet for head in archive.list_heads(self.state) if self.owns(head)})

    def presence(self, name: str) -> Presence:
        """Never there: a simulated subnet ends with its run."""
        del name
        return "absent"

    def subnet(self, name: str) -> "Subnet":
        """Never there."""
        raise self._gone(name)

    @contextlib.asynccontextmanager
    async def lab(self, name: str) -> "AsyncIterator[LabClient]":
        """Never there."""
        raise self._gone(name)
        yield  # a generator, as its type says

    def why_it_ended(self, name: str) -> TargetError | None:
        """None: it did what it was asked for."""
        del name
        return None

    def owns(self, run: "RunFile | RunHead") -> bool:
        """Those of the simulator."""
        return run.target == TARGET

    async def collect(self, name: str) -> None:
        """Nothing: they are here."""

    def use_namespace(self, subnet: "Subnet") -> None:
        """Here, whatever namespace it names."""

    @contextlib.asynccontextmanager
    async def lock(self, name: str, progress: TargetProgress) -> AsyncIterator[None]:
        """Nothing to keep others from."""
        del name, progress
        yield

    async def prepare(self, subnet: "Subnet", progress: TargetProgress) -> None:
        """Nothing: this machine has what it takes."""

    async def start(self, subnet: "Subnet", progress: TargetProgress, *, timeout_s: float) -> None:
        """Never: `p2pnet sim` starts and ends it."""
        del progress, timeout_s
        raise self._gone(subnet.name)

    async def edit(self, name: str, change: Change, progress: TargetProgress) -> None:
        """Never there."""
        del change, progress
        raise self._gone(name)

    async def remove(self, name: str, progress: TargetProgress) -> bool:
        """Nothing is left but runs."""
        del name, progress
        return False

    def _gone(self, name: str) -> NoSubnetError:
        return NoSubnetError(
            f"{name} is simulated: no node of it runs",
            where=str(self.state.runs),
            hint=f"p2pnet report {name} shows its latest run; p2pnet sim -f FILE makes another",
            exit_code=ExitCode.NOT_FOUND,
        )
