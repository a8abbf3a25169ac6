"""Unvalidated bytes, charged to the peer that delivers them: a flooding peer uses up only its own room."""

from p2pnet.model.ids import ArtifactId


class Charges:
    """At most one charge per artifact."""

    __slots__ = ("_charged", "_held", "_limit", "_relieved", "_waiting")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: dict[str, int] = {}
        self._charged: dict[ArtifactId, tuple[str, int]] = {}
        self._waiting: dict[str, dict[ArtifactId, None]] = {}
        self._relieved: dict[ArtifactId, None] = {}

    def has_room(self, peer: str, size: int) -> bool:
        """Whether so many more bytes may be charged to the peer."""
        return self._held.get(peer, 0) + size <= self._limit

    def take(self, artifact: ArtifactId, peer: str, size: int) -> bool:
        """Charge, unless there is no room or the artifact is charged already (which is fine)."""
        if artifact in self._charged:
            return True
        held = self._held.get(peer, 0) + size
        if held > self._limit:
            return False
        self._held[peer] = held
        self._charged[artifact] = (peer, size)
        return True

    def wait(self, artifact: ArtifactId, peer: str) -> None:
        """Name it in `relieved` when the peer's charge has shrunk."""
        self._waiting.setdefault(peer, {})[artifact] = None

    def release(self, artifact: ArtifactId) -> None:
        """End the charge, if there is one."""
        charge = self._charged.pop(artifact, None)
        if charge is None:
            return
        peer, size = charge
        held = self._held[peer] - size
        if held:
            self._held[peer] = held
        else:
            del self._held[peer]
        if peer in self._waiting:
            self._relieved.update(self._waiting.pop(peer))

    def payer(self, artifact: ArtifactId) -> str | None:
        """Whom it is charged to."""
        charge = self._charged.get(artifact)
        return None if charge is None else charge[0]

    def held(self, peer: str) -> int:
        """Bytes charged to a peer now."""
        return self._held.get(peer, 0)

    @property
    def has_relieved(self) -> bool:
        """Somebody may try again."""
        return bool(self._relieved)

    def relieved(self) -> list[ArtifactId]:
        """Artifacts that may try again; each is named once."""
        if not self._relieved:
            return []
        relieved, self._relieved = list(self._relieved), {}
        return relieved
