"""When a world does not become quiet: the error, and how what is left is put into words."""

from p2pnet.broadcast import Pending
from p2pnet.model.errors import P2pnetError

_LINES_MAX = 20  # of an error's text; `pending` has them all


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
