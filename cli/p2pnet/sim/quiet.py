"""Whether anything is left to do, and what: the one place that asks a core."""

from inspect import signature
from typing import Any

from p2pnet.broadcast import Broadcast
from p2pnet.broadcast.pending import Pending
from p2pnet.broadcast.timers import Timer
from p2pnet.model.errors import P2pnetError

_LINES_MAX = 20  # of an error's text; `pending` has them all
_TELLS_LIFETIMES = "lifetimes" in signature(Broadcast.next_wakeup).parameters


class NotQuiet(P2pnetError):  # noqa: N818 - the name people write
    """The world still had something to do when its time was up. `pending`: what, by node."""

    def __init__(self, seconds: float, pending: dict[str, list[Pending]]) -> None:
        lines = [f"{node}: {describe(what)}" for node, left in pending.items() for what in left]
        more = [f"and {len(lines) - _LINES_MAX} more"] if len(lines) > _LINES_MAX else []
        super().__init__("\n".join([f"not quiet {seconds:g} s after the start", *lines[:_LINES_MAX], *more]))
        self.pending = pending


def describe(what: Pending) -> str:
    """`task 1f0c2b9a (from node-3): 2 parts are missing`."""
    artifact = "" if what.artifact is None else f" {what.artifact.hex()[:8]}"
    peer = f" (with {what.peer})" if what.peer else ""
    detail = f": {what.detail}" if what.detail else ""
    return f"{what.kind}{artifact}{peer}{detail}"


def has_work(core: Broadcast) -> bool:
    """Whether it has a wake-up due that is more than an expiry or its client's own tick."""
    return work_due(core) is not None


def work_due(core: Broadcast) -> int | None:
    """When, in nanoseconds."""
    if _TELLS_LIFETIMES:
        next_wakeup: Any = core.next_wakeup
        due: int | None = next_wakeup(lifetimes=False)
        return due
    turn: Any = core._turn  # noqa: SLF001 - until the core can tell
    if turn.soon:
        return int(turn.now)
    armed: dict[tuple[Timer, object], int] = turn.timers._armed  # noqa: SLF001 - as above
    return min((at for (kind, _), at in armed.items() if kind not in {Timer.EXPIRE, Timer.TICK}), default=None)
