"""Floor 2, renderings of a report: HTML, Markdown, JUnit, receipts as CSV, artifacts' ways as spans. Report in, text out.

Pure: no clock, no file. Called by lab (the files of a run) and cli (`report --html --md --junit --csv --otel`, `trace --otel`).
"""

from p2pnet.present.full_page import to_full_html
from p2pnet.present.junit import to_junit
from p2pnet.present.live_page import LiveSubnet, live_policy, to_live_html
from p2pnet.present.live_view import LiveSums, live_parts, live_view
from p2pnet.present.markdown import to_markdown
from p2pnet.present.otlp_json import otlp_lines
from p2pnet.present.page import to_html
from p2pnet.present.receipts import csv_head, csv_rows
from p2pnet.present.slow import SlowHop, longest_waits, slowest_receipts
from p2pnet.present.spans import ArtifactSpan, SpanKind, artifact_spans, resource_of, trace_id_of
from p2pnet.present.view import DrawnRun, Surroundings

__all__ = [
    "ArtifactSpan",
    "DrawnRun",
    "LiveSubnet",
    "LiveSums",
    "SlowHop",
    "SpanKind",
    "Surroundings",
    "artifact_spans",
    "csv_head",
    "csv_rows",
    "live_parts",
    "live_policy",
    "live_view",
    "longest_waits",
    "otlp_lines",
    "resource_of",
    "slowest_receipts",
    "to_full_html",
    "to_html",
    "to_junit",
    "to_live_html",
    "to_markdown",
    "trace_id_of",
]
