"""All timers of one Broadcast: named, keyed, in one heap. Setting one again moves it."""

from collections.abc import Hashable, Iterator
from enum import IntEnum
from heapq import heappop, heappush


class Timer(IntEnum):
    """Every reason to wake up."""

    RETRY = 0  # updates that failed are due again; key: a number of their group
    EMPTY = 1  # freed slots have not been re-used for 50 ms
    SYNCED = 2  # `synced` failed on the way; key: peer
    HEDGE = 3  # a fetch is slow; key: its token
    FETCH = 4  # a source of a task may be asked again; key: artifact id
    STASH = 5  # ask the bouncer again about what it may want later
    EXPIRE = 6  # the first artifact, or refusal of one, ends
    FORGET = 7  # a peer has been away for long: its rows end; key: peer
    TICK = 8  # the client asked to be run now and then


class Timers:
    """A heap with lazy deletion: an entry counts only while it is what `_armed` says."""

    __slots__ = ("_armed", "_heap", "_sequence")

    def __init__(self) -> None:
        self._armed: dict[tuple[Timer, Hashable], int] = {}
        self._heap: list[tuple[int, int, tuple[Timer, Hashable]]] = []
        self._sequence = 0

    def set(self, kind: Timer, key: Hashable, at_ns: int) -> None:
        """Fire at this time; an earlier setting under the same name is void."""
        name = (kind, key)
        self._armed[name] = at_ns
        self._sequence += 1  # ties fire in the order they were set, and keys are never compared
        heappush(self._heap, (at_ns, self._sequence, name))

    def cancel(self, kind: Timer, key: Hashable) -> None:
        """Nothing happens when it is not set."""
        self._armed.pop((kind, key), None)

    def is_set(self, kind: Timer, key: Hashable) -> bool:
        """Whether it will fire."""
        return (kind, key) in self._armed

    def next(self) -> int | None:
        """When the first one fires."""
        heap, armed = self._heap, self._armed
        while heap and armed.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: int) -> Iterator[tuple[Timer, Hashable]]:
        """Names of the timers whose time has come, each disarmed before it is given."""
        while True:
            at = self.next()
            if at is None or at > now:
                return
            name = heappop(self._heap)[2]
            del self._armed[name]
            yield name
