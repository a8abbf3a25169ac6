"""Which source of a task to ask next."""

from collections.abc import Iterable

from p2pnet.broadcast.charges import Charges
from p2pnet.broadcast.lanes import Lane
from p2pnet.broadcast.table import Source, Table
from p2pnet.broadcast.task import Task
from p2pnet.broadcast.turn import Turn


class Sources:
    """Looks at rows, lanes and charges; changes nothing."""

    __slots__ = ("_charges", "_lanes", "_table", "_turn")

    def __init__(self, turn: Turn, table: Table, charges: Charges, lanes: dict[str, Lane]) -> None:
        self._turn = turn
        self._table = table
        self._charges = charges
        self._lanes = lanes

    def choose(self, task: Task, not_these: Iterable[str]) -> Source | None:
        """The source with the best lane that is free, among those that may be asked now; ties by chance."""
        best: Source | None = None
        best_score: tuple[int, float, float] | None = None
        for source in self._table.holders.get(task.artifact, {}).values():
            if not self.may_ask(task, source) or source.peer in not_these:
                continue
            lane = self._lanes[source.peer]
            if lane.is_full:
                continue
            score = (*lane.score(), self._turn.chance.random())
            if best_score is None or score < best_score:
                best, best_score = source, score
        return best

    def may_ask(self, task: Task, source: Source) -> bool:
        """Whether it is connected, has not failed just now, and its bytes can be charged."""
        if source.closed or source.gone or source.not_before > self._turn.now or source.peer not in self._lanes:
            return False
        return (not task.part_list or source.size == task.size) and self.has_room(task, source)

    def has_room(self, task: Task, source: Source) -> bool:
        """Whether its bytes are charged to somebody, or could be to this source."""
        charges = self._charges
        return charges.payer(task.artifact) is not None or charges.has_room(source.peer, source.size)
