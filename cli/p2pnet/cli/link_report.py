"""The links of a kept run, for `report --links`."""

from p2pnet.cli.documents import LinkLine, RunLinks
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.run_receipts import propagation_of
from p2pnet.measure.propagation import Propagation
from p2pnet.model.errors import SpecError
from p2pnet.model.report import Report
from p2pnet.store import State, archive

LINKS_MAX = 10_000


def links_of(report: Report, state: State) -> RunLinks:
    """The slowest and busiest. CommandError (exit 2) where the run's events are not here."""
    from p2pnet.present import longest_waits

    folder = state.run(report.run)
    try:
        archive.check_events(state, report.run)
        spread = propagation_of(report, archive.read_run_file(state, report.run), state)
    except SpecError as error:
        raise CommandError(str(error), where=str(folder), next_step="name another run, or leave --links out") from None
    slow = [
        LinkLine(
            sender=one.source, to=one.to, receipts=one.use.receipts, bytes=one.use.bytes,
            wait_ms_mean=one.use.wait_ms / one.use.waits, wait_ms_max=one.use.wait_max_ms, why=why,
        )
        for one, why in longest_waits(report, spread)
    ]  # fmt: skip
    lines = [*slow, *_without_waits(spread)]
    return RunLinks(
        run=report.run, subnet=report.subnet, target=report.target, verdict=report.verdict, ways=len(lines),
        links=lines[:LINKS_MAX],
    )  # fmt: skip


def _without_waits(spread: Propagation) -> list[LinkLine]:
    """Ways of which no wait is known: the sender passed on what it had not validated yet. Those of most bytes first."""
    names = spread.nodes
    lines = [
        LinkLine(
            sender=names[source],
            to=names[to],
            receipts=use.receipts,
            bytes=use.bytes,
            wait_ms_mean=None,
            wait_ms_max=None,
        )
        for (source, to), use in spread.links.items()
        if source >= 0 and to >= 0 and not use.waits
    ]
    return sorted(lines, key=lambda one: (-one.bytes, one.sender, one.to))
