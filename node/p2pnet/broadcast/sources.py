"""Which peers may be asked for an artifact's parts, and which of them is asked first."""

from p2pnet.broadcast.context import Context
from p2pnet.broadcast.table import FAILURES_MAX, SupplierState, Table
from p2pnet.broadcast.task import Supplier, Task


class Sources:
    """The connected peers as suppliers, and the choice among those that announce an artifact."""

    __slots__ = ("_context", "_table", "suppliers")

    def __init__(self, context: Context, table: Table) -> None:
        self._context = context
        self._table = table
        self.suppliers: dict[str, Supplier] = {}
        """By name, every connected peer."""

    def is_path(self, task: Task, source: SupplierState) -> bool:
        """Whether the source may deliver parts: it is connected, is not given up, and declared the right size and key."""
        supplier = self.suppliers.get(source.peer)
        if supplier is None or is_given_up(source) or source.connection != supplier.connection:
            return False
        return not task.part_list or (source.size == task.size and source.key == task.key)

    def usable(self, task: Task) -> list[SupplierState]:
        """The sources of a task that may be asked now: not paused, and with a free stream."""
        now = self._context.now
        return [
            source
            for source in self._table.holders.get(task.artifact, {}).values()
            if self.is_path(task, source)
            and source.have
            and source.not_before <= now
            and not self.suppliers[source.peer].is_full
        ]

    def best(self, task: Task, sources: list[SupplierState]) -> SupplierState | None:
        """The source with the fewest failures, then the least expected time until an answer; ties by chance.

        An unknown latency counts as the mean of the known ones: neither fast nor slow. A source that holds everything is
        spared while others hold the same parts, for it alone has the rest.
        """
        if len(sources) < 2:
            return sources[0] if sources else None
        known = [latency for source in sources if (latency := self.suppliers[source.peer].latency_ns) is not None]
        unknown = sum(known) / len(known) if known else 1.0
        best: SupplierState | None = None
        best_score: tuple[int, float, float] | None = None
        for source in sources:
            supplier = self.suppliers[source.peer]
            latency = unknown if supplier.latency_ns is None else supplier.latency_ns
            pace = latency * (1 + len(supplier.requests)) * (2 if task.part_list and source.complete else 1)
            score = (supplier.failures + source.failures, pace, self._context.rng.random())
            if best_score is None or score < best_score:
                best, best_score = source, score
        return best

    def may_recover(self, task: Task) -> bool:
        """Whether any source that announces the artifact is not given up: it may get more parts, or connect again."""
        return not all(map(is_given_up, self._table.holders.get(task.artifact, {}).values()))


def is_given_up(source: SupplierState) -> bool:
    """Whether the source is not asked any more: it sent wrong content, or failed too often in a row."""
    return source.closed or source.failures >= FAILURES_MAX
