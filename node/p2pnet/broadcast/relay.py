"""Relaying: whether and how artifacts that peers delivered are announced to other peers."""

from typing import Literal

from p2pnet.broadcast.client import ClientCalls, Stripped
from p2pnet.broadcast.context import Context
from p2pnet.broadcast.digest import Digests
from p2pnet.broadcast.edges import EAGER_BELOW_BYTES, Edges
from p2pnet.broadcast.pool import Artifact, Pool
from p2pnet.broadcast.scatter import Scatter
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.table import Table
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import KIB

SCATTER_ABOVE_BYTES = 16 * KIB
"""Bytes of user payload: smaller artifacts are never dealt out in stripes."""
SCATTER_PEERS_LEAST = 3
"""Peers among which `scatter` deals an artifact out; to fewer it is pushed or advertised as by `auto`."""
AUTO_SCATTER_PEERS_LEAST = 4
"""The same for `auto`."""
RelayMode = Literal["none", "hold", "edges", "advert", "push"]
"""none: tell nobody. hold: tell only whom the digests show to lack it. edges: as `hold`, and the peers with an edge that is not
lazy at once. advert, push: announce it to all peers."""


class Relay:
    """Decides on every validated artifact of a peer whether to hold it or to offer it to the sender.

    In a full mesh `auto` holds: the publisher serves every peer itself, and digests find out what a peer lacks. What is held
    takes no slot, unless its parts were offered while they arrived. In a sparse topology `auto` announces over edges what is
    small enough to be pushed there, and all else to all peers: many sources are worth more then than a few adverts.
    """

    __slots__ = (
        "_calls", "_context", "_digests", "_eager_below", "_edges", "_pool", "_reserve", "_scatter", "_sender",
        "_table", "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        calls: ClientCalls,
        table: Table,
        pool: Pool,
        *,
        sender: Sender,
        digests: Digests,
        edges: Edges,
        scatter: Scatter,
    ) -> None:
        self._context = context
        self._calls = calls
        self._table = table
        self._pool = pool
        self._sender = sender
        self._digests = digests
        self._edges = edges
        self._scatter = scatter
        below = context.settings.push_below
        self._eager_below = EAGER_BELOW_BYTES if below is None else below
        self._reserve = context.settings.slots_per_peer // 4  # slots that relays leave to this node's own publications
        self._waiting: dict[ArtifactId, set[str] | None] = {}

    @property
    def waiting(self) -> list[ArtifactId]:
        """Artifacts that wait for a slot."""
        return list(self._waiting)

    def published(self, artifact: Artifact, *, urgent: bool) -> None:
        """This node has published an artifact: announce it. `urgent`: push it to all peers at any size."""
        form = self._calls.strip(artifact, self._pool)
        mode = self._mode_of(artifact, form)
        if mode == "edges" and not urgent:
            self._offer_over_edges(artifact, None, form)
        else:
            pushes = urgent or _sent(artifact, form) < self._context.settings.push_limit
            is_scattered = not (pushes and form is not None) and self._scatters(artifact, pushes=pushes)
            self._sender.offer(
                artifact.id,
                len(artifact.data),
                artifact.hop,
                key=artifact.inspected.key,
                data=artifact.data if pushes and not is_scattered else None,
                form=form if pushes else None,
                part_list=artifact.parts if is_scattered else None,
                urgent=urgent,
                origin=artifact.origin,
            )
            if is_scattered:
                self._scatter.deal(artifact, urgent=urgent)
        self._count(artifact, mode)

    def _scatters(self, artifact: Artifact, *, pushes: bool) -> bool:
        """Whether this node's own artifact is dealt out in stripes. `pushes`: `auto` would push it otherwise.

        Only in a full mesh: elsewhere a peer's peers are not the dealer's, and its share would not reach them.
        """
        settings = self._context.settings
        mode = self._calls.relay(artifact.id, artifact.inspected.key) or settings.relay
        if not settings.full_mesh or artifact.size <= SCATTER_ABOVE_BYTES:
            return False
        peers = len(self._sender.boxes)
        if mode == "scatter":
            return peers >= SCATTER_PEERS_LEAST
        pays = settings.auto_scatters or self._context.narrow_uplink
        return mode == "auto" and pays and not pushes and peers >= AUTO_SCATTER_PEERS_LEAST

    def _count(self, artifact: Artifact, mode: RelayMode) -> None:
        """Decide whether digests count it: only what peers that relay may lack."""
        if mode == "edges" or (mode != "none" and self._context.settings.full_mesh):
            self._digests.add(artifact.id)
        else:
            self._digests.keep_private(artifact.id)

    def validated(self, artifact: Artifact) -> None:
        """A peer's artifact is valid: relay it according to its mode."""
        form = self._calls.strip(artifact, self._pool)
        mode = self._mode_of(artifact, form)
        if mode == "none":
            if artifact.id in self._sender.active:
                self._sender.withdraw(artifact.id)
        elif mode == "hold" and artifact.id not in self._sender.active:
            self._context.count("relays_held")
        else:
            self._offer(artifact, None, form)
        self._count(artifact, mode)

    def partial(self, artifact: ArtifactId, key: bytes, size: int, hop: int, have: int, *, origin: int) -> None:
        """Some parts of an artifact are here: offer them, if relays may take a slot. `have`: bitmap."""
        mode = self.mode(artifact, key)
        if mode != "none" and self._sender.slots.room > self._reserve:
            few = mode == "hold"
            self._sender.offer(artifact, size, hop, key=key, have=have, few=few, origin=origin)

    def end_partial(self, artifact: ArtifactId) -> None:
        """The fetch ended without all parts: withdraw what was offered of it."""
        content = self._sender.active.get(artifact)
        if content is not None and not content.complete:
            self._sender.withdraw(artifact)

    def offer_held(self, artifact: ArtifactId, peer: str) -> None:
        """The digests show that a peer lacks an artifact that is held here: advertise it to that peer."""
        self._context.count("relays_released")
        self._context.count("held_artifact_offered")
        found = self._pool.get(artifact)
        if found is not None:
            self._edges.graft(found.origin, peer)
        if artifact in self._sender.active:
            self._sender.again(artifact, peer)
        elif artifact in self._waiting:
            audience = self._waiting[artifact]
            if audience is not None:
                audience.add(peer)
        elif found is not None:
            self._offer(found, {peer}, self._calls.strip(found, self._pool))

    def forget(self, artifact: ArtifactId) -> None:
        """The artifact left the pool."""
        self._waiting.pop(artifact, None)

    def drain(self) -> None:
        """Offer artifacts that wait for a slot while there are free ones beyond the reserve."""
        while self._waiting and self._sender.slots.room > self._reserve:
            artifact, audience = next(iter(self._waiting.items()))
            del self._waiting[artifact]
            found = self._pool.get(artifact)
            if found is not None:
                self._offer(found, audience, self._calls.strip(found, self._pool))

    def mode(self, artifact: ArtifactId, key: bytes) -> RelayMode:
        """The mode for this artifact: the client's word, else the subnet's setting."""
        settings = self._context.settings
        match self._calls.relay(artifact, key) or settings.relay:
            case "auto" | "scatter":
                return "hold" if settings.full_mesh else "edges"
            case "advert":
                return "advert"
            case "push":
                return "push"
            case _:
                return "none"

    def _mode_of(self, artifact: Artifact, form: Stripped | None) -> RelayMode:
        """The mode for a whole artifact: what is sent of it decides by its size whether it goes over edges."""
        mode = self.mode(artifact.id, artifact.inspected.key)
        return "advert" if mode == "edges" and _sent(artifact, form) >= self._eager_below else mode

    def _offer(self, artifact: Artifact, audience: set[str] | None, form: Stripped | None) -> None:
        mode = self._mode_of(artifact, form)
        # What was offered in part has an audience already, which waits for the rest.
        if mode == "edges" and artifact.id not in self._sender.active:
            self._offer_over_edges(artifact, audience, form)
            return
        if artifact.id not in self._sender.active and self._sender.slots.room <= self._reserve:
            self._waiting[artifact.id] = audience
            self._context.count("relay_waited_for_slot")
            return
        key, hop = artifact.inspected.key, artifact.hop
        pushes = _sent(artifact, form) < self._context.settings.push_limit and mode == "push"
        data = artifact.data if pushes else None
        self._sender.offer(
            artifact.id,
            len(artifact.data),
            hop,
            key=key,
            data=data,
            form=form if pushes else None,
            audience=audience,
            origin=artifact.origin,
        )

    def _offer_over_edges(self, artifact: Artifact, audience: set[str] | None, form: Stripped | None) -> None:
        """Announce it to the peers with an edge that is not lazy, or only to this audience."""
        holders = [peer for peer in self._table.holders.get(artifact.id, ()) if self._table.holds(peer, artifact.id)]
        eager, untried = self._edges.audience(artifact.origin, artifact.peer, holders)
        self._edges.came(artifact.origin, artifact.id)
        self._context.count("suppressed", len(holders))
        self._context.count("suppressed_by_row", len(holders))
        if audience is not None:
            eager, untried = audience, set()
        is_own = not artifact.peer
        # Nobody to tell now, so no slot: digests find whoever lacks it.
        if not (eager or untried or is_own):
            self._context.count("relays_held")
            return
        if not is_own and self._sender.slots.room <= self._reserve:
            self._waiting[artifact.id] = audience
            self._context.count("relay_waited_for_slot")
            return
        # Over untried edges most copies meet one that is there already: only what is no larger than a few adverts goes so.
        # A stripped form is that: the whole would follow an advert.
        is_small = form is not None or artifact.size < self._context.settings.push_limit
        pushed = eager | untried if is_small else eager
        self._sender.offer(
            artifact.id,
            len(artifact.data),
            artifact.hop,
            key=artifact.inspected.key,
            data=artifact.data if pushed else None,
            form=form if pushed else None,
            audience=eager | untried,
            pushed_to=pushed,
            origin=artifact.origin,
        )


def _sent(artifact: Artifact, form: Stripped | None) -> int:
    """Bytes that decide whether it is pushed: the user's, or those of its stripped form."""
    return artifact.size if form is None else len(form)
