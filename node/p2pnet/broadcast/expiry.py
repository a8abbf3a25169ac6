"""Expiry: when artifacts expire, and which ids are refused because they are expired, removed or invalid here.

Refusals make removal final: another node that still holds the artifact cannot bring it back by announcing it.
"""

import math
from heapq import heapify, heappop, heappush
from typing import Final

from p2pnet.model.ids import ArtifactId

REFUSED_AFTER_S: Final = 60.0
"""Seconds an id stays refused after its artifact expired: peers whose clock is behind, or whose purge is late, still offer it."""
REFUSED_MAX = 200_000  # ids removed here; without an expiry of their own the oldest makes room, which is counted
REFUSED_PER_PEER_MAX = 1_000  # ids of one peer's invalid artifacts: garbage evicts garbage of the same peer
FOREVER = math.inf


class Expiry:
    """The expiries of artifacts and the refused ids of one pool. Times are Unix seconds, as in artifacts."""

    __slots__ = ("_by_culprit", "_ends", "_heap", "_refused", "evicted", "refused_max")

    def __init__(self, refused_max: int = REFUSED_MAX) -> None:
        self.refused_max = refused_max
        self.evicted = 0
        """How many refusals ended early because there were too many."""
        self._ends: dict[ArtifactId, float] = {}
        self._refused: dict[ArtifactId, tuple[float, str]] = {}
        self._heap: list[tuple[float, ArtifactId]] = []
        self._by_culprit: dict[str, dict[ArtifactId, None]] = {}

    def add(self, artifact: ArtifactId, expires: float) -> None:
        """The artifact is in the pool until it expires; infinite: it does not."""
        if expires != FOREVER:
            self._ends[artifact] = expires
            self._push(expires, artifact)

    def refuse(self, artifact: ArtifactId, until: float, culprit: str = "") -> None:
        """Refuse the id until then. `culprit`: the peer that sent the invalid artifact; empty: it was removed here."""
        self._ends.pop(artifact, None)
        known = self._refused.get(artifact)
        if known is not None:
            if culprit and not known[1]:
                return  # what this node removed by itself stays so, whatever a peer sends
            self._unrefuse(artifact)
        self._refused[artifact] = (until, culprit)
        of_culprit = self._by_culprit.setdefault(culprit, {})
        of_culprit[artifact] = None
        if until != FOREVER:
            self._push(until, artifact)
        if len(of_culprit) > (REFUSED_PER_PEER_MAX if culprit else self.refused_max):
            # The oldest: dicts keep the order of insertion.
            self._unrefuse(next(iter(of_culprit)))
            self.evicted += 1

    def forget(self, artifact: ArtifactId) -> None:
        """The artifact left the pool and may come back."""
        self._ends.pop(artifact, None)

    def is_refused(self, artifact: ArtifactId) -> bool:
        """Whether the id is refused now."""
        return artifact in self._refused

    def next(self) -> float | None:
        """When the first expiry or refusal ends; None: there is none."""
        heap = self._heap
        while heap and not self._is_live(*heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, wall: float) -> list[ArtifactId]:
        """Take the artifacts that have expired by `wall`, oldest first; their ids are refused for a while. Ends refusals too."""
        expired = []
        while (at := self.next()) is not None and at <= wall:
            _, artifact = heappop(self._heap)
            # The entry was the end of a refusal, not of an artifact.
            if artifact in self._refused:
                self._unrefuse(artifact)
            else:
                expired.append(artifact)
                self.refuse(artifact, at + REFUSED_AFTER_S)
        return expired

    def _push(self, at: float, artifact: ArtifactId) -> None:
        heappush(self._heap, (at, artifact))
        if len(self._heap) > 2 * (len(self._ends) + len(self._refused)) + 1000:
            # Lazy deletion: dead entries are dropped when they are most of the heap.
            self._heap = [entry for entry in self._heap if self._is_live(*entry)]
            heapify(self._heap)

    def _unrefuse(self, artifact: ArtifactId) -> None:
        _, culprit = self._refused.pop(artifact)
        of_culprit = self._by_culprit[culprit]
        del of_culprit[artifact]
        if not of_culprit:
            del self._by_culprit[culprit]

    def _is_live(self, at: float, artifact: ArtifactId) -> bool:
        refused = self._refused.get(artifact)
        return self._ends.get(artifact) == at if refused is None else refused[0] == at
