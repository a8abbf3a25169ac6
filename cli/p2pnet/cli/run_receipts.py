"""Every receipt of a kept run, read from its events some artifacts at a time: for CSV and for what is drawn."""

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from p2pnet.measure import ReceiptRow
from p2pnet.model.events import EventKind
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.store import State, archive

if TYPE_CHECKING:
    from p2pnet.measure.propagation import Propagation

CELLS_MAX = 2_000_000  # pairs of artifact and node held at a time, of 20 bytes; a longer run's events are read again


def receipt_rows(report: Report, run: RunFile, state: State) -> Iterator[Iterator[ReceiptRow]]:
    """Every receipt that was expected, some artifacts at a time. Raises SpecError, at once, where the events are not there."""
    if run.artifacts:
        archive.check_events(state, report.run)
    return _receipt_rows(report, run, state)


def _receipt_rows(report: Report, run: RunFile, state: State) -> Iterator[Iterator[ReceiptRow]]:
    from p2pnet.measure import Receipts, publications

    events = state.run(report.run) / archive.EVENTS_FILE
    published = publications(archive.iter_events(events, kind=EventKind.PUBLISHED))
    known = set(run.artifacts)
    artifacts = [*run.artifacts, *(one for one in published if one not in known)]
    block = max(1, CELLS_MAX // max(1, len(run.honest)))
    for start in range(0, len(artifacts), block):
        receipts = Receipts(run.honest, artifacts[start : start + block])
        receipts.feed(archive.iter_events(events))
        yield receipts.rows(
            published, deadline_ns=_deadline_ns(run, [one.t_ns for one in published.values()]),
            lost_until_ns=archive.lost_until_ns(report),
        )  # fmt: skip


def propagation_of(report: Report, run: RunFile, state: State, drawn: Collection[str] = ()) -> "Propagation":
    """How a run's artifacts spread, the journeys of those `drawn` whole. Raises SpecError where its events are not there."""
    from p2pnet.measure.propagation import Propagation

    spread = Propagation(run.nodes, drawn)
    for rows in receipt_rows(report, run, state):
        for _, one in groupby(rows, key=lambda row: row.artifact):
            spread.add(one)
    return spread


def _deadline_ns(run: RunFile, published_ns: list[int]) -> int | None:
    """When a receipt no longer counted: as in the report."""
    return max(published_ns) + int(run.request.within_s * 1e9) if published_ns else None
