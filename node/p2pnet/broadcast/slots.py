"""A sender's slot numbers and commit ids."""

from p2pnet.model.ids import CommitId, Slot


class SlotSet:
    """Numbers below `limit`, the most recently freed first: re-use replaces a receiver's row at no cost of an empty."""

    __slots__ = ("_commit", "_free", "_next", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free: list[int] = []
        self._next = 0
        self._commit = 0

    @property
    def allocated(self) -> int:
        """How many numbers were ever in use."""
        return self._next

    @property
    def in_use(self) -> int:
        """How many numbers are taken now."""
        return self._next - len(self._free)

    @property
    def room(self) -> int:
        """How many more could be taken."""
        return self.limit - self.in_use

    def take(self) -> Slot | None:
        """A slot, or None when all are taken."""
        if self._free:
            return Slot(self._free.pop())
        if self._next >= self.limit:
            return None
        self._next += 1
        return Slot(self._next - 1)

    def free(self, slot: int) -> None:
        """Give a taken slot back."""
        self._free.append(slot)

    def commit(self) -> CommitId:
        """The id of this event; every event has one, even those that change nothing, counted from 0."""
        self._commit += 1
        return CommitId(self._commit - 1)
