"""An artifact's way as spans: a tree that nests in time, whose phases are the hop, with the same ids whenever it is exported."""

import base64
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from p2pnet.measure import hop_tree
from p2pnet.measure.wording import PHASES
from p2pnet.model.events import Collected, EventKind, FetchTimes
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.present import ArtifactSpan, SpanKind, artifact_spans, otlp_lines, resource_of, trace_id_of
from p2pnet.present import otlp_json as written

MS = 1_000_000
ARTIFACT = "3f" * 32
NODES = [f"node-{index}" for index in range(6)]
RUN = RunFile(
    run="r-1", subnet="demo", target="local", seed=7, request=RunRequest([], client="chat"), created_at=900.0, nodes=NODES,
    version="9.8.7", state="finished", artifacts=[ARTIFACT], names=["photo.jpg"], unix_offset_s=1_000.0, clock_bound_ms=0.25,
)  # fmt: skip


def event(node: str, kind: EventKind, t_ms: float, peer: str = "", **more: Any) -> Collected:
    return Collected(node, "i", 0, int(t_ms * MS), kind, "chat", ARTIFACT, peer, **more)


PUBLISHED = event("node-0", EventKind.PUBLISHED, 100, bytes=5_000)


def fetched(node: str, peer: str, t_ms: float, times: tuple[int, int, int], hop: int = 1) -> list[Collected]:
    """An arrival after these times in milliseconds, validated 2 ms later."""
    detail = FetchTimes(*(1_000 * one for one in times)).to_detail()
    arrived = event(node, EventKind.RECEIVED, t_ms - 2, peer, hop=hop, bytes=5_000, detail=detail)
    return [arrived, event(node, EventKind.VALIDATED, t_ms, peer, hop=hop)]


def spans_of(*events: Collected, run: RunFile = RUN) -> list[ArtifactSpan]:
    return artifact_spans(hop_tree(ARTIFACT, events, NODES), run, events)


def named(spans: list[ArtifactSpan], name: str) -> ArtifactSpan:
    [found] = [span for span in spans if span.name == name]
    return found


WAY = [
    PUBLISHED, *fetched("node-1", "node-0", 130, (5, 10, 8)), *fetched("node-2", "node-1", 170, (4, 12, 20), 2),
    event("node-2", EventKind.FETCH_FAILED, 140, "node-3", detail="gone"), *fetched("node-3", "node-0", 150, (1, 9, 1)),
]  # fmt: skip


def test_a_hop_hangs_below_the_one_that_brought_it_and_a_relay_holds_what_came_through_it() -> None:
    spans = spans_of(*WAY)
    root, relay = spans[0], named(spans, "relay node-1")
    assert (root.name, root.kind, root.parent_id, root.node) == ("publish node-0", SpanKind.PRODUCER, "", "node-0")
    assert {span.name for span in spans if span.parent_id == root.span_id} == {
        "receive node-1", "relay node-1", "receive node-3",
    }  # fmt: skip
    assert named(spans, "receive node-2").parent_id == relay.span_id
    assert (relay.start_ns, relay.end_ns) == (1_000_130 * MS, 1_000_170 * MS)
    assert (root.start_ns, root.end_ns) == (1_000_100 * MS, 1_000_170 * MS)


def test_phases_stand_in_their_order_in_the_hop_that_they_add_up_to() -> None:
    spans = spans_of(*WAY)
    hop = named(spans, "receive node-2")
    phases = [span for span in spans if span.parent_id == hop.span_id]
    assert [(span.name, span.end_ns - span.start_ns) for span in phases] == [
        ("announce", 2 * MS), ("wait", 4 * MS), ("request", 12 * MS), ("transfer", 20 * MS), ("validate", 2 * MS),
    ]  # fmt: skip
    assert (phases[0].start_ns, phases[-1].end_ns) == (hop.start_ns, hop.end_ns) == (1_000_130 * MS, 1_000_170 * MS)
    assert {span.kind for span in phases} == {SpanKind.INTERNAL}


def test_a_span_says_what_is_known_of_it_in_the_words_of_the_conventions() -> None:
    spans = spans_of(*WAY)
    hop = named(spans, "receive node-2").attributes
    assert hop | {
        "messaging.system": "p2pnet", "messaging.operation.type": "receive", "messaging.destination.name": "chat",
        "messaging.message.id": ARTIFACT, "messaging.message.body.size": 5_000, "network.transport": "quic",
        "p2pnet.run.id": "r-1", "p2pnet.sender": "node-1", "p2pnet.hop": 2, "p2pnet.latency_ms": 70.0, "p2pnet.edge_ms": 40.0,
        "p2pnet.critical": True, "p2pnet.clock.bound_ms": 0.25, "p2pnet.duplicates": 0,
    } == hop  # fmt: skip
    [failed] = named(spans, "receive node-2").events
    assert (failed.name, failed.t_ns, failed.attributes["p2pnet.peer"]) == ("fetch-failed", 1_000_140 * MS, "node-3")
    assert spans[0].attributes["p2pnet.artifact.name"] == "photo.jpg"
    assert resource_of("node-2", RUN) == {
        "service.name": "p2pnet", "service.namespace": "demo", "service.version": "9.8.7", "service.instance.id": "node-2",
        "deployment.environment.name": "local",
    }  # fmt: skip


