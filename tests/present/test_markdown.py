"""The Markdown summary: short, and text stays text."""

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.samples import broken_row, sample_faults, sample_findings

from p2pnet.model.report import ExpectationResult, NodeReceipts, Report
from p2pnet.present import to_markdown
from p2pnet.present.markdown import code, prose

SUMMARY_BYTES_MAX = 65_536  # a pull request's comment; a step summary holds sixteen times as much


def test_a_summary_begins_with_the_verdict_and_why(failed: Report) -> None:
    lines = to_markdown(failed).splitlines()

    assert lines[0] == "## ❌ Fail: run `r-20261121-201320-7f` of `demo`"
    assert lines[2] == "**1 of 2 expectations did not hold: p95 \\<= 100ms (measured 312 ms)**"
    assert "| ❌ not held | `p95 <= 100ms` | 312 ms |" in lines


def test_a_summary_has_every_figure(report: Report) -> None:
    text = to_markdown(report)

    assert "| Reach | 100% (3 of 3 receipts) |" in text
    assert "| Latency | p50 141 ms, p90 260 ms, p95 312 ms, p99 402 ms, max 455 ms |" in text
    assert "| Hops | p50 2, max 3 |" in text
    assert "| Duplicates | 0.10 per receipt |" in text
    assert "| Byte cost | 1.10x (26 MiB sent for 23.8 MiB of payload) |" in text


def test_an_invalid_run_says_why_before_any_number(invalid: Report) -> None:
    text = to_markdown(invalid)

    assert text.startswith("## ⚠️ Invalid")
    assert text.index("- the disk was full") < text.index("| Reach |")


def test_a_run_that_measured_nothing_is_summed_up_too(unmeasured: Report) -> None:
    text = to_markdown(unmeasured)

    assert "no receipt was expected" in text
    assert "None" not in text


def test_a_report_of_any_size_fits_a_comment(change: Callable[..., Report]) -> None:
    text = to_markdown(
        change(
            per_node=[NodeReceipts(f"node-{index}", 0, 9, None, None) for index in range(10_000)],
            artifact_ids=[f"{index:064x}" for index in range(10_000)],
            notes=["long " * 1000] * 1000,
            invalid=["long " * 1000] * 1000,
            ignored=["long " * 1000] * 1000,
            network=[msgspec.structs.replace(broken_row(), rule="[long] " * 1000, problem="<long> " * 1000)] * 100,
            faults=[msgspec.structs.replace(one, what="long " * 1000) for one in sample_faults()] * 30,
            findings=[msgspec.structs.replace(one, what="long " * 1000) for one in sample_findings()] * 30,
            expectations=[ExpectationResult(f"p95 <= {index}ms" + " " * 180, None, False) for index in range(1000)],
        )
    )

    assert len(text.encode()) < SUMMARY_BYTES_MAX
    assert "and 950 more" in text
    assert "and 9,990 more nodes" in text
    assert "and 82 more" in text


def test_a_shaped_network_stands_there_in_a_line_and_with_a_table_when_it_was_not_as_asked(
    shaped: Report, untrue: Report
) -> None:
    line = "**Network** as asked: 3 rules, 360 links probed, worst link node-1 to node-7 asked 90 ms seen 91.4 ms"
    text = to_markdown(shaped)
    assert line in text.splitlines()
    assert "- kill-1: kill node-3, at 20:13:01 UTC" in text
    assert "- node-7: its uplink was full for 4 of 9 s (1.1 MiB waited)" in text
    assert "| Rule |" not in text

    row = "| `rules[0] + fault cut-eu` | region=eu to region=us | 90 ms, loss 0.2% | 45.1 ms, loss 0.19% | asked 90 ms"
    assert row in to_markdown(untrue)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a*b_c", "a\\*b\\_c"),
        ("<b>&amp;", "\\<b\\>&amp;amp;"),
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("ask @everybody", "`ask @everybody`"),
        ("see http://example.org/", "`see http://example.org/`"),
    ],
)
def test_text_stays_text(text: str, written: str) -> None:
    assert prose(text) == written


@given(st.text(max_size=200))
def test_no_text_breaks_out_of_its_line_or_its_cell(text: str) -> None:
    for written in (prose(text), code(text)):
        assert len(written.splitlines()) <= 1
        assert "|" not in written.replace("\\|", "")
        written.encode()


@given(st.text(alphabet="`a ", min_size=1, max_size=20))
def test_a_code_span_is_longer_fenced_than_what_it_holds(text: str) -> None:
    written = code(text)
    fence = len(written) - len(written.lstrip("`"))

    if text.strip():
        inner = written[fence:-fence]
        assert "`" * fence not in inner
        assert not inner.startswith("`")
        assert not inner.endswith("`")
