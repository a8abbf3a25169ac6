"""When artifacts expire, and which ids are unwanted: expired, withdrawn or invalid here."""

import math
from heapq import heapify, heappop, heappush
from typing import Final

from p2pnet.model.ids import ArtifactId

AFTERLIFE_S: Final = 60.0  # a peer whose clock is behind, or whose purge is late, still offers what has expired here
REFUSED_MAX = 200_000  # ids; the oldest refusal ends first
FOREVER = math.inf


class Lifetimes:
    """Times are Unix seconds: an artifact's own expiry is told in them."""

    __slots__ = ("_ends", "_heap", "_refused")

    def __init__(self) -> None:
        self._ends: dict[ArtifactId, float] = {}
        self._refused: dict[ArtifactId, float] = {}
        self._heap: list[tuple[float, ArtifactId]] = []

    def add(self, artifact: ArtifactId, expires: float) -> bool:
        """It lives until then. True: nothing ends earlier."""
        if expires == FOREVER:
            return False
        self._ends[artifact] = expires
        heappush(self._heap, (expires, artifact))
        return self._heap[0][1] == artifact

    def refuse(self, artifact: ArtifactId, until: float) -> None:
        """The id is unwanted until then."""
        self._ends.pop(artifact, None)
        self._refused.pop(artifact, None)
        self._refused[artifact] = until
        if until != FOREVER:
            heappush(self._heap, (until, artifact))
        if len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]

    def forget(self, artifact: ArtifactId) -> None:
        """It left the pool and may come back."""
        self._ends.pop(artifact, None)

    def is_refused(self, artifact: ArtifactId) -> bool:
        """Whether the id is unwanted."""
        return artifact in self._refused

    def next(self) -> float | None:
        """When the next one ends."""
        heap = self._heap
        while heap and not self._is_live(*heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, wall: float) -> list[ArtifactId]:
        """Artifacts that have expired by now, oldest first; from here on unwanted for a while."""
        expired = []
        while (at := self.next()) is not None and at <= wall:
            _, artifact = heappop(self._heap)
            if self._refused.get(artifact) == at:
                del self._refused[artifact]
            else:
                expired.append(artifact)
                self.refuse(artifact, at + AFTERLIFE_S)
        if len(self._heap) > 2 * (len(self._ends) + len(self._refused)) + 1000:
            self._heap = [entry for entry in self._heap if self._is_live(*entry)]
            heapify(self._heap)
        return expired

    def _is_live(self, at: float, artifact: ArtifactId) -> bool:
        return self._ends.get(artifact) == at or self._refused.get(artifact) == at
