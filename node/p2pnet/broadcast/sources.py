"""Which peers may be asked for an artifact's parts, and which of them is asked first."""

from p2pnet.broadcast.context import Context
from p2pnet.broadcast.table import FAILURES_MAX, SupplierState, Table
from p2pnet.broadcast.task import Supplier, Task


class Sources:
    """The connected peers as suppliers, and the choice among those that announce an artifact."""

    __slots__ = ("_context", "_suppliers", "_table")

    def __init__(self, context: Context, table: Table) -> None:
        self._context = context
        self._table = table
        self._suppliers: dict[str, Supplier] = {}  # made when they are first asked for: most peers never are

    def supplier(self, peer: str) -> Supplier | None:
        """A peer as a supplier on its current connection; None: it is not connected."""
        found = self._suppliers.get(peer)
        if found is None:
            peer_rows = self._table.peers.get(peer)
            if peer_rows is not None and peer_rows.connection:
                found = self._suppliers[peer] = Supplier(peer, peer_rows.connection)
        return found

    def disconnect(self, peer: str) -> Supplier | None:
        """Forget what the peer was on its last connection; None: nothing was asked of it."""
        return self._suppliers.pop(peer, None)

    def is_path(self, task: Task, source: SupplierState) -> bool:
        """Whether the source may deliver parts: it is connected, is not given up, and declared the right size and key."""
        peer_rows = self._table.peers.get(source.peer)
        connection = 0 if peer_rows is None else peer_rows.connection
        if not connection or is_given_up(source) or source.connection != connection:
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
            and (supplier := self.supplier(source.peer)) is not None
            and not supplier.is_full
        ]

    def best(self, task: Task, sources: list[SupplierState]) -> SupplierState | None:
        """The source with the fewest failures, then the least expected time until an answer; ties by chance.

        An unknown latency counts as the mean of the known ones: neither fast nor slow. A source that holds everything is
        spared while others hold the same parts, for it alone has the rest.
        """
        if len(sources) < 2:
            return sources[0] if sources else None
        suppliers = [(source, supplier) for source in sources if (supplier := self.supplier(source.peer)) is not None]
        known = [supplier.latency_ns for _, supplier in suppliers if supplier.latency_ns is not None]
        unknown = sum(known) / len(known) if known else 1.0
        best: SupplierState | None = None
        best_score: tuple[int, float, float] | None = None
        for source, supplier in suppliers:
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
