"""Clients with mistakes and habits that clients of users have, for scenarios: each is the blob client with one habit more.

In a Subnet: `{name: stumbling, class: "p2pnet.adversary.clients:StumblingClient", settings: {stumbles: 3}}`.
"""

from hashlib import blake2b

from p2pnet.broadcast import AddToValidated, ArtifactId, BlobClient, Bounce, Change, ChangeAction, PoolView, make_blob
from p2pnet.broadcast.blob import NONCE_BYTES
from p2pnet.model.limits import KIB

REMEMBERED_MAX = 10_000
"""Artifacts that a client remembers, the latest."""
DERIVED = "derived"
"""Name of what a `DerivingClient` makes."""
DERIVED_BYTES_MAX = 1024 * KIB
STUMBLES_MAX = 100


class StumblingClient(BlobClient):
    """Raises in `bouncer`, `stumbles` times for each artifact, and then wants it: as one does whose store is not open yet.

    A bad setting raises ValueError.
    """

    def __init__(self, stumbles: int = 2) -> None:
        self._stumbles = _count("stumbles", stumbles, STUMBLES_MAX)
        self._raised: dict[ArtifactId, int] = {}

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        """See `Client`. Raises OSError, as often as it stumbles."""
        raised = self._raised.get(artifact, 0)
        if raised < self._stumbles:
            if len(self._raised) >= REMEMBERED_MAX:
                del self._raised[next(iter(self._raised))]
            self._raised[artifact] = raised + 1
            raise OSError("the store is not open yet")
        return super().bouncer(artifact, key, size)


class DerivingClient(BlobClient):
    """Makes of every artifact another one of `size` bytes, the same wherever it is made: as a signature is of shares.

    About half of the nodes do, by their names; the others fetch it. A bad setting raises ValueError.
    """

    def __init__(self, node: str, size: int = 64 * KIB) -> None:
        self._size = _count("size", size, DERIVED_BYTES_MAX)
        self._makes = blake2b(node.encode(), digest_size=1).digest()[0] % 2 == 0
        self._made: dict[ArtifactId, None] = {}

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        """See `Client`."""
        actions = super().on_state_change(changes, pool, now)
        for artifact in [change.artifact for change in changes] if self._makes else ():
            found = pool.validated.get(artifact) or pool.unvalidated.get(artifact)
            if found is None or artifact in self._made or found.inspected.name == DERIVED:
                continue
            if len(self._made) >= REMEMBERED_MAX:
                del self._made[next(iter(self._made))]
            self._made[artifact] = None
            created, data = found.inspected.content, artifact * (self._size // len(artifact) + 1)
            if isinstance(created, float):
                blob = make_blob(DERIVED, data[: self._size], artifact[:NONCE_BYTES], created, found.inspected.expires)
                actions.append(AddToValidated(blob))
        return actions


def _count(name: str, value: int, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} {value!r}: a number from 0 to {most}")
    return value
