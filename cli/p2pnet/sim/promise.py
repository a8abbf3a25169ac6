"""The promise of the broadcast, checked in a world: what is missing, what should not be there and what is not at rest.

Everything in the validated pool of one honest node reaches every honest node that is connected with it through honest nodes,
unless that node refuses it; nothing withdrawn or expired is anywhere; nothing is left to do. A node that refuses an artifact, or
does not relay it, is no path for it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from p2pnet.broadcast import Artifact, Bounce, Pending
from p2pnet.model.errors import P2pnetError
from p2pnet.model.ids import ArtifactId
from p2pnet.netem.messages import Landing, MessageFlow
from p2pnet.sim.context import SimContext
from p2pnet.sim.incarnation import ClientRun, Incarnation
from p2pnet.sim.liar import Liar
from p2pnet.sim.network import Silence, SimLink
from p2pnet.sim.node import Node
from p2pnet.sim.port import End, SimRequest
from p2pnet.sim.timeline import Timeline

EXPIRY_SLACK_S = 0.001
"""For rounding between Unix seconds and the timeline's nanoseconds."""

_LINES_MAX = 20  # of an error's text; its `pending` has them all


class NotQuiet(P2pnetError):  # noqa: N818 - the name people write
    """The world still had something to do when its time was over. `pending`: what, by node."""

    def __init__(self, seconds: float, pending: dict[str, list[Pending]]) -> None:
        lines = [f"{node}: {describe(what)}" for node, left in pending.items() for what in left]
        more = [f"and {len(lines) - _LINES_MAX} more"] if len(lines) > _LINES_MAX else []
        super().__init__("\n".join([f"not quiet {seconds:g} s after the start", *lines[:_LINES_MAX], *more]))
        self.pending = pending


def describe(what: Pending) -> str:
    """One line, like `task 1f0c2b9a (with node-3): 2 of 5 parts lacking`."""
    artifact = "" if what.artifact is None else f" {what.artifact.hex()[:8]}"
    peer = f" (with {what.peer})" if what.peer else ""
    detail = f": {what.detail}" if what.detail else ""
    return f"{what.kind}{artifact}{peer}{detail}"


class Promise:
    """The promise in one world as it is now. `nodes`: the honest ones that run."""

    def __init__(self, context: SimContext, nodes: Iterable[Node]) -> None:
        self._context = context
        self._nodes = {node.name: node for node in nodes}
        self._peers: dict[str, list[str]] = {}
        self._waiting: dict[str, frozenset[ArtifactId]] = {}

    def broken(self, pending: dict[str, list[Pending]], liars: Collection[str]) -> list[str]:
        """One sentence for each violation; [] when the promise is kept. What is pending because of a liar is no violation."""
        found = list(self._left_over())
        for artifact, holders in self._holders().items():
            # All hold it: the common case, and no walk is needed.
            if len(holders) < len(self._nodes):
                found += self._missing(artifact, holders)
        found += [
            f"{name} is not at rest: {describe(what)}"
            for name, left in pending.items()
            for what in left
            if what.peer not in liars
        ]
        return found

    def _holders(self) -> dict[ArtifactId, list[Node]]:
        holders: dict[ArtifactId, list[Node]] = {}
        for node in self._nodes.values():
            for artifact in node.core.pool.validated:
                holders.setdefault(artifact, []).append(node)
        return holders

    def _left_over(self) -> Iterator[str]:
        """Artifacts in a pool that were withdrawn or have expired."""
        latest = self._context.wall - EXPIRY_SLACK_S
        withdrawn = self._context.withdrawn
        for node in self._nodes.values():
            pool = node.core.pool
            for section in (pool.validated, pool.unvalidated):
                for artifact, found in section.items():
                    if artifact in withdrawn:
                        yield f"{node.name} holds {_short(artifact)}, which was withdrawn"
                    elif found.inspected.expires < latest:
                        late = self._context.wall - found.inspected.expires
                        yield f"{node.name} holds {_short(artifact)}, which expired {late:.3g} s ago"

    def _missing(self, artifact: ArtifactId, holders: list[Node]) -> Iterator[str]:
        """Nodes that lack an artifact: found by a walk over live links from the nodes that hold and relay it."""
        known = {node.name: node.core.pool.validated[artifact] for node in holders}
        sample = next(iter(known.values()))
        # Grows while it is walked: a breadth-first search.
        walk = [node.name for node in holders if self._passes_on(node, known[node.name])]
        seen = set(known)
        for name in walk:
            for peer in self._peers_of(name):
                node = self._nodes.get(peer)
                if node is None or peer in seen:
                    continue
                seen.add(peer)
                if _is_excused(node, sample):
                    continue
                # Who lacks it would have passed it on: nodes behind it lack it for the same reason, and are named too.
                walk.append(peer)
                where = "holds it" if name in known else "should hold it too"
                what = "has not judged" if artifact in node.core.pool.unvalidated else "does not hold"
                yield f"{peer} {what} {_short(artifact)}: its peer {name} {where}"

    def _passes_on(self, node: Node, artifact: Artifact) -> bool:
        """Whether a node's peers may expect an artifact from it: it does not wait for a slot, and is its own or relayed."""
        if node.name not in self._waiting:
            self._waiting[node.name] = frozenset(node.core.waiting_for_slot())
        # Not announced yet, so it is owed to nobody.
        if artifact.id in self._waiting[node.name]:
            return False
        if not artifact.peer:
            return True
        return (node.client.relay(artifact.id, artifact.inspected.key) or node.settings.relay) != "none"

    def _peers_of(self, name: str) -> list[str]:
        if name not in self._peers:
            self._peers[name] = self._context.network.peers_up(name)
        return self._peers[name]


