"""`--otel` and `--otlp`: an artifact's way as OpenTelemetry spans, in a file or at a collector over HTTP."""

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from p2pnet.cli import otlp, run_spans
from p2pnet.model.control import LinkSample, Sample
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.model.report import Report
from p2pnet.model.time_series import NodeSample
from p2pnet.present import trace_id_of
from p2pnet.store import State

ROOT = Path(__file__).parents[2]
NODES = ["node-1", "node-2", "node-3"]
ARTIFACTS = ["01" * 32, "02" * 32]


@dataclass
class Collector:
    """A collector's HTTP side, on a port of its own."""

    url: str = ""
    requests: list[tuple[dict[str, str], ExportTraceServiceRequest]] = field(default_factory=list)
    status: int = 200
    refuses: int = 0

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), ExportTraceServiceRequest.FromString(await request.read())))
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = self.refuses
        answer.partial_success.error_message = "too many" if self.refuses else ""
        return web.Response(status=self.status, body=answer.SerializeToString(), content_type="application/x-protobuf")

    def spans(self) -> list[tuple[str, str]]:
        """Instance and name of each span, as they came."""
        return [
            (next(one.value.string_value for one in some.resource.attributes if one.key == "service.instance.id"), span.name)
            for _, request in self.requests
            for some in request.resource_spans
            for scope in some.scope_spans
            for span in scope.spans
        ]  # fmt: skip


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("NO_PROXY", "*")
    made, loop, up = Collector(), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/traces", made.take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def serve() -> None:
        runner = loop.run_until_complete(start())
        up.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    up.wait()
    yield made
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def kept(state: State, report: Report) -> Report:
    """A run on disk with two artifacts, each of which went from node-1 over node-2 to node-3."""
    done = msgspec.structs.replace(report, artifacts=2, artifact_ids=ARTIFACTS, slowest=ARTIFACTS[1])
    run = RunFile(
        run=report.run, subnet="demo", target="local", seed=7, request=RunRequest([]), created_at=1.0, nodes=NODES,
        version="9.8.7", state="finished", artifacts=ARTIFACTS, names=["a.jpg", "b.jpg"], unix_offset_s=100.0,
    )  # fmt: skip
    events = [
        Collected(node, "i", place, place * 1_000_000, kind, "blob", artifact, peer, place)
        for artifact in ARTIFACTS
        for place, (node, kind, peer) in enumerate(
            [
                ("node-1", EventKind.PUBLISHED, ""), ("node-2", EventKind.VALIDATED, "node-1"),
                ("node-3", EventKind.VALIDATED, "node-2"),
            ]
        )
    ]  # fmt: skip
    folder = state.run(report.run)
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(msgspec.json.encode(run))
    (folder / "summary.json").write_bytes(msgspec.json.encode(done))
    (folder / "events.ndjson").write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    return done


ONE = [
    ("node-1", "publish node-1"),
    ("node-2", "receive node-2"),
    ("node-2", "relay node-2"),
    ("node-3", "receive node-3"),
]


def test_a_collector_gets_the_spans_of_one_artifact(
    p2pnet: Callable[..., Any], kept: Report, collector: Collector
) -> None:
    ended = p2pnet("trace", "demo", ARTIFACTS[0], "--otlp", collector.url, "-o", "json")

    assert ended.code == 0, ended.err
    assert sorted(collector.spans()) == ONE
    assert json.loads(ended.out)["artifact"] == ARTIFACTS[0]
    assert f"note: sent 4 spans to {collector.url}\n" in ended.err
    assert f"note: its trace id is {trace_id_of(kept.run, ARTIFACTS[0])}\n" in ended.err
    [(headers, request)] = collector.requests
    assert headers["Content-Type"] == "application/x-protobuf"
    span = request.resource_spans[0].scope_spans[0].spans[0]
    assert span.trace_id.hex() == trace_id_of(kept.run, ARTIFACTS[0])
    assert request.resource_spans[0].scope_spans[0].scope.name == "p2pnet"


def test_a_hop_has_what_both_ends_did_where_the_run_was_sampled(
    p2pnet: Callable[..., Any], kept: Report, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [LinkSample("node-3", 1, 1, 0, 0, 0, 1.0, 0, 4_096)]
    samples = [
        NodeSample("node-2", 900_000_000, Sample(0, 1.0, 0.25, 0.5, handlers=3, links=links)),
        NodeSample("node-3", 9_000_000_000, Sample(0, 1.0, 9.0, 0.5)),
    ]
    (state.run(kept.run) / "samples.ndjson").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in samples))

    document = json.loads(p2pnet("trace", "demo", ARTIFACTS[0], "-o", "json").out)
    line = json.loads(p2pnet("trace", "demo", ARTIFACTS[0], "--otel", "-").out)
    whole = p2pnet("report", "demo", "--otel", "-").out
    monkeypatch.setattr(run_spans, "LINKS_HELD_MAX", 1)
    unsampled = p2pnet("report", "demo", "--otel", "-").out

    load = {"cpu": 0.5, "lag_ms": 250.0, "queued_bytes": 4_096, "handlers": 3}
    assert [one["ends"] for one in document["receipts"]] == [
        {"sender": None, "receiver": load | {"queued_bytes": 0}}, {"sender": load, "receiver": None},
    ]  # fmt: skip
    told = {
        one["key"]: one["value"]
        for some in line["resourceSpans"]
        for scope in some["scopeSpans"]
        for span in scope["spans"]
        if span["name"] == "receive node-3"
        for one in span["attributes"]
    }
    assert told["p2pnet.sender.queued_bytes"] == {"intValue": "4096"}
    assert told["p2pnet.sender.cpu"] == {"doubleValue": 0.5}
    assert "p2pnet.receiver.cpu" not in told
    assert (whole.count("p2pnet.sender.cpu"), unsampled.count("p2pnet.sender.cpu")) == (2, 0)


