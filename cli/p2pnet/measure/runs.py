"""What a run has measured so far: learns as events come in, knows its progress at any time, and gives the report."""

from collections.abc import Collection, Iterable, Sequence

from p2pnet.measure.journeys import Journey, Receipt
from p2pnet.measure.report import RunFacts, assemble
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.report import Load, Report


class RunMeasure:
    """The measurement of one run over these nodes. Events may come in any order, a receipt before its publication too.

    Time is the run's one axis, `Collected.t_ns`. Events of nodes outside the run are not looked at.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = list(nodes)
        self._members = frozenset(nodes)
        self._journeys: dict[str, Journey] = {}
        self._published = 0
        self._delivered = 0

    def published(self, artifact: str, node: str, t_ns: int, size: int) -> None:
        """An artifact (id in hex) of `size` user's bytes was published by `node`. The first word counts."""
        journey = self._journey(artifact)
        if journey.published:
            return
        journey.publisher, journey.t_ns, journey.size, journey.published = node, t_ns, size, True
        self._published += 1
        self._delivered += len(journey.receipts) - (node in journey.receipts)

    def feed(self, events: Iterable[Collected]) -> None:
        """Take in events: `validated` and `duplicate` count, all others are left aside."""
        members, journeys = self._members, self._journeys
        for event in events:
            kind = event.kind
            if kind is not EventKind.VALIDATED and kind is not EventKind.DUPLICATE:
                continue
            node = event.node
            if node not in members or not event.artifact:
                continue
            journey = journeys.get(event.artifact) or self._journey(event.artifact)
            if kind is EventKind.DUPLICATE:
                journey.duplicates += 1
                journey.duplicate_bytes += event.bytes
                continue
            known = journey.receipts.get(node)
            if known is None:
                self._delivered += journey.published and node != journey.publisher
            elif known.t_ns <= event.t_ns:
                continue
            journey.receipts[node] = Receipt(event.t_ns, event.hop, event.peer)

    def progress(self) -> tuple[int, int]:
        """(delivered, expected) receipts of what was published so far."""
        return self._delivered, self._published * max(0, len(self.nodes) - 1)

    def missing(self, artifact: str) -> list[str]:
        """The nodes that have no receipt of an artifact, in the run's order."""
        journey = self._journeys.get(artifact, Journey())
        return [node for node in self.nodes if node != journey.publisher and node not in journey.receipts]

    def report(
        self,
        *,
        run: str,
        subnet: str,
        target: str,
        seed: int,
        artifacts: int | None = None,
        expect: Sequence[str] = (),
        within_s: float | None = None,
        sent: int | None = None,
        clock_bound_ms: float = 0.0,
        invalid: Sequence[str] = (),
        notes: Sequence[str] = (),
        unknown_nodes: Collection[str] = (),
        shared: bool = False,
        packed: bool = False,
        digest: str | None = None,
        started_at: float = 0.0,
        duration_s: float | None = None,
        state: str = "finished",
        client: str = DEFAULT_CLIENT,
        load: Load | None = None,
        late_s: float = 0.0,
        ignored: Sequence[str] = (),
    ) -> Report:
        """The report of the run as measured so far.

        `artifacts`: how many were asked for (default: as many as were published); one never published makes the run
        invalid. `within_s`: a receipt later than this after the last publication is a miss. `sent`: growth of the
        nodes' UDP byte counters, None when it is not known. `unknown_nodes`: whose missing receipts were lost to a
        fault the run ordered. `duration_s`: default from the first publication to the last receipt. `load`: what was
        offered; `late_s`: the most that a publication of it was asked for after it was due. `ignored`: fields of the
        document that were not in force. Raises SpecError for an expectation that cannot be read.
        """
        journeys = {artifact: one for artifact, one in self._journeys.items() if one.published}
        ordered = dict(sorted(journeys.items(), key=lambda item: (item[1].t_ns, item[0])))
        facts = RunFacts(
            run=run, subnet=subnet, target=target, seed=seed, asked=len(ordered) if artifacts is None else artifacts,
            expect=tuple(expect), within_s=within_s, sent=sent, clock_bound_ms=clock_bound_ms, invalid=tuple(invalid),
            notes=tuple(notes), unknown_nodes=frozenset(unknown_nodes), shared=shared, packed=packed, digest=digest,
            started_at=started_at, duration_s=duration_s, state=state, client=client, load=load,
            late_s=late_s, ignored=tuple(ignored),
        )  # fmt: skip
        return assemble(self.nodes, ordered, facts)

    def _journey(self, artifact: str) -> Journey:
        return self._journeys.setdefault(artifact, Journey())
