"""Documents drawn whole, at two widths, and as JSON, YAML and NDJSON. The drawings stand in `golden/`."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.samples import broken_row, sample_faults, sample_findings, true_rows

from p2pnet.cli.documents import (
    Check,
    Document,
    Examination,
    FaultLine,
    Faults,
    Fetched,
    Installation,
    JsonSchema,
    KeptRun,
    KeptRuns,
    KeptWithin,
    LinkLine,
    LivePage,
    LoggedLine,
    LogLines,
    Objects,
    Ping,
    Pings,
    Removal,
    RunLinks,
    RunTicket,
    SubnetLine,
    SubnetList,
    Trace,
    TracedEnds,
    TracedLoad,
    TracedPhases,
    TracedReceipt,
    WithdrawnArtifact,
)
from p2pnet.cli.render import Output, render, text
from p2pnet.measure.trials import merge
from p2pnet.model.bundle import BundledFile, BundleManifest, LeftOut
from p2pnet.model.comparison import Comparison, GateResult, Side
from p2pnet.model.replay import (
    DigestBeside,
    FigureBeside,
    MissedReceipt,
    Replay,
    ReplayedExpectation,
    ReplayedMisses,
    ReplayedRun,
)
from p2pnet.model.report import (
    ExpectationResult,
    InjectionLine,
    Latency,
    Load,
    NodeReceipts,
    Reach,
    Report,
    RunSummary,
    Status,
    Throughput,
)
from p2pnet.model.scenario_run import ScenarioRun, ScenarioStep, StepExpectation, TrialLine
from p2pnet.model.shrunk import ScenarioSize, ShrunkScenario
from p2pnet.model.trials import TrialFailure, TrialsReport

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 200)


def trace_of(nodes: int) -> Trace:
    """A publisher, three nodes next to it, everybody else behind the first of these."""
    names = [f"node-{index}" for index in range(nodes)]
    receipts = [
        TracedReceipt(
            node=name,
            sender="node-0" if index <= 3 else "node-1",
            hop=1 if index <= 3 else 2,
            latency_ms=20.0 + index if index <= 3 else 40.0 + 2 * index,
            edge_ms=20.0 + index if index <= 3 else 19.0 + 2 * index,
            critical=name in ("node-1", names[-2]),
            duplicates=2 if index == 2 else 0,
        )
        for index, name in enumerate(names[1:-1], start=1)
    ]
    return Trace(
        subnet="demo", target="local", run="r-1", artifact="3f" * 32, name="photo.jpg", size=65536, publisher="node-0",
        nodes=nodes, reached=nodes - 2, receipts=receipts, critical_path=["node-0", "node-1", names[-2]],
        unreached=[names[-1]], duplicates=2, duplicate_bytes=131072, hops_max=2,
        latency_ms_max=receipts[-1].latency_ms, state="finished",
    )  # fmt: skip


def fetched_trace() -> Trace:
    """Two hops whose time is on record, one of them begun before its sender had everything; one pushed; one not on record."""
    phases = [
        TracedPhases(announce_ms=20.0, wait_ms=5.0, request_ms=40.0, transfer_ms=30.0, validate_ms=5.0),
        TracedPhases(announce_ms=0.0, wait_ms=0.0, request_ms=60.0, transfer_ms=20.0, validate_ms=0.0),
        TracedPhases(announce_ms=0.0, wait_ms=0.0, request_ms=0.0, transfer_ms=45.0, validate_ms=15.0),
        None,
    ]
    load = TracedLoad(cpu=0.875, lag_ms=12.5, queued_bytes=300_000, handlers=3)
    edges = [("node-0", 100.0, 100.0), ("node-1", 140.0, 40.0), ("node-0", 60.0, 60.0), ("node-3", 75.0, 15.0)]
    receipts = [
        TracedReceipt(
            node=f"node-{number}", sender=sender, hop=1, latency_ms=latency, edge_ms=edge, critical=number < 3,
            phases=split,
            ends=TracedEnds(sender=load, receiver=None) if number > 1 else TracedEnds(sender=None, receiver=load),
        )
        for number, ((sender, latency, edge), split) in enumerate(zip(edges, phases, strict=True), start=1)
    ]  # fmt: skip
    return msgspec.structs.replace(
        trace_of(6), receipts=receipts, critical_path=["node-0", "node-1", "node-2"], unreached=[], latency_ms_max=140.0,
        waterfall=True,
    )  # fmt: skip


def links_of_a_run() -> RunLinks:
    line = LinkLine(
        sender="a-0", to="a-1", receipts=3, bytes=4096, wait_ms_mean=20.0, wait_ms_max=31.5, why="this way alone"
    )
    other = LinkLine(sender="a-1", to="a-0", receipts=9, bytes=1 << 20, wait_ms_mean=None, wait_ms_max=None)
    return RunLinks(run="r-1", subnet="demo", target="local", verdict="pass", ways=2, links=[line, other])


def faults_document() -> Faults:
    waiting = FaultLine(
        name="storm", what="churn 6/m of *, each away for 5 s", origin="spec", state="waiting", nodes=[],
        since="2026-11-21T20:14:00Z",
    )  # fmt: skip
    failed = FaultLine(
        name="stop-2", what="pause node-12", origin="lease", state="failed", nodes=["node-12"],
        since="2026-11-21T20:13:00Z", detail="the agent of demo-node-2 does not answer",
    )  # fmt: skip
    return Faults(subnet="demo", faults=[*map(FaultLine.of, sample_faults()), waiting, failed])


def scenario_run(**more: Any) -> ScenarioRun:
    held = StepExpectation(expr="p95 <= 800ms", value=412.0, ok=True, name="before", step="before")
    missed = StepExpectation(
        expr="after.p99 <= 1.5 * before.p99", value=1.9, ok=False, name="after", step="expect-1", detail="2.1 s against 1.1 s"
    )  # fmt: skip
    steps = [
        ScenarioStep(
            name="before", kind="inject", number="1", what="64 KiB from random", state="done", ok=True, run="r-1", begun_s=0.0,
            seconds=2.5, detail="reach 100%", expectations=[held],
        ),
        ScenarioStep(
            name="expect-1", kind="expect", number="2", what=missed.expr, state="done", ok=False, begun_s=2.5, seconds=0.0,
            expectations=[missed],
        ),
    ]  # fmt: skip
    known: dict[str, Any] = {
        "scenario": "story", "subnet": "story", "target": "local", "seed": 42, "shown_seed": 42, "nodes": 6, "steps": steps,
        "expectations": [held, missed], "verdict": "fail", "rerun": "p2pnet run story.yaml --seed 42",
        "trials": [TrialLine(seed=42, verdict="fail", missed=[missed.expr], runs=["r-1"])],
    }  # fmt: skip
    return ScenarioRun(**{**known, **more})


SIZE = ScenarioSize(nodes=3, steps=2, faults=1, artifacts=1, bytes=1, lines=20)


def replay_document() -> Replay:
    missed = MissedReceipt("3f" * 32, "a\x1b[2J", "node-1")
    one = ReplayedExpectation(
        expr="p95 <= 1s", recorded_value=2.0, recorded_ok=False, replayed_value=None, replayed_ok=True, same=False
    )
    run = ReplayedRun(
        run="r-1", step="dark", replay="r-2", artifacts=3, republished=2, recorded_verdict="fail", replayed_verdict="pass",
        figures=[FigureBeside(metric="p50", recorded=40.0, replayed=50.0, gap=10.0)], expectations=[one],
        misses=ReplayedMisses(recorded=2, replayed=1, both=1, only_recorded=[missed]),
    )  # fmt: skip
    return Replay(
        bundle="b.tar.gz", subnet="demo", scenario="story", target="local", version="1", seed=7, nodes=3,
        verdict="not reproduced", recorded_verdict="fail", replayed_verdict="pass", why=["it differs"], runs=[run],
        digest=DigestBeside(recorded="3f", replayed="5f"), not_reproduced=["QUIC itself"],
    )  # fmt: skip


def trials_of(report: Report) -> TrialsReport:
    """Three trials, of which one missed a receipt, and one that gave no report."""
    missed = [ExpectationResult("p95 <= 800ms", None, False), ExpectationResult("reach >= 99%", 98.9, False)]
    reports = [
        msgspec.structs.replace(
            report, target="sim", seed=seed, digest=f"{seed:02x}" * 32,
            latency_ms=Latency(140.0 + seed, 260.0, 312.0, 402.0, 455.0),
        )
        for seed in (7, 8)
    ]  # fmt: skip
    late = msgspec.structs.replace(
        reports[0], seed=9, verdict="fail", expectations=missed, reach=Reach(380, 376, 376 / 380),
        latency_ms=Latency(141.0, 260.0, 312.0, None, None),
    )  # fmt: skip
    failed = [TrialFailure(10, "its process was killed (SIGKILL)")]
    return merge([*reports, late], failed, asked=4, seed=7, subnet="demo")


@pytest.fixture
def drawings(report: Report, make_status: Callable[..., Status]) -> dict[str, Document]:
    late = Latency(141.2, 1260.0, None, None, None)
    failed = msgspec.structs.replace(
        report, verdict="fail", reach=Reach(380, 378, 378 / 380), latency_ms=late, unknown=1, shared=True,
        per_node=[*report.per_node, NodeReceipts("node-5", 18, 20, 141.0, 455.0, "node-3")],
        expectations=[ExpectationResult("p95 <= 800ms", None, False), ExpectationResult("reach >= 99%", 99.47, True)],
        ignored=["spec.ttl: is not implemented yet (target local)"],
        load=Load(publisher="all", within_s=2.5, seed=7, client="chat", count=20), notes=["the clocks were compared late"],
    )  # fmt: skip
    nothing = msgspec.structs.replace(
        report, verdict="invalid", reach=Reach(0, 0, None), latency_ms=Latency(None, None, None, None, None), cdf_ms=[],
        per_node=[], artifact_ids=[], expectations=[], slowest="", throughput=Throughput(), duplicates_per_delivery=None,
        invalid=["nothing was measured", "the lab of demo died while the run was open"],
    )  # fmt: skip
    return {
        "report-pass": report,
        "report-fail": failed,
        "report-invalid": nothing,
        "report-sim": msgspec.structs.replace(
            report, target="sim", digest="5f" * 32, notes=["messages pass the network model of netem"]
        ),
        "trials": trials_of(report),
        "report-network": msgspec.structs.replace(
            report, network=true_rows(), faults=sample_faults(), findings=sample_findings(), unknown=1
        ),
        "report-not-as-asked": msgspec.structs.replace(
            report,
            verdict="invalid",
            network=[*true_rows(), broken_row()],
            expectations=[],
            invalid=["the network was not as asked: rules[0] + fault cut-eu, region=eu to region=us"],
        ),
        "status-network": msgspec.structs.replace(
            make_status(5, connected=4),
            network=true_rows(),
            faults=sample_faults(),
            network_notes=["rules[0] and rules[2] are equally specific and differ: node-1 to node-7 and 3 more links"],
        ),
        "faults": faults_document(),
        "status-small": make_status(5, connected=4),
        "status-large": make_status(48, connected=30),
        "trace-small": trace_of(7),
        "trace-large": trace_of(60),
        "trace-waterfall": fetched_trace(),
        "links": links_of_a_run(),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "name",
    [
        "report-pass",
        "report-fail",
        "report-invalid",
        "report-sim",
        "trials",
        "report-network",
        "report-not-as-asked",
        "status-small",
        "status-large",
        "status-network",
        "trace-small",
        "trace-large",
        "trace-waterfall",
        "links",
        "faults",
    ],
)
def test_a_drawing_is_as_it_stands_in_golden(drawings: dict[str, Document], now: float, name: str, width: int) -> None:
    drawn = render(drawings[name], Output.TABLE, width=width, now=now)

    golden = GOLDEN / f"{name}-{width}.txt"
    if os.environ.get("P2PNET_REDRAW"):  # after a change of drawing: redraw, then read the difference
        golden.write_text(drawn)
    assert drawn == golden.read_text()
    assert all(len(line) <= width for line in drawn.splitlines())


def every_document(drawings: dict[str, Document]) -> list[Document]:
    return [
        *drawings.values(),
        Comparison(
            base=Side(given="a.yaml", kind="document"),
            head=Side(given="b.yaml", kind="document"),
            target="sim",
            verdict="inconclusive",
            confidence=0.95,
            trials=3,
            asked=20,
            gates=[GateResult(gate="p99:+10%", metric="p99", unit="relative", limit=0.1, verdict="inconclusive")],
        ),
        SubnetList(
            subnets=[
                SubnetLine(
                    name="demo",
                    target="local",
                    state="up",
                    desired=3,
                    connected=3,
                    links_expected=3,
                    links_up=3,
                    up_since=0.0,
                ),
                SubnetLine(name="old", target="local", state="dead"),
            ]
        ),
        LivePage(subnet="demo", target="local", url="http://127.0.0.1:4242/?token=abc"),
        RunTicket(run="r-1", subnet="demo", target="local", state="queued", artifacts=1),
        KeptRuns(
            runs=[
                KeptRun(
                    run="r-1",
                    subnet="demo",
                    target="local",
                    state="finished",
                    verdict="pass",
                    label="base\x1b[2J",
                    nodes=3,
                    artifacts=1,
                    created_at=0.0,
                    bytes=9,
                )
            ],
            matched=1,
            kept=1,
            kept_bytes=9,
            within=KeptWithin(runs=500, bytes=5 << 30),
            removed=["r-0"],
            freed_bytes=7,
        ),
        scenario_run(),
        BundleManifest(
            version="1",
            subnet="demo",
            target="local",
            runs=["r-1"],
            file="demo.tar.gz",
            size=9,
            files=[BundledFile(name="runs/r-1/run.json", size=3, sha256="3f" * 32, redacted=1, cut="its end")],
            left_out=[LeftOut("keys", "never packed")],
        ),
        replay_document(),
        links_of_a_run(),
        ShrunkScenario(
            scenario="story",
            file="story.yaml",
            seed=3,
            before=SIZE,
            after=SIZE,
            trials=9,
            seconds=1.5,
            state="bounded",
            why="after 9 trials",
            verified=True,
            scenario_file="small/scenario.yaml",
            subnet_file="small/subnet.yaml",
            expectation=StepExpectation(expr="p95 <= 1s", value=None, ok=False, name="a\x1b[2J", step="a"),
            rerun="p2pnet run x",
            scenario_document={"kind": "Scenario"},
            subnet_document={"kind": "Subnet", "spec": {"x": "\x1b[2J"}},
        ),
        Fetched(subnet="demo", artifact="3f" * 32, name="photo.jpg", size=3, node="node-1", file="photo.jpg"),
        WithdrawnArtifact(subnet="demo", artifact="3f" * 32, held=1, nodes=["node-1"]),
        Removal(removed=["demo"], absent=["other"]),
        Faults(subnet="demo", faults=[], cleared=["loss-1"]),
        LogLines(subnet="demo", lines=[LoggedLine(time="2026-11-21T20:13:20.000Z", node="node-1", line="ready")]),
        Examination(checks=[Check(name="memory", result="warning", found="1 GiB", next_step="buy more")]),
        Pings(
            trust="anyone", pings=[Ping(address="a:1", answered=True), Ping(address="b:1", answered=False, error="no")]
        ),
        Installation(context="kind-p2pnet", applied=["Namespace p2pnet-system"], absent=["ServiceAccount a/b"]),
        Objects([{"apiVersion": "v1", "kind": "Pod"}, {"apiVersion": "v1", "kind": "Service"}]),
        JsonSchema("report", {"type": "object"}),
    ]


@pytest.mark.parametrize("output", list(Output))
def test_every_document_has_every_form(drawings: dict[str, Document], now: float, output: Output) -> None:
    documents = every_document(drawings)

    assert {type(document) for document in documents} == set(get_args(Document))
    for document in documents:
        assert render(document, output, now=now, ascii_only=True).isascii()
        assert render(document, output, now=now, colour=True).endswith("\n")


def test_a_status_names_what_is_ignored_and_counts_what_has_no_room(make_status: Callable[..., Status]) -> None:
    status = msgspec.structs.replace(make_status(3), ignored=[f"spec.faults[{index}]: why" for index in range(8)])

    lines = render(status, Output.TABLE).splitlines()

    assert "ignored  spec.faults[0]: why" in lines
    assert "         and 3 more (see -o json)" in lines
    assert json.loads(render(status, Output.JSON))["ignored"] == status.ignored


def test_a_report_of_an_older_p2pnet_is_drawn_without_a_load(report: Report) -> None:
    old = msgspec.structs.replace(report, load=None, throughput=Throughput(), slowest="", client="chat")

    drawn = render(old, Output.TABLE)

    assert "from 2 nodes (seed 7)   client chat" in drawn
    assert f"artifact {report.artifact_ids[0]}" in drawn
    assert not [line for line in drawn.splitlines() if line.startswith(("load", "rate"))]


def test_every_form_of_a_report_says_load_throughput_and_what_was_ignored(drawings: dict[str, Document]) -> None:
    for output in (Output.JSON, Output.YAML, Output.NDJSON):
        value = yaml.safe_load(render(drawings["report-fail"], output))
        assert value["load"] == {
            "rate_per_s": None, "stages": [], "from": "all", "within_s": 2.5, "seed": 7, "client": "chat", "count": 20,
            "published_per_s": None,
        }  # fmt: skip
        assert value["throughput"] == {"payload_bytes_per_s": 10_560_000.0, "artifacts_per_s": 8.48}
        assert value["ignored"] == ["spec.ttl: is not implemented yet (target local)"]


def test_json_yaml_and_ndjson_say_the_same(report: Report) -> None:
    endless = msgspec.structs.replace(report, latency_ms=Latency(1.0, 2.0, float("inf"), None, None))

    value = json.loads(render(endless, Output.JSON))

    assert value["schema"] == "p2pnet.io/report/v1"
    assert value["latency_ms"]["p95"] is None  # a miss is infinite, and printed null
    assert yaml.safe_load(render(endless, Output.YAML)) == value
    lines = render(endless, Output.NDJSON).splitlines()
    assert [json.loads(line) for line in lines] == [value]


def test_a_list_is_one_line_per_item_in_ndjson() -> None:
    listing = SubnetList(
        subnets=[SubnetLine(name="a", target="local", state="up"), SubnetLine(name="b", target="local", state="dead")]
    )

    assert [json.loads(line)["name"] for line in render(listing, Output.NDJSON).splitlines()] == ["a", "b"]


def test_a_name_from_the_network_cannot_steer_the_terminal() -> None:
    hostile = msgspec.structs.replace(trace_of(4), name="\x1b]0;mine\x07\x1b[2Jphoto\r\n.jpg")

    for colour in (False, True):
        drawn = render(hostile, Output.TABLE, colour=colour)
        assert "\x1b]" not in drawn
        assert "\x1b[2J" not in drawn
        assert "\r" not in drawn


def test_an_orphan_hangs_below_the_root_and_says_from_whom() -> None:
    orphan = TracedReceipt(node="node-9", sender="node-8", hop=2, latency_ms=9.0, edge_ms=None, orphan=True)
    trace = msgspec.structs.replace(trace_of(4), receipts=[orphan])

    assert "node-9    = 9.0 ms  from node-8" in render(trace, Output.TABLE)


@pytest.mark.parametrize(
    ("ratio", "shown"), [(1.0, "100%"), (0.99999, "99.9%"), (0.5, "50.0%"), (0.00001, "0.1%"), (0.0, "0%"), (None, "-")]
)
def test_only_all_is_100_percent_and_only_nothing_0(ratio: float | None, shown: str) -> None:
    assert text.percent(ratio) == shown


def test_a_sparkline_rises_from_the_first_receipt_to_the_last() -> None:
    line = text.sparkline([float(value) for value in range(21)], 24, ascii_only=False)

    assert len(line) == 24
    assert line[-1] == "█"
    assert list(line) == sorted(line)
    assert text.sparkline([], 24, ascii_only=False) == ""
    assert text.sparkline([3.0, 3.0], 4, ascii_only=True) == "####"


def test_parts_of_a_line_are_broken_between_and_never_within(report: Any) -> None:
    lines = text.flow("label", ["a" * 30, "b" * 30, "", "c" * 30], 80)

    assert [line.plain for line in lines] == [f"label    {'a' * 30}   {'b' * 30}", f"         {'c' * 30}"]


@pytest.mark.parametrize("height", [5, 8, 10, 15, 24, 40])
@pytest.mark.parametrize("nodes", [3, 12, 30, 100])
def test_a_watched_status_fits_its_window_and_keeps_the_counts(
    make_status: Callable[..., Status], nodes: int, height: int
) -> None:
    status = make_status(nodes, connected=nodes - 2)
    lines = render(status, Output.TABLE, width=80, height=height).splitlines()

    assert len(lines) < height
    experiments = [InjectionLine(f"nightly-{index}", "Waiting", "SubnetNotReady", created_at=1.0) for index in range(9)]
    busy = msgspec.structs.replace(status, injections=experiments)
    more = render(busy, Output.TABLE, width=80, height=height).splitlines()
    assert len(more) < height
    assert ("nightly-0" in "\n".join(more)) == any("INJECTION" in line for line in more)
    assert lines[0].startswith("subnet   demo")
    rows = sum(line.startswith("node-") for line in lines)
    if nodes <= 30:
        assert rows >= nodes or any(" more" in line for line in lines)
    if height >= 15 and nodes <= 30:
        shown = " ".join(lines)
        assert all(f"node-{index} " in shown for index in (nodes - 2, nodes - 1)), "the odd ones come first"


@pytest.mark.parametrize("height", [8, 10, 15, 24, 40])
@pytest.mark.parametrize("faults", [1, 3, 64])
def test_a_watched_status_under_faults_still_shows_the_odd_nodes(
    make_status: Callable[..., Status], faults: int, height: int
) -> None:
    status = msgspec.structs.replace(
        make_status(12, connected=10), network=[*true_rows(), broken_row()], network_notes=["long " * 40] * 9,
        faults=[msgspec.structs.replace(sample_faults()[2], name=f"loss-{index}", what="w" * 90) for index in range(faults)],
    )  # fmt: skip

    lines = render(status, Output.TABLE, width=80, height=height, now=1_795_292_000.0).splitlines()

    assert len(lines) < height
    assert all(len(line) <= 80 for line in lines)
    shown = " ".join(lines)
    if height >= 10:
        assert "not as asked: 1 of 4 rules" in shown
        assert "loss-0  www" in shown
        assert "50 s left" in shown
    if height >= 15:
        assert "node-10 " in shown
        assert "node-11 " in shown
    if 10 <= height <= 24 and faults > 1:
        assert f"and {faults - 1} more" in shown


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_no_line_about_network_and_faults_is_wider_than_its_window(
    drawings: dict[str, Document], now: float, width: int
) -> None:
    for name in ("report-network", "report-not-as-asked", "status-network", "faults"):
        for colour in (False, True):
            lines = render(drawings[name], Output.TABLE, width=width, now=now, colour=colour).splitlines()
            assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= width for line in lines), name


def test_a_name_of_a_fault_cannot_steer_the_terminal(report: Report, make_status: Callable[..., Status]) -> None:
    nasty = "\x1b[2J\x1b]0;mine\x07"
    fault = msgspec.structs.replace(sample_faults()[2], name=nasty, what=nasty, nodes=[nasty], detail=nasty)
    row = msgspec.structs.replace(broken_row(), rule=nasty, source=nasty, problem=nasty)

    for document in (
        msgspec.structs.replace(report, network=[row], faults=[fault]),
        msgspec.structs.replace(make_status(3), network=[row], faults=[fault], network_notes=[nasty]),
        Faults(subnet="demo", faults=[FaultLine.of(fault)], cleared=[nasty]),
    ):
        assert "\x1b" not in render(document, Output.TABLE)


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80])
def test_a_narrow_window_leaves_columns_out_and_breaks_no_words(make_status: Callable[..., Status], width: int) -> None:
    lines = render(make_status(3), Output.TABLE, width=width).splitlines()

    rows = [line for line in lines if line.startswith("node-")]
    assert len(rows) == 3
    assert all(" connected " in f"{row} " for row in rows)
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_run_and_its_label_stand_whole_in_a_narrow_window(make_status: Callable[..., Status], width: int) -> None:
    run = "r-20261130-015126-2b"
    line = RunSummary(
        run=run, state="finished (shared)", artifacts=12, verdict="invalid", reach=0.5, p95_ms=75.3, started_at=0.0
    )
    status = msgspec.structs.replace(make_status(3), runs=[line])
    kept = KeptRuns(
        runs=[
            KeptRun(run=run, subnet=f"net-{at}", target="sim", state="finished", verdict="pass", label="failing/two", nodes=3,
                    artifacts=1, created_at=0.0, bytes=4520, shared=True)
            for at in range(2)
        ],
        matched=2, kept=2, kept_bytes=9, within=KeptWithin(runs=500, bytes=5 << 30),
    )  # fmt: skip
    for document in (status, kept):
        lines = render(document, Output.TABLE, width=width, now=100.0).splitlines()
        assert all(len(line) <= width for line in lines)
        assert any(line.startswith(f"{run} ") for line in lines)
    assert ("failing/two" in render(kept, Output.TABLE, width=width, now=100.0)) == (width >= 80)