def test_a_report_sends_those_of_all_artifacts_some_at_a_time_with_what_the_environment_adds(
    p2pnet: Callable[..., Any], kept: Report, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "SPANS_PER_REQUEST", 3)
    monkeypatch.setattr(run_spans, "EVENTS_HELD_MAX", 1)  # one artifact at a time
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=us")

    ended = p2pnet("report", "demo", "--otlp", f"{collector.url}/v1/traces")

    assert ended.code == 0, ended.err
    assert sorted(collector.spans()) == sorted(ONE * 2)
    assert [headers["x-tenant"] for headers, _ in collector.requests] == ["us"] * 3


def test_a_file_has_the_same_spans_and_a_dash_is_stdout(
    p2pnet: Callable[..., Any], kept: Report, tmp_path: Path
) -> None:
    path = tmp_path / "spans.jsonl"
    ended = p2pnet("report", "demo", "--otel", str(path))
    assert ended.code == 0, ended.err
    assert f"note: wrote {path}\n" in ended.err
    [line] = path.read_text().splitlines()
    names = [
        span["name"]
        for some in json.loads(line)["resourceSpans"]
        for scope in some["scopeSpans"]
        for span in scope["spans"]
    ]
    assert sorted(names) == sorted([name for _, name in ONE] * 2)
    alone = p2pnet("trace", "demo", ARTIFACTS[1], "--otel", "-")
    assert len(json.loads(alone.out)["resourceSpans"]) == 3


@pytest.mark.parametrize(
    ("status", "refuses", "said"),
    [(401, 0, "it answered 401 Unauthorized"), (200, 2, "it refused 2 spans: too many"), (0, 0, "Connection refused")],
)
def test_a_collector_that_takes_none_is_said_with_its_reason(
    p2pnet: Callable[..., Any], kept: Report, collector: Collector, monkeypatch: pytest.MonkeyPatch, status: int,
    refuses: int, said: str,
) -> None:  # fmt: skip
    collector.status, collector.refuses = status, refuses
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")  # no waiting for one that is dead
    url = collector.url if status else "http://127.0.0.1:9"

    ended = p2pnet("report", "demo", "--otlp", url)

    assert ended.code == 3
    assert f"error: the collector took no spans: {said}" in ended.err
    assert f"where: --otlp {url}/v1/traces" in ended.err
    assert "Traceback" not in ended.err
    assert "r-20261121" in ended.out  # the report all the same


def test_settings_that_the_exporter_refuses_are_2(
    p2pnet: Callable[..., Any], kept: Report, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise ValueError("invalid literal for int(): '0.5'")

    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", refuse)
    ended = p2pnet("report", "demo", "--otlp", collector.url)
    assert ended.code == 2
    assert "error: the exporter refuses its settings: invalid literal for int(): '0.5'" in ended.err


def test_an_exporter_that_raises_where_others_answer_is_no_bug_of_ours(
    p2pnet: Callable[..., Any], kept: Report, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("Connection refused")

    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter.export", fail)
    ended = p2pnet("report", "demo", "--otlp", collector.url)
    assert ended.code == 3
    assert "error: the collector took no spans: Connection refused" in ended.err


@pytest.mark.parametrize("verb", ["trace", "report"])
@pytest.mark.parametrize("url", ["localhost:4318", "grpc://collector:4317", "http://", "http://a:b", "http://[::1"])
def test_what_is_no_url_is_refused_before_anything_is_done(p2pnet: Callable[..., Any], verb: str, url: str) -> None:
    ended = p2pnet(verb, "nobody", "--otlp", url)
    assert ended.code == 2
    assert "is no URL of a collector" in ended.err


def test_without_the_extra_it_says_what_to_install_and_files_need_none(
    p2pnet: Callable[..., Any], kept: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "EXTRA", ("opentelemetry_that_is_not_here.sdk",))
    ended = p2pnet("trace", "demo", ARTIFACTS[0], "--otlp", "http://localhost:4318")
    assert (ended.code, ended.out) == (2, "")
    assert "pip install 'p2pnet[otel]'" in ended.err
    assert p2pnet("trace", "demo", ARTIFACTS[0], "--otel", str(tmp_path / "spans.jsonl")).code == 0


def test_spans_are_for_a_run_that_is_waited_for_and_kept(p2pnet: Callable[..., Any]) -> None:
    ended = p2pnet("inject", "demo", "--no-wait", "--otlp", "http://localhost:4318")
    assert ended.code == 2
    assert "--no-wait ends before there is a report: --otlp" in ended.err
    ended = p2pnet("sim", "-f", "examples/subnet.yaml", "--trials", "2", "--otlp", "http://localhost:4318")
    assert ended.code == 2
    assert "--otlp is for one run" in ended.err


def test_opentelemetry_is_imported_in_one_module_alone() -> None:
    found = subprocess.run(
        ["grep", "-rlE", r"^\s*(import|from) (opentelemetry|requests|google)", "node", "operator", "cli", "--include=*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["cli/p2pnet/cli/otlp.py"]
