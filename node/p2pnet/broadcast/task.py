"""The bookkeeping of one fetch: which parts have arrived, which are owed by whom, which are to be asked for."""

from collections.abc import Callable

from p2pnet.broadcast.artifact import part_count
from p2pnet.broadcast.lanes import Lane
from p2pnet.broadcast.table import Source
from p2pnet.model.ids import ArtifactId

FIRST = -1  # what a task asks before it knows anything: the part list, or the only part

Complete = Callable[[ArtifactId, bytes, bytes, str, int], None]
"""(id, encoded artifact, part list, the peer that completed it, its hop)."""


class Task:
    """One id on its way."""

    __slots__ = ("artifact", "asks", "missing", "part_list", "parts", "size", "todo")

    def __init__(self, artifact: ArtifactId) -> None:
        self.artifact = artifact
        self.size = 0
        """Known with the part list."""
        self.part_list = b""
        """Checked; empty: not known."""
        self.parts: list[memoryview | None] = []
        self.missing = 0
        self.todo: list[int] = [FIRST]
        """Parts to be asked for, the next one last."""
        self.asks: dict[int, Ask] = {}

    def begin(self, size: int, part_list: bytes) -> None:
        """The part list is known."""
        self.size, self.part_list = size, part_list
        self.missing = part_count(size)
        self.parts = [None] * self.missing
        self.todo = list(range(self.missing - 1, -1, -1))

    def arrived(self, part: int) -> memoryview | None:
        """This part, if it is here and there is one of this number."""
        return self.parts[part] if part < len(self.parts) else None

    def asked(self, part: int) -> set[str]:
        """The peers that owe this part."""
        return {ask.source.peer for ask in self.asks.values() if ask.part == part}


class Ask:
    """One request in flight."""

    __slots__ = ("lane", "part", "sent_at", "size", "source", "task", "token")

    def __init__(self, token: int, task: Task, source: Source, part: int, *, lane: Lane, now: int) -> None:
        self.token = token
        self.task = task
        self.lane = lane
        self.source = source
        self.part = part
        self.size = task.size if task.part_list else source.size
        self.sent_at = now