def test_who_was_not_reached_makes_the_trace_an_error_once_the_run_has_ended() -> None:
    root = spans_of(*WAY)[0]
    assert root.error == "2 of 5 nodes were not reached"
    assert root.events[-1].attributes == {"p2pnet.nodes": ("node-4", "node-5")}
    assert spans_of(*WAY, run=msgspec.structs.replace(RUN, state="running"))[0].error == ""


def test_ids_are_the_same_for_the_same_run_and_others_in_another() -> None:
    again = msgspec.structs.replace(RUN, run="r-2")
    first, second, other = spans_of(*WAY), spans_of(*reversed(WAY)), spans_of(*WAY, run=again)
    assert [span.span_id for span in first] == [span.span_id for span in second]
    assert {span.trace_id for span in first} == {trace_id_of("r-1", ARTIFACT)}
    assert not {span.span_id for span in first} & {span.span_id for span in other}
    assert len({span.span_id for span in first}) == len(first)


def test_a_run_whose_time_is_not_known_stands_at_its_start() -> None:
    old = msgspec.structs.replace(RUN, unix_offset_s=None, started_at=950.0)
    assert spans_of(*WAY, run=old)[0].start_ns == 950_000 * MS


def test_an_artifact_without_events_has_no_trace() -> None:
    assert spans_of() == []


@st.composite
def journeys(draw: st.DrawFn) -> list[Collected]:
    """Any receipts of any senders, with fetches of any length, and perhaps a publication."""
    events = [PUBLISHED] if draw(st.booleans()) else []
    for node in draw(st.lists(st.sampled_from(NODES), max_size=8)):
        t_ms = draw(st.integers(95, 130))
        peer = draw(st.sampled_from([*NODES, ""]))
        if draw(st.booleans()):
            events += fetched(node, peer, t_ms, draw(st.tuples(*[st.integers(0, 30)] * 3)))
        else:
            events.append(event(node, EventKind.VALIDATED, t_ms, peer))
    return events


@given(journeys(), st.sampled_from([None, 0.0, -1e300, 1e12]))
def test_every_span_lies_in_its_parent_and_phases_add_up_to_their_hop(
    events: list[Collected], offset: float | None
) -> None:
    spans = spans_of(*events, run=msgspec.structs.replace(RUN, unix_offset_s=offset))
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert [span.parent_id for span in spans].count("") == min(1, len(spans))
    for place, span in enumerate(spans):
        assert 0 <= span.start_ns <= span.end_ns < 1 << 64
        if span.parent_id:
            parent = by_id[span.parent_id]
            assert parent in spans[:place]
            assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns
    for hop in (span for span in spans if span.name.startswith("receive")):
        phases = [span for span in spans if span.parent_id == hop.span_id]
        assert not phases or (phases[0].start_ns, phases[-1].end_ns) == (hop.start_ns, hop.end_ns)
        assert all(one.end_ns == then.start_ns for one, then in pairwise(phases))
        assert [span.name for span in phases] == [one for one in PHASES if one in {span.name for span in phases}]
    received = {span.node for span in spans if span.name.startswith("receive")}
    assert received == {one.node for one in hop_tree(ARTIFACT, events, NODES).nodes}


def parsed(line: str) -> TracesData:
    """As a collector reads it: ids are hex there, and base64 in protobuf's own JSON."""

    def with_bytes(span: dict[str, Any]) -> dict[str, Any]:
        ids = {key: span[key] for key in ("traceId", "spanId", "parentSpanId") if key in span}
        return span | {key: base64.b64encode(bytes.fromhex(value)).decode() for key, value in ids.items()}

    document = json.loads(line)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            scope["spans"] = [with_bytes(span) for span in scope["spans"]]
    return json_format.ParseDict(document, TracesData())


def test_lines_are_otlp_as_its_own_definition_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "SPANS_PER_LINE", 7)
    spans = spans_of(*WAY)
    lines = list(otlp_lines(spans, RUN))
    read = [
        ({one.key: one.value.string_value for one in resource.resource.attributes}, span)
        for line in lines
        for resource in parsed(line).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]  # fmt: skip
    assert len(lines) == -(-len(spans) // 7)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    by_id = {span.span_id.hex(): (resource, span) for resource, span in read}
    assert len(by_id) == len(spans)
    for span in spans:
        resource, seen = by_id[span.span_id]
        assert (seen.trace_id.hex(), seen.parent_span_id.hex(), seen.name, seen.kind) == (
            span.trace_id, span.parent_id, span.name, span.kind,
        )  # fmt: skip
        assert (seen.start_time_unix_nano, seen.end_time_unix_nano) == (span.start_ns, span.end_ns)
        assert resource["service.instance.id"] == span.node
        assert {one.key for one in seen.attributes} == set(span.attributes)
        assert (seen.status.code, seen.status.message) == (2 if span.error else 0, span.error)