def on_their_way(timeline: Timeline) -> Iterator[tuple[str, Pending]]:
    """What is planned on the timeline and keeps the world from being quiet, soonest first, as (node, what)."""
    return map(_on_its_way, timeline.in_flight())


def _on_its_way(what: object) -> tuple[str, Pending]:
    """The node that one planned call belongs to, and what it is."""
    if isinstance(what, Liar):
        return what.name, Pending("wake", detail="a liar that still acts")
    describe_it = _ON_THE_WAY.get(type(what))
    if describe_it is None:
        raise AssertionError(f"{what!r} is on its way")
    return describe_it(what)


def _request(what: SimRequest) -> tuple[str, Pending]:
    sender, receiver = what.port.name, what.at.port.name if what.end is not None else ""
    if what.answer is None:
        return sender, Pending("message", peer=receiver, detail=f"{what.route.name.lower()}, {len(what.body)} bytes")
    return receiver, Pending("message", peer=sender, detail=f"answer, {len(what.answer)} bytes")


def _flow(what: MessageFlow) -> tuple[str, Pending]:
    end: End = what.owner
    return end.port.name, Pending("message", peer=end.peer, detail="waits for its window, or is lost and sent again")


_ON_THE_WAY: dict[type, Callable[[Any], tuple[str, Pending]]] = {
    SimRequest: _request,
    MessageFlow: _flow,
    Landing: lambda what: _flow(what.flow),
    End: lambda what: (what.port.name, Pending("connection", peer=what.peer, detail=what.state.value)),
    ClientRun: lambda what: (what.incarnation.name, Pending("client", detail="at work")),
    Incarnation: lambda what: (what.name, Pending("wake", detail="a turn")),
    SimLink: lambda what: (what.a, Pending("connection", peer=what.b, detail="to be dialled")),
    Silence: lambda what: (
        what.link.a,
        Pending("connection", peer=what.link.b, detail="blocked, ends when it is idle"),
    ),
}


def _is_excused(node: Node, artifact: Artifact) -> bool:
    """Whether this node need not hold the artifact: its user or its client has refused it."""
    record, inspected = node.record, artifact.inspected
    if artifact.id in record.dropped or artifact.size > node.settings.artifact_bytes_max:
        return True
    if record.purged_below is not None and inspected.height is not None and inspected.height < record.purged_below:
        return True
    if artifact.id in node.core.pool.unvalidated:
        return artifact.id in record.shown
    try:
        return node.client.bouncer(artifact.id, inspected.key, len(artifact.data)) is not Bounce.WANTS
    except Exception:  # noqa: BLE001 - a user's code may raise anything; the peer tries again until it does not
        return False


def _short(artifact: ArtifactId) -> str:
    return artifact.hex()[:8]
