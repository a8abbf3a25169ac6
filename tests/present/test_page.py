"""The HTML report: whole, harmless, readable by everybody."""

import dataclasses
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from p2pnet.measure import HopTree, hop_tree
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import ByteCost, ExpectationResult, Hops, Latency, NodeReceipts, Reach, Report
from p2pnet.present import to_html
from p2pnet.present.style import DARK, LIGHT

VOID = {"meta", "br", "col", "line", "polyline", "circle"}


class Reader(HTMLParser):
    """A page taken apart: its tags in order, its text, its attributes; fails on a tag that is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_page_holds_all_there_is_to_know(report: Report, run_file: RunFile, tree: HopTree) -> None:
    text = Reader(to_html(report, run_file, tree)).text

    for words in (
        "Pass", "All 2 expectations held", "3 of 3 receipts", "p95 <= 800ms", "312 ms", "455 ms", "0.10", "1.10x",
        "photo.jpg", "Critical path: eu-0 → eu-1 → us-0", "No receipt on record: us-1", "0.1.0", "seed", "±0 ms (one host)",
        "2026-11-21 20:13:20 UTC", '"nodes": 4', "2 per second",
    ):  # fmt: skip
        assert words.lower() in text.lower(), words


def test_the_artifact_drawn_is_called_what_it_is(report: Report, run_file: RunFile, tree: HopTree) -> None:
    assert "The artifact that missed most nodes" in to_html(report, run_file, tree)
    whole = dataclasses.replace(tree, unreached=[])
    assert "The slowest artifact" in to_html(report, run_file, whole)


def test_a_page_needs_nothing_but_itself(report: Report, run_file: RunFile, tree: HopTree) -> None:
    page = to_html(report, run_file, tree)
    reader = Reader(page)

    assert not {"script", "link", "img", "iframe", "object", "a", "base", "form"} & set(reader.tags)
    assert not {name for _, name, _ in reader.attributes if name in {"src", "href", "srcset"} or name.startswith("on")}
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_a_page_is_built_for_those_who_hear_it(report: Report, run_file: RunFile, tree: HopTree) -> None:
    reader = Reader(to_html(report, run_file, tree))
    ids = [value for _, name, value in reader.attributes if name == "id"]
    named = {one for _, name, value in reader.attributes if name == "aria-labelledby" for one in value.split()}

    assert ("html", "lang", "en") in reader.attributes
    assert reader.tags.count("h1") == 1
    assert reader.tags.count("main") == 1
    assert reader.tags.count("table") == reader.tags.count("caption") >= 4
    assert reader.tags.count("section") == reader.tags.count("h2")
    assert reader.tags.count("th") == sum(name == "scope" for tag, name, _ in reader.attributes if tag == "th")
    assert ("svg", "role", "img") in reader.attributes
    assert len(ids) == len(set(ids))
    assert named <= set(ids)
    assert "(on the critical path)" in reader.text


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_of_text_can_be_read_on_every_ground(palette: dict[str, str]) -> None:
    for ink in ("ink", "quiet", "accent", "pass", "fail", "invalid"):
        for background in ("page", "card"):
            assert contrast(palette[ink], palette[background]) >= 4.5, (ink, background)


def test_both_palettes_name_the_same_colours_and_the_sheet_uses_no_other(report: Report) -> None:
    used = set(re.findall(r"var\(--([a-z]+)\)", to_html(report))) - {"tone", "depth"}

    assert set(LIGHT) == set(DARK) == used


@given(
    st.text(max_size=40), st.sampled_from(["", "<script>", '"><b>', "</title>", "</style>", "&lt;", "\u202e", "\ud800"])
)
def test_no_name_can_change_the_structure_of_a_page(text: str, nasty: str) -> None:
    def page(name: str) -> Reader:
        report = msgspec.structs.replace(
            MINIMAL, run=name, subnet=name, target=name, invalid=[name], notes=[name], publishers=[name], digest=name,
            artifact_ids=[name], expectations=[ExpectationResult(name, 1.0, True)],
            per_node=[NodeReceipts(name, 0, 1, 1.0, 1.0, name)],
        )  # fmt: skip
        events = [
            Collected(name, "i", 0, 1, EventKind.PUBLISHED, "", "aa"),
            Collected("other", "i", 0, 2, EventKind.VALIDATED, "", "aa", name, 1),
        ]
        text = to_html(report, tree=hop_tree("aa", events, [name, "other"]))
        text.encode()
        return Reader(text)

    assert page(f"x{nasty}{text}").tags == page("y").tags


MINIMAL = Report(
    run="r", subnet="demo", target="local", seed=1, nodes=2, artifacts=1, verdict="invalid", reach=Reach(1, 0, 0.0),
    latency_ms=Latency(None, None, None, None, None), hops=Hops(None, None), duplicates_per_delivery=None,
    bytes=ByteCost(0, None, None), clock_bound_ms=0.0,
)  # fmt: skip


def test_a_run_that_measured_nothing_has_a_page_that_says_so(unmeasured: Report) -> None:
    text = Reader(to_html(unmeasured)).text

    assert "This run proves nothing: nothing was measured" in text
    assert "No receipt came: there is nothing to draw." in text
    assert "None" not in text


def test_a_shaped_network_is_a_table_with_what_was_not_as_asked_first(shaped: Report, untrue: Report) -> None:
    text = Reader(to_html(shaped)).text
    assert "As asked: 3 rules, 360 links probed, worst link node-1 to node-7 asked 90 ms seen 91.4 ms." in text
    assert "20:12:50 to 20:13:20 UTC" in text
    assert "node-7: its uplink was full for 4 of 9 s (1.1 MiB waited)" in text

    text = Reader(to_html(untrue)).text
    assert "Not as asked: 1 of 4 rules, 400 links probed." in text
    assert "asked 90 ms, seen 45.1 ms (24,000 probes on 40 links)" in text
    assert text.index("rules[0] + fault cut-eu", text.index("Not as asked")) < text.index("worst: node-1 to node-7")


def test_a_network_that_nobody_shaped_is_not_spoken_of(report: Report) -> None:
    assert "<h2>Network</h2>" not in to_html(report)
    assert "<h2>Faults</h2>" not in to_html(report)
    assert "<h2>What stands out</h2>" not in to_html(report)


def test_an_invalid_run_lists_every_reason_and_trusts_no_expectation(invalid: Report) -> None:
    text = Reader(to_html(invalid)).text

    assert "Why the run is invalid" in text
    assert "us-1: 12 events were lost" in text
    assert "the disk was full" in text
    assert "2 of 2 held. The run is invalid: what held may not hold." in text


def test_what_did_not_hold_comes_first(failed: Report) -> None:
    text = Reader(to_html(failed)).text

    assert "1 of 2 expectations did not hold: p95 <= 100ms (measured 312 ms)" in text
    assert text.index("not held") < text.index("reach >= 99%")


def test_a_curve_ends_below_the_top_when_receipts_are_missing(change: Callable[..., Report]) -> None:
    def end(ratio: float) -> float:
        page = to_html(change(reach=Reach(100, int(100 * ratio), ratio)))
        found = re.search(r'class="curve" points="[^"]*,([0-9.]+)"', page)
        assert found is not None
        return float(found[1])

    assert end(1.0) == 26  # the top of the picture's own units
    assert end(0.5) == (26 + 226) / 2


@pytest.mark.parametrize("points", [[0.0] * 21, [5.0], [-3.0, 0.5], [1e-6, 2e-6], [0.0, 3.6e6]])
def test_a_curve_can_be_drawn_of_any_latencies(change: Callable[..., Report], points: list[float]) -> None:
    page = to_html(change(cdf_ms=points))

    assert "nan" not in page
    assert len(re.findall(r'text-anchor="middle"', page)) <= 8


def test_a_threshold_far_outside_does_not_squeeze_the_curve(change: Callable[..., Report]) -> None:
    def drawn(expr: str) -> bool:
        return 'class="limit"' in to_html(change(expectations=[ExpectationResult(expr, 1.0, True)]))

    assert drawn("p95 <= 500ms")
    assert not drawn("p95 <= 60s")
    assert not drawn("reach >= 99%")
    assert not drawn("roll.p99 <= 1.5 * clean.p99")


def test_ten_thousand_nodes_make_a_page_that_can_be_opened(change: Callable[..., Report]) -> None:
    nodes = [NodeReceipts(f"node-{index}", 4 - index % 2, 4, 5.0, 9.0, "node-0") for index in range(10_000)]
    names = [node.node for node in nodes]
    events = [Collected("node-0", "i", 0, 0, EventKind.PUBLISHED, "", "aa", bytes=9)]
    for index in range(1, 10_000):  # a chain of 5000 hops, and as many leaves
        parent = names[index - 2] if index % 2 == 0 else names[index - 1]
        events.append(Collected(names[index], "i", 0, index, EventKind.VALIDATED, "", "aa", parent, index))
    many = change(per_node=nodes, artifact_ids=[f"{index:064x}" for index in range(5_000)], notes=["note"] * 5_000)

    page = to_html(many, tree=hop_tree("aa", events, names))

    assert len(page) < 200_000
    text = Reader(page).text
    assert "5,000 nodes of 10,000 stand out. The worst 100 are shown." in text
    assert "60 of 9,999 receipts: the critical path and the slowest." in text


def test_a_receipt_whose_source_is_unknown_hangs_below_the_publisher_and_says_so(report: Report) -> None:
    events = [
        Collected("eu-0", "i", 0, 0, EventKind.PUBLISHED, "", "aa", bytes=9),
        Collected("eu-1", "i", 0, 5, EventKind.VALIDATED, "", "aa", "us-9", 1),
    ]

    text = Reader(to_html(report, tree=hop_tree("aa", events, ["eu-0", "eu-1"]))).text

    assert "us-9 (no receipt of its own on record)" in text
