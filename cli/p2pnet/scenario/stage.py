"""What a scenario needs of the place where it runs: `Stage`, which a live subnet and a simulated one each are in their way."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from p2pnet.model.errors import TargetError
from p2pnet.model.report import Report
from p2pnet.model.text import some

NAMED_MAX = 5  # nodes or runs in a sentence
IDLE_S = 8.0  # for so long nodes have nothing left to do, to be idle: a lab asks them every 5 s
NOT_READY = 4  # the exit code of what was not ready in time


class NotReadyError(TargetError):
    """The subnet was not connected in the time it was given (exit 4). The message says what was lacking."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=NOT_READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAsk:
    """The run of an inject step."""

    name: str
    """The step's."""
    label: str
    size: int
    """Bytes of generated artifacts; 0: files are given."""
    files: Sequence[str]
    """As they are written in the scenario."""
    count: int
    rate_per_s: float | str | None
    """A number, or stages as `measure.pace` reads them; None: a burst."""
    publisher: str
    client: str
    """As asked for; empty: the subnet's own choice."""
    within_s: float
    seed: int | None
    """None: the trial's."""
    expect: Sequence[str]
    shared: bool
    """Whether other runs may go on beside it."""
    stop_early: bool = False
    """Whether it ends as soon as one of its expectations can hold no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """What a wait waits for: a share between 0 and 1, or names of inject steps.

    `connected`: of the edges; `idle`: of the honest nodes, which have nothing left to do; `holds`: all honest nodes have what
    they published; `gone`: none has. `promise`: what the broadcast promises is kept, which the simulator alone can tell.
    """

    connected: float | None = None
    idle: float | None = None
    holds: Sequence[str] = ()
    gone: Sequence[str] = ()
    promise: bool = False


@dataclass(frozen=True, slots=True)
class Waited:
    """How a wait ended."""

    came: bool
    detail: str
    """How it stands, in words: `links 27/28`."""


def not_withdrawn(artifact: str, silent: Sequence[str]) -> str:
    """Why a withdrawal counts for nothing: nodes that were not told of it."""
    return f"{artifact[:16]} is not withdrawn: {some(silent, NAMED_MAX)} cannot be asked"


def unfinished_words(left: Mapping[str, int | None]) -> str:
    """`: node-1 has 3 fetches, artifacts to judge or to announce`, of those nodes that are not idle; empty without any."""
    if not left:
        return ""
    parts = [f"{name} {'does not say' if count is None else f'has {count} left'}" for name, count in left.items()]
    return f" ({some(parts, NAMED_MAX)}: fetches, artifacts not judged or not announced yet)"


def artifacts_words(count: int) -> str:
    """`1 artifact`, `20 artifacts`."""
    return f"{count} {'artifact' if count == 1 else 'artifacts'}"


ProgressSink = Callable[[str, int, int], None]
"""Told how far a step is: what is counted, how many are done, of how many; of 0: nothing can be counted."""


class Rest:
    """Whether nodes stay idle: `seconds` on the stage's clock."""

    def __init__(self) -> None:
        self._since: float | None = None

    def lasts(self, *, idle: bool, seconds: float) -> bool:
        """Take how it is now; whether it has been so for `IDLE_S`."""
        self._since = (seconds if self._since is None else self._since) if idle else None
        return self._since is not None and seconds - self._since >= IDLE_S


class Stage(Protocol):
    """One subnet, from its start to its end, on a clock of its own. Raises P2pnetError; TargetError says with which exit code."""

    async def up(self, progress: ProgressSink) -> str:
        """Start the subnet; returns when it is connected, with what it is, in words. Raises NotReadyError."""

    async def inject(self, ask: RunAsk, progress: ProgressSink) -> Report:
        """One run, from its first publication to its end; the report, which is kept under its `run`."""

    def kept_run(self, name: str) -> str | None:
        """Id of the run that is kept of an inject step, also of one that was interrupted or failed; None without one."""

    async def withdraw(self, names: Sequence[str], progress: ProgressSink) -> str:
        """Take back from every node what these inject steps published; how many artifacts, in words.

        Raises P2pnetError when a node could not be asked: it may bring them back.
        """

    async def fault(self, name: str, fault: Mapping[str, object]) -> str:
        """Put an item of `spec.faults`, without its name, in force until it is healed or its time is over; whom it hits."""

    async def heal(self, names: Sequence[str]) -> str:
        """End faults; those that ended by themselves are healed as well. In words."""

    async def scale(self, group: str, nodes: int, within_s: float, progress: ProgressSink) -> str:
        """Give a group another number of nodes; returns when all are connected. Raises NotReadyError."""

    async def restart(self, nodes: Sequence[str], within_s: float, progress: ProgressSink) -> str:
        """Restart nodes, all at once; returns when all are connected again. Raises NotReadyError."""

    async def upgrade(self, image: str, within_s: float, progress: ProgressSink) -> str:
        """Roll out an image; returns when all are connected again. Raises NotReadyError."""

    async def rotate(self, within_s: float, progress: ProgressSink) -> str:
        """Give all nodes new certificates; returns when these are in use and all are connected. Raises NotReadyError."""

    async def wait(self, what: Awaited, within_s: float, progress: ProgressSink) -> Waited:
        """Until that is so, or the time is over."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    async def together(self, branches: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Do these at the same time; returns when all are over. One that raises ends the others."""

    def seconds(self) -> float:
        """On its clock, since the subnet was up."""

    def nodes(self) -> Sequence[str]:
        """The members, in their order."""

    def problems(self) -> list[str]:
        """What went wrong without any step's doing, a sentence each: a fault that ended too early makes all invalid."""

    def notes(self) -> list[str]:
        """What there is to say about how it was done here."""

    def digest(self) -> str | None:
        """A hash over all that happened; None where nothing can be hashed."""

    async def down(self) -> None:
        """End what is going on, heal faults, take the subnet down. No matter how far it got."""

    async def leave(self) -> str:
        """End what is going on, heal faults, and leave the subnet standing; in words, what stands."""
