"""Passing on what peers delivered, as far as the client and the subnet's settings want it."""

from typing import Literal

from p2pnet.broadcast.client import Client
from p2pnet.broadcast.pool import Artifact, Pool
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.turn import Turn
from p2pnet.model.ids import ArtifactId

Manner = Literal["none", "hold", "advert", "push"]


class Relay:
    """Decides on every artifact of a peer that was validated; holds it, or offers it to the sender.

    `auto` in a full mesh holds: the source serves every peer itself. What it delivered is announced to all when it
    disconnects, and to a peer that connects. Held artifacts take no slot.
    """

    def __init__(self, turn: Turn, client: Client, pool: Pool, sender: Sender) -> None:
        self._turn = turn
        self._client = client
        self._pool = pool
        self._sender = sender
        self._reserve = turn.settings.slots_per_peer // 4  # slots that relays leave to this node's own publications
        self._held: dict[str, dict[ArtifactId, None]] = {}
        self._waiting: dict[ArtifactId, set[str] | None] = {}

    def validated(self, artifact: Artifact) -> None:
        """A peer's artifact is valid."""
        manner = self._manner(artifact.id)
        if manner == "none":
            return
        if manner == "hold" and artifact.peer in self._sender.boxes:
            self._held.setdefault(artifact.peer, {})[artifact.id] = None
            self._turn.counters["relays_held"] += 1
            return
        self._offer(artifact, None)

    def partial(self, artifact: ArtifactId, size: int, hop: int) -> None:
        """The parts of an artifact begin to arrive: offer them, unless relays of it are held."""
        if self._manner(artifact) in ("advert", "push") and self._sender.slots.room > self._reserve:
            self._sender.offer(artifact, size, hop, complete=False)

    def connect(self, peer: str) -> None:
        """A peer connected: announce to it what others delivered."""
        for source, held in self._held.items():
            if source != peer:
                for artifact in held:
                    self._include(artifact, peer)

    def disconnect(self, source: str) -> None:
        """A source disconnected: announce to all what it delivered."""
        for artifact in self._held.pop(source, {}):
            self._include(artifact, None)

    def forget(self, artifact: Artifact) -> None:
        """It left the pool."""
        held = self._held.get(artifact.peer)
        if held is not None:
            held.pop(artifact.id, None)
        self._waiting.pop(artifact.id, None)

    def drain(self) -> None:
        """Slots may be free: offer what waits for one."""
        while self._waiting and self._sender.slots.room > self._reserve:
            artifact, audience = next(iter(self._waiting.items()))
            del self._waiting[artifact]
            found = self._pool.get(artifact)
            if found is not None:
                self._offer(found, audience)

    def _manner(self, artifact: ArtifactId) -> Manner:
        match self._client.relay(artifact, b"") or self._turn.settings.relay:
            case "auto":
                return "hold" if self._turn.settings.full_mesh else "advert"
            case "advert":
                return "advert"
            case "push":
                return "push"
            case _:
                return "none"

    def _include(self, artifact: ArtifactId, peer: str | None) -> None:
        """Announce a held artifact to one more peer, or (None) to all."""
        self._turn.counters["relays_released"] += 1
        if artifact in self._sender.active:
            self._sender.widen(artifact, peer)
        elif artifact in self._waiting:
            audience = self._waiting[artifact]
            if peer is None:
                self._waiting[artifact] = None
            elif audience is not None:
                audience.add(peer)
        else:
            found = self._pool.get(artifact)
            if found is not None:
                self._offer(found, None if peer is None else {peer})

    def _offer(self, artifact: Artifact, audience: set[str] | None) -> None:
        if artifact.id not in self._sender.active and self._sender.slots.room <= self._reserve:
            self._waiting[artifact.id] = audience
            return
        pushes = self._manner(artifact.id) == "push" and artifact.size < self._turn.settings.push_below
        data = artifact.data if pushes else None
        self._sender.offer(artifact.id, len(artifact.data), artifact.hop, data=data, audience=audience)
