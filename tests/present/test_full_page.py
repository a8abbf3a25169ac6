"""The rich page: whole without its scripts, harmless whatever it is told, bounded for ten thousand nodes, asking nothing."""

import html
import json
import re

import msgspec
import pytest

from p2pnet.measure.propagation import Propagation
from p2pnet.measure.receipts import ReceiptRow
from p2pnet.measure.sampled import SampledNodes
from p2pnet.model.control import LinkSample, Sample
from p2pnet.model.report import FaultStatus
from p2pnet.model.time_series import NodeSample
from p2pnet.present import DrawnRun, Surroundings, to_full_html
from p2pnet.present.scripted import SCRIPTS, digest
from p2pnet.present.view import BLOCKS_MAX, LINKS_DRAWN_MAX, SERIES_NODES_MAX, blocks, view_of

HARMFUL = "</script><script>alert(1)</script><!--"
POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')


def spread(nodes, artifact="3f" * 32, publisher=None, each=lambda number: 100.0 + number):
    found = Propagation(nodes, [artifact])
    publisher = publisher or nodes[0]
    found.add(
        ReceiptRow(artifact, publisher, node, 10**9, each(number), 1, publisher, 65536, 0, "received")
        for number, node in enumerate(nodes)
        if node != publisher
    )
    return found


@pytest.fixture
def drawn(report, run_file):
    return DrawnRun(report=report, run=run_file, propagation=spread(run_file.nodes))


def data_of(page):
    [text] = re.findall(r'<script type="application/json" id="view-data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_the_page_holds_the_verdict_first_and_everything_to_read_without_scripts(drawn):
    page = to_full_html([drawn])
    read = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    order = [read.index(f'id="{key}"') for key in ("summary", "latency", "hops", "reach", "network", "traffic", "slow")]
    assert order == sorted(order)
    assert "the way from eu-0 took 100% of it" in read
    assert drawn.report.run in read


def test_no_element_of_the_page_asks_for_anything(drawn):
    page = to_full_html([drawn])
    outside = re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href|action|poster)=["'](?!#)""", outside)
    assert "url(" not in outside
    assert "@import" not in outside


def test_the_browser_runs_these_scripts_alone(drawn):
    page = to_full_html([drawn])
    [policy] = [html.unescape(one) for one in POLICY.findall(page)]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == len(SCRIPTS)
    assert policy.startswith("default-src 'none'; script-src ")
    assert [digest(script) for script in scripts] == re.findall(r"'sha256-[^']+'", policy)
    assert "unsafe-inline" not in policy.split(";")[1]
    assert "unsafe-eval" not in policy


def test_names_from_outside_cannot_leave_their_place(report, run_file):
    nodes = [f"{HARMFUL}-0", "eu-1"]
    run = msgspec.structs.replace(run_file, nodes=nodes, names=[HARMFUL], label=HARMFUL)
    told = msgspec.structs.replace(report, label=HARMFUL, subnet=HARMFUL, notes=[HARMFUL], run="r-\u202e1")
    page = to_full_html([DrawnRun(report=told, run=run, propagation=spread(nodes))])
    assert "<script>alert" not in page
    assert page.count("<script") == 3
    assert "<!--" not in page
    assert "\u202e" not in page
    data = data_of(page)
    assert data["nodes"]["name"] == nodes
    assert data["artifacts"]["name"] == [HARMFUL]
    assert data["run"] == "r-\ufffd1"


def test_receipts_are_events_in_columns(drawn):
    data = view_of([drawn], Surroundings())
    assert data["events"] == [
        {"artifact": 0, "node": [1, 2, 3], "after_us": [101000, 102000, 103000], "hop": [1, 1, 1], "from": [0, 0, 0]}
    ]
    assert data["artifacts"]["publisher"] == [0]
    assert data["traffic"]["payload"] == [[0, 1, 65536], [0, 2, 65536], [0, 3, 65536]]
    assert data["links"] == {"pairs": [0, 1, 0, 2, 0, 3], "total": 3, "known": False}


