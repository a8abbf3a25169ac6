"""From a run to its report: what `measure` saw, with what the lab knows beside it."""

import msgspec

from p2pnet.lab.runs.run import Run
from p2pnet.measure import load_of
from p2pnet.model.report import Report


def report_of(run: Run, *, sent: int | None, packed: bool, clock_bound_ms: float) -> Report:
    """The report of a run that ends now. Byte counters cover all traffic, so a run beside others has none of its own."""
    file, request = run.file, run.file.request
    notes = list(run.notes)
    if sent is None and run.open:
        notes.append("bytes sent are unknown: a node was silent or restarted during the run")
    report = run.measure.report(
        run=run.id, subnet=file.subnet, target=file.target, seed=file.seed, artifacts=run.total,
        expect=request.expect, within_s=request.within_s, sent=sent, clock_bound_ms=clock_bound_ms,
        invalid=run.invalid, notes=notes, unknown_nodes=run.unknown_nodes, shared=request.shared, packed=packed,
        started_at=file.started_at or file.created_at, state="cancelled" if run.cancelled else "finished",
        client=request.client, load=load_of(file), late_s=run.late_s, ignored=file.ignored,
    )  # fmt: skip
    return msgspec.structs.replace(report, label=file.label)
