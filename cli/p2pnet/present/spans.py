"""An artifact's way through the network as OpenTelemetry spans: one trace per artifact, from its hop tree. Pure.

The publication is the root. Below it stands a `receive` span for each receipt, from when its sender had the artifact (or from
when the receiver began, where parts were passed on before) until it was validated, with a span for each phase of the hop in it;
and a `relay` span for each node that passed it on, which holds all that came through it. So every span lies in its parent.
Names of attributes are those of OpenTelemetry's semantic conventions where there is one, else they begin with `p2pnet.`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from p2pnet.measure.hop_ends import EndLoad, HopEnds
from p2pnet.measure.tree import HopNode, HopTree
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.jobs import RunFile

EVENTS_PER_SPAN_MAX = 32
NODES_NAMED_MAX = 100  # in one attribute
UNIX_NS_MAX = (1 << 64) - 1
SECONDS_MAX = 1e12  # 30,000 years, either way
NOTED = {
    EventKind.ADVERTISED, EventKind.DUPLICATE, EventKind.REJECTED, EventKind.FETCH_FAILED, EventKind.GIVEN_UP,
}  # fmt: skip
"""Kinds of events of nodes that become events of spans; the others are spans themselves, or of no artifact."""

AttributeValue = str | bool | int | float | tuple[str, ...]


class SpanKind(IntEnum):
    """As OTLP numbers them."""

    INTERNAL = 1
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at one moment of a span, in Unix nanoseconds."""

    name: str
    t_ns: int
    attributes: dict[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class ArtifactSpan:
    """One span. Ids are lower-case hex, of 16 and 8 bytes; times Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty: the root."""
    name: str
    kind: SpanKind
    node: str
    """Whose span it is: the instance of its resource. Empty: the publisher is not known."""
    start_ns: int
    end_ns: int
    attributes: dict[str, AttributeValue]
    events: tuple[SpanEvent, ...] = ()
    error: str = ""
    """Why its status is an error; empty: it is none."""


def trace_id_of(run: str, artifact: str) -> str:
    """The id of an artifact's trace: the same whenever it is exported, another one in another run."""
    return _digest(16, run, artifact)


def resource_of(node: str, run: RunFile) -> dict[str, AttributeValue]:
    """What the spans of a node belong to."""
    named: dict[str, AttributeValue] = {
        "service.name": "p2pnet", "service.namespace": run.subnet, "service.version": run.version,
        "deployment.environment.name": run.target,
    }  # fmt: skip
    if node:
        named["service.instance.id"] = node
    if run.namespace:
        named["k8s.namespace.name"] = run.namespace
    return named


def artifact_spans(
    tree: HopTree, run: RunFile, events: Iterable[Collected] = (), ends: Mapping[str, HopEnds] | None = None
) -> list[ArtifactSpan]:
    """The trace of one artifact, the root first and parents before their children; none of an artifact without events.

    `events`: those of the artifact, in any order; what else they tell is written into the spans.
    `ends`: by receiver, what both ends of its hop did.
    """
    return _Journey(tree, run, events, ends or {}).spans()


def _digest(length: int, *parts: str) -> str:
    text = hashlib.blake2b("\0".join(parts).encode(), digest_size=length).hexdigest()
    return text if text.strip("0") else f"{1:0{2 * length}x}"  # all zeros mean: no id


class _Journey:
    """One artifact's way. Times are those of the run until spans are made of them."""

    def __init__(self, tree: HopTree, run: RunFile, events: Iterable[Collected], ends: Mapping[str, HopEnds]) -> None:
        self._ends = ends
        self._tree = tree
        self._run = run
        self._trace_id = trace_id_of(run.run, tree.artifact)
        times = [one.t_ns for one in tree.nodes] + ([] if tree.published_ns is None else [tree.published_ns])
        self._empty = not times
        self._begun_ns = min(times, default=0)
        self._offset_ns = self._unix_offset_ns()
        self._phases = {one.node: _phases_of(one) for one in tree.nodes}
        self._receipts = {one.node: one for one in tree.nodes}
        self._children = self._forest()
        self._extents = self._measured()
        self._noted = self._events_of(events)
        self._shared: dict[str, AttributeValue] = {
            "messaging.system": "p2pnet", "messaging.destination.name": run.request.client or DEFAULT_CLIENT,
            "messaging.message.id": tree.artifact, "p2pnet.run.id": run.run,
        }  # fmt: skip
        if run.target != "sim":
            self._shared["network.transport"] = "quic"

    def spans(self) -> list[ArtifactSpan]:
        """Every span, parents before their children."""
        if self._empty:
            return []
        made = [self._root()]
        pending = [(made[0].span_id, node) for node in reversed(self._children[""])]
        while pending:  # not recursive: a chain of 500 nodes is deep
            parent, node = pending.pop()
            made += self._receive(self._receipts[node], parent)
            if passed_on := self._children[node]:
                relay = self._relay(node, parent, len(passed_on))
                made.append(relay)
                pending += [(relay.span_id, child) for child in reversed(passed_on)]
        return made

    def _unix_offset_ns(self) -> int:
        run = self._run
        if run.unix_offset_s is not None:
            return _ns(run.unix_offset_s)
        return _ns(run.started_at or run.created_at) - self._begun_ns  # a run of an older p2pnet: about then

    def _unix_ns(self, t_ns: int) -> int:
        """Within what OTLP can say: a run may come from anywhere."""
        return min(max(0, t_ns + self._offset_ns), UNIX_NS_MAX)

    def _forest(self) -> dict[str, list[str]]:
        """Nodes by whom they have it from; by "" those from the publisher, and those of whom that is not known."""
        by_sender: dict[str, list[str]] = defaultdict(list)
        for one in self._tree.nodes:
            first = one.orphan or one.parent == self._tree.publisher
            by_sender["" if first else one.parent].append(one.node)
        return by_sender

    def _started_ns(self, node: str) -> int:
        """When a node's hop began, not before the trace."""
        began = self._receipts[node].t_ns - sum(took for _, took in self._phases[node])
        return max(self._begun_ns, began)

    def _measured(self) -> dict[str, tuple[int, int]]:
        """From when to when each node had it, or passed it on, with all that came through it."""
        extents: dict[str, tuple[int, int]] = {}
        order, pending = [], list(self._children[""])
        while pending:
            node = pending.pop()
            order.append(node)
            pending += self._children[node]
        for node in reversed(order):  # children first
            begin = end = self._receipts[node].t_ns
            for child in self._children[node]:
                begin = min(begin, extents[child][0], self._started_ns(child))
                end = max(end, extents[child][1])
            extents[node] = (begin, end)
        return extents

    def _events_of(self, events: Iterable[Collected]) -> dict[str, list[Collected]]:
        """What is noted by node; by "" of nodes without a receipt."""
        found: dict[str, list[Collected]] = defaultdict(list)
        for event in sorted(events, key=lambda event: (event.t_ns, event.node, event.seq)):
            here = found[event.node if event.node in self._receipts else ""]
            if event.kind in NOTED and event.artifact == self._tree.artifact and len(here) < EVENTS_PER_SPAN_MAX:
                here.append(event)
        return found

    def _span(
        self, part: str, parent: str, node: str, times: tuple[int, int], kind: SpanKind, **more: object
    ) -> ArtifactSpan:
        begin, end = times
        name = f"{part.partition('/')[2] or part} {node}" if kind is not SpanKind.INTERNAL else part.partition("/")[2]
        return ArtifactSpan(
            trace_id=self._trace_id, span_id=_digest(8, self._run.run, self._tree.artifact, node, part), parent_id=parent,
            name=name.strip(), kind=kind, node=node, start_ns=self._unix_ns(begin), end_ns=self._unix_ns(end),
            **more,  # type: ignore[arg-type] # its fields
        )  # fmt: skip

    def _root(self) -> ArtifactSpan:
        tree, run = self._tree, self._run
        names = dict(zip(run.artifacts, run.names, strict=False))
        latencies = [one.latency_ms for one in tree.nodes if one.latency_ms is not None]
        attributes: dict[str, AttributeValue | None] = {
            "messaging.operation.type": "send", "messaging.operation.name": "publish",
            "messaging.message.body.size": tree.size, "p2pnet.artifact.name": names.get(tree.artifact) or None,
            "p2pnet.reached": len(tree.nodes), "p2pnet.unreached": len(tree.unreached),
            "p2pnet.duplicates": tree.duplicates, "p2pnet.latency_ms_max": max(latencies, default=None),
            "p2pnet.critical_path": tuple(tree.critical_path[:NODES_NAMED_MAX]), "p2pnet.clock.bound_ms": run.clock_bound_ms,
        }  # fmt: skip
        end = max((end for _, end in self._extents.values()), default=self._begun_ns)
        events = [self._event(one) for one in self._noted[""]]
        error = ""
        if tree.unreached and run.state in ("finished", "cancelled"):
            error = f"{len(tree.unreached)} of {len(tree.unreached) + len(tree.nodes)} nodes were not reached"
            missing: dict[str, AttributeValue] = {"p2pnet.nodes": tuple(tree.unreached[:NODES_NAMED_MAX])}
            events.append(SpanEvent("unreached", self._unix_ns(end), missing))
        return self._span(
            "publish", "", tree.publisher or "", (self._begun_ns, end), SpanKind.PRODUCER,
            attributes=self._shared | _known(attributes), events=tuple(events), error=error,
        )  # fmt: skip

    def _receive(self, receipt: HopNode, parent: str) -> list[ArtifactSpan]:
        """A hop, then its phases."""
        attributes: dict[str, AttributeValue | None] = {
            "messaging.operation.type": "receive", "messaging.operation.name": "receive",
            "messaging.message.body.size": receipt.bytes or self._tree.size, "p2pnet.sender": receipt.parent or None,
            "p2pnet.hop": receipt.hop, "p2pnet.latency_ms": receipt.latency_ms, "p2pnet.edge_ms": receipt.edge_ms,
            "p2pnet.critical": receipt.critical, "p2pnet.orphan": receipt.orphan or None,
            "p2pnet.duplicates": receipt.duplicates, "p2pnet.clock.bound_ms": self._run.clock_bound_ms,
        }  # fmt: skip
        ends = self._ends.get(receipt.node)
        if ends is not None:
            attributes |= _load("p2pnet.sender", ends.sender) | _load("p2pnet.receiver", ends.receiver)
        hop = self._span(
            "receive", parent, receipt.node, (self._started_ns(receipt.node), receipt.t_ns), SpanKind.CONSUMER,
            attributes=self._shared | _known(attributes),
            events=tuple(self._event(one) for one in self._noted[receipt.node]),
        )  # fmt: skip
        made, end = [hop], receipt.t_ns
        for phase, took in reversed(self._phases[receipt.node]):
            begin = max(self._begun_ns, end - took)
            if took and phase:
                made.append(
                    self._span(
                        f"receive/{phase}", hop.span_id, receipt.node, (begin, end), SpanKind.INTERNAL,
                        attributes={"p2pnet.phase": phase},
                    )
                )  # fmt: skip
            end = begin
        return [hop, *reversed(made[1:])]

    def _relay(self, node: str, parent: str, receivers: int) -> ArtifactSpan:
        attributes: dict[str, AttributeValue] = {
            "messaging.operation.type": "send", "messaging.operation.name": "relay", "p2pnet.receivers": receivers,
        }  # fmt: skip
        return self._span(
            "relay", parent, node, self._extents[node], SpanKind.PRODUCER, attributes=self._shared | attributes
        )

    def _event(self, event: Collected) -> SpanEvent:
        told: dict[str, AttributeValue | None] = {
            "p2pnet.node": event.node, "p2pnet.peer": event.peer or None, "p2pnet.bytes": event.bytes or None,
            "p2pnet.detail": event.detail or None,
        }  # fmt: skip
        return SpanEvent(str(event.kind), self._unix_ns(event.t_ns), _known(told))


def _load(prefix: str, load: EndLoad | None) -> dict[str, AttributeValue | None]:
    if load is None:
        return {}
    return {
        f"{prefix}.cpu": load.cpu, f"{prefix}.lag_ms": load.lag_ms, f"{prefix}.queued_bytes": load.queued_bytes,
        f"{prefix}.handlers": load.handlers,
    }  # fmt: skip


def _ns(seconds: float) -> int:
    return round(min(max(-SECONDS_MAX, seconds), SECONDS_MAX) * 1e9)


def _phases_of(receipt: HopNode) -> list[tuple[str, int]]:
    """The phases of a hop in nanoseconds; of one that is not told in parts, nameless and whole."""
    if receipt.phases is None:
        return [("", round((receipt.edge_ms or 0.0) * 1e6))]
    return [(phase, round(took * 1e6)) for phase, took in receipt.phases.by_name().items()]


def _known(attributes: dict[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}