def test_links_and_places_of_the_document_are_drawn(drawn):
    places = dict.fromkeys(["eu-0", "eu-1"], "eu-west-1") | dict.fromkeys(["us-0", "us-1"], "us-east-1")
    data = view_of([drawn], Surroundings(links=[("eu-0", "us-0"), ("eu-0", "gone-1")], places=places))
    assert data["links"] == {"pairs": [0, 2], "total": 1, "known": True}
    assert data["layouts"]["places"] == ["eu-west-1", "us-east-1"]
    whole = view_of([drawn], Surroundings(full=True))
    assert whole["links"] == {"pairs": [], "total": 6, "known": True}
    assert "earth" not in whole["layouts"]


def test_faults_stand_on_the_axis_of_the_run(report, run_file):
    faults = [
        FaultStatus(
            "cut", "partition", "spec", "ended", since="2026-11-21T20:13:21Z", until="2026-11-21T20:13:23+00:00"
        ),
        FaultStatus("odd", "loss", "spec", "active", since="soon"),
    ]
    run = msgspec.structs.replace(run_file, unix_offset_s=1_795_292_000.0 - 1.0 - 41_600)
    told = msgspec.structs.replace(report, faults=faults)
    found = view_of([DrawnRun(report=told, run=run, propagation=spread(run.nodes))], Surroundings())["faults"]
    assert found[0]["to_s"] - found[0]["from_s"] == 2.0
    assert (found[1]["from_s"], found[1]["to_s"]) == (None, None)


def test_several_runs_have_a_curve_each(drawn, change):
    other = DrawnRun(report=change(run="r-2", label="before", cdf_ms=[1.0, 2.0]))
    curves = view_of([drawn, other], Surroundings())["latency"]["curves"]
    assert [(one["run"], one["points_ms"]) for one in curves] == [
        (drawn.report.run, [101.0, 102.0, 103.0]),
        ("r-2", [1.0, 2.0]),
    ]
    assert "Beside it: before." in to_full_html([drawn, other])


def test_a_run_that_measured_nothing_has_a_page(unmeasured, run_file):
    for one in (
        DrawnRun(report=unmeasured),
        DrawnRun(report=unmeasured, run=run_file, propagation=Propagation(run_file.nodes)),
    ):
        page = to_full_html([one])
        assert "No receipt came: nothing was slow" in page
        assert data_of(page)["latency"]["curves"][0]["points_ms"] == []


def test_samples_become_series_and_bytes_on_the_wire(drawn):
    series = SampledNodes(0)
    sample = Sample(10**9, 1.0, 0.0, 0.5, links=[LinkSample("eu-1", 700, 5, 0, 0, 0, 3.0, 0)])
    series.add(NodeSample("eu-0", 10**9, sample))
    data = view_of([drawn], Surroundings(series=series))
    assert data["traffic"]["wire"] == [[0, 1, 700]]
    assert data["series"]["nodes"] == ["eu-0"]
    assert data["series"]["kinds"][0]["values"] == [[700.0]]


def test_ten_thousand_nodes_make_a_bounded_page(report, run_file):
    nodes = [f"node-{number}" for number in range(10_000)]
    links = [(nodes[number], nodes[(number * 7 + step) % 10_000]) for number in range(10_000) for step in range(1, 8)]
    series = SampledNodes(0)
    for node in nodes[:100]:
        series.add(NodeSample(node, 10**9, Sample(10**9, 1.0, 0.0, 0.5)))
    one = DrawnRun(report=report, run=run_file, propagation=spread(nodes))
    data = view_of([one], Surroundings(links=links, series=series))
    assert len(data["links"]["pairs"]) <= 2 * LINKS_DRAWN_MAX
    assert len(data["traffic"]["labels"]) <= BLOCKS_MAX
    assert len(data["traffic"]["payload"]) <= BLOCKS_MAX**2
    assert len(data["series"]["nodes"]) == SERIES_NODES_MAX
    assert data["series"]["total"] == 100
    assert len(msgspec.json.encode(data)) < 2_000_000


def test_blocks_of_the_heat_map_are_nodes_then_groups_then_ranges():
    assert blocks(["a-0", "b-0"]) == (["a-0", "b-0"], [0, 1], "node")
    grouped = [f"{group}-{n}" for group in "abcdefg" for n in range(10)]
    labels, of, kind = blocks(grouped)
    assert (labels, kind, of[10]) == (list("abcdefg"), "group", 1)
    labels, of, kind = blocks([f"n-{n}" for n in range(500)])
    assert (len(labels), kind, max(of)) == (46, "range", 45)
