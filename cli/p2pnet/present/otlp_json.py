"""Spans as OTLP in JSON, a `TracesData` a line: the form of OpenTelemetry's file exporter, which collectors read.

Ids are hex, 64-bit numbers are text, enumerations are numbers: the rules of OTLP's own JSON, which are not protobuf's.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from p2pnet.model.jobs import RunFile
from p2pnet.present.spans import ArtifactSpan, AttributeValue, resource_of

SCOPE = "p2pnet"
SPANS_PER_LINE = 1_000  # some 1 MB
ERROR = 2  # as OTLP numbers the codes of a status


def otlp_lines(spans: Iterable[ArtifactSpan], run: RunFile) -> Iterator[str]:
    """Lines with their ends; each stands for itself."""
    some: list[ArtifactSpan] = []
    for span in spans:
        some.append(span)
        if len(some) == SPANS_PER_LINE:
            yield _line(some, run)
            some = []
    if some:
        yield _line(some, run)


def _line(spans: Sequence[ArtifactSpan], run: RunFile) -> str:
    by_node = groupby(sorted(spans, key=lambda span: span.node), key=lambda span: span.node)
    resources = [
        {
            "resource": {"attributes": _attributes(resource_of(node, run))},
            "scopeSpans": [
                {"scope": {"name": SCOPE, "version": run.version}, "spans": [_span(span) for span in theirs]}
            ],
        }
        for node, theirs in by_node
    ]
    return json.dumps({"resourceSpans": resources}, separators=(",", ":"), ensure_ascii=False) + "\n"


def _span(span: ArtifactSpan) -> dict[str, Any]:
    written: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.parent_id:
        written["parentSpanId"] = span.parent_id
    written |= {
        "name": span.name, "kind": int(span.kind), "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns), "attributes": _attributes(span.attributes),
    }  # fmt: skip
    if span.events:
        written["events"] = [
            {"name": one.name, "timeUnixNano": str(one.t_ns), "attributes": _attributes(one.attributes)}
            for one in span.events
        ]
    if span.error:
        written["status"] = {"code": ERROR, "message": span.error}
    return written


def _attributes(attributes: dict[str, AttributeValue]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
