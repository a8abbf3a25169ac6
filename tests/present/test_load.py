"""Every paper says what was offered, what came of it by the second, and what of the document was not in force."""

import html
from collections.abc import Callable
from xml.etree import ElementTree as ET

import msgspec
import pytest

from p2pnet.model.report import Load, LoadStage, Report, Throughput
from p2pnet.present import to_html, to_junit, to_markdown

Paper = Callable[[Report], str]


def page(report: Report) -> str:
    return html.unescape(to_html(report))


def suite(report: Report) -> str:
    root = ET.fromstring(to_junit(report).encode())
    return "\n".join(f"{one.get('name')} = {one.get('value')}" for one in root.iter("property"))


@pytest.mark.parametrize("paper", [page, to_markdown])
def test_a_paced_load_is_said_whole_with_the_rate_that_was_kept(paper: Paper, paced: Report) -> None:
    text = paper(paced)

    assert "20 artifacts at 10/s (9.98/s published), from random, receipts within 60 s, seed 7, client blob" in text
    assert "in a burst" not in text


@pytest.mark.parametrize("paper", [page, to_markdown, suite])
def test_the_stages_of_a_load_are_said(paper: Paper, paced: Report) -> None:
    stages = [LoadStage(from_per_s=2, to_per_s=2, for_s=30), LoadStage(from_per_s=2, to_per_s=20, for_s=60)]
    staged = msgspec.structs.replace(paced, load=Load(rate_per_s=10.0, count=20, stages=stages))

    assert "20 artifacts at 2/s for 30 s, then 2/s to 20/s over 60 s" in paper(staged)


@pytest.mark.parametrize("paper", [page, to_markdown])
def test_the_latency_of_a_burst_is_called_so(paper: Paper, burst: Report) -> None:
    text = paper(burst)

    assert "Latency in a burst" in text
    assert "a burst of 20 artifacts, from all, receipts within 60 s, seed 7, client chat" in text


@pytest.mark.parametrize("paper", [page, to_markdown])
def test_one_artifact_is_no_burst(paper: Paper, report: Report) -> None:
    text = paper(report)

    assert "in a burst" not in text
    assert "1 artifact, from eu-0, receipts within 60 s" in text


@pytest.mark.parametrize("paper", [page, to_markdown])
def test_what_came_by_the_second_is_said(paper: Paper, paced: Report) -> None:
    assert "10.1 MiB/s" in paper(paced)
    assert "8.48/s" in paper(paced)


@pytest.mark.parametrize("paper", [page, to_markdown])
def test_what_was_not_in_force_is_said(paper: Paper, paced: Report, report: Report) -> None:
    assert "Ignored: not in force in this run" in paper(paced)
    assert "spec.ttl: has no" in paper(paced)
    assert "Ignored" not in paper(report)


def test_ci_finds_all_this_among_the_properties(paced: Report, burst: Report) -> None:
    assert {
        "load = 20 artifacts at 10/s",
        "load.rate_per_s = 10.0",
        "load.published_per_s = 9.98",
        "load.from = random",
        "load.within_s = 60.0",
        "throughput.payload_bytes_per_s = 10560000.0",
        "throughput.artifacts_per_s = 8.48",
        "ignored = spec.ttl: has no <meaning> here",
    } <= set(suite(paced).splitlines())
    assert "load = a burst of 20 artifacts" in suite(burst)
    assert "load.rate_per_s" not in suite(burst)
    assert "ignored: spec.ttl: has no" in (ET.fromstring(to_junit(paced).encode()).findtext(".//system-out") or "")


@pytest.mark.parametrize("paper", [page, to_markdown, suite])
def test_a_run_with_a_label_is_called_by_it(paper: Paper, change: Callable[..., Report], report: Report) -> None:
    assert "before the change" in paper(change(label="before the change"))
    assert "label" not in paper(report).replace("aria-label", "")


@pytest.mark.parametrize("paper", [page, to_markdown, suite])
def test_a_report_of_an_older_p2pnet_has_no_load_and_is_shown_all_the_same(
    paper: Paper, change: Callable[..., Report]
) -> None:
    text = paper(change(load=None, throughput=Throughput()))

    assert "None" not in text
    assert "load" not in text.lower().replace("payload", "")
