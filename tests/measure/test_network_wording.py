"""The emulated network in words: exact where figures are small, honest where nothing was measured."""

import math
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.samples import broken_row, true_rows

from p2pnet.measure import network_wording as wording
from p2pnet.model.report import FaultStatus, LinkFigures, NetworkRow, SeenFigures


def row(asked: LinkFigures, seen: SeenFigures, *, worst: bool = False, ok: bool = True) -> NetworkRow:
    return NetworkRow("r", "node-1", "node-7", asked, seen, ok=ok, links=1, links_total=1, worst=worst)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (LinkFigures(90.0, 5.0, 0.002, 5e6), "90 ms, jitter 5 ms, loss 0.2%, 5 Mbit/s"),
        (LinkFigures(90.4321), "90.4 ms"), (LinkFigures(0.5), "0.5 ms"), (LinkFigures(9_999.96), "10000 ms"),
        (LinkFigures(3_600_000.0), "3600 s"), (LinkFigures(0.0), "0 ms"), (LinkFigures(loss=0.000_001), "loss 0.0001%"),
        (LinkFigures(loss=1.0), "loss 100%"), (LinkFigures(loss=0.9999), "loss 99.9%"), (LinkFigures(loss=0.0), "loss 0%"),
        (LinkFigures(bandwidth_bps=999_600_000.0), "1000 Mbit/s"), (LinkFigures(bandwidth_bps=1.5e9), "1.5 Gbit/s"),
        (LinkFigures(bandwidth_bps=900.0), "900 bit/s"), (LinkFigures(), "\N{EN DASH}"),
    ],
)  # fmt: skip
def test_figures_are_said_with_their_units(figures: LinkFigures, said: str) -> None:
    assert wording.figures(figures) == said


def test_of_what_was_seen_only_what_was_asked_for_is_said() -> None:
    seen = SeenFigures(90.4, 0.3, 0.0, 8e6, 200)

    assert wording.seen_of(row(LinkFigures(90.0), seen)) == "90.4 ms"
    assert (
        wording.seen_of(row(LinkFigures(90.0, loss=0.1), SeenFigures(90.4, samples=200))) == "90.4 ms, loss \N{EN DASH}"
    )
    assert wording.seen_of(row(LinkFigures(90.0), SeenFigures())) == "nothing measured"


def test_the_worst_link_is_the_one_whose_delay_is_furthest_off_however_rare_losses_scatter() -> None:
    lossy = row(LinkFigures(90.0, loss=0.002), SeenFigures(90.1, loss=0.01, samples=100), worst=True)
    slow = row(LinkFigures(10.0), SeenFigures(10.4, samples=100), worst=True)

    assert wording.worst_of([lossy, slow]) == (slow, "delay_ms")
    assert wording.worst_words(slow, "delay_ms") == "worst link node-1 to node-7 asked 10 ms seen 10.4 ms"


def test_without_a_delay_the_worst_link_is_told_by_another_figure() -> None:
    narrow = row(
        LinkFigures(bandwidth_bps=5e6, loss=0.1), SeenFigures(bandwidth_bps=4.9e6, loss=0.2, samples=9), worst=True
    )

    lossy = row(LinkFigures(loss=0.2), SeenFigures(loss=0.375, samples=48), worst=True)
    assert (
        wording.worst_words(lossy, "loss") == "worst link node-1 to node-7 asked loss 20% seen loss 37.5% of 48 probes"
    )
    assert wording.worst_of([narrow]) == (narrow, "bandwidth_bps")
    assert wording.worst_of(wording.rules_of(true_rows())) is None


def test_a_line_says_how_many_rules_are_as_asked() -> None:
    assert wording.summary([]) == []
    assert wording.summary(true_rows())[:2] == ["as asked: 3 rules", "360 links probed"]
    assert wording.summary([*true_rows(), broken_row()]) == ["not as asked: 1 of 4 rules", "400 links probed"]
    one = msgspec.structs.replace(true_rows()[1], ok=False)
    assert wording.summary([true_rows()[0], one]) == [
        "not as asked: the worst link of 1 of 1 rule", "120 links probed",
    ]  # fmt: skip


def test_what_nobody_measured_is_not_called_as_asked() -> None:
    waiting = [row(LinkFigures(90.0), SeenFigures())]

    assert wording.summary(waiting) == ["1 rule, not measured yet"]
    assert [wording.result_of(one) for one in (*waiting, true_rows()[0], broken_row())] == [
        "not measured", "as asked", "not as asked",
    ]  # fmt: skip
    assert wording.summary([*true_rows(), *waiting])[:3] == ["as asked: 3 rules", "1 not measured", "361 links probed"]


def test_a_row_that_is_not_as_asked_is_a_sentence() -> None:
    said = "rules[0] + fault cut-eu, region=eu to region=us: asked 90 ms, "
    assert wording.problem_of(broken_row()) == said + "seen 45.1 ms (24,000 probes on 40 links)"
    unexplained = msgspec.structs.replace(broken_row(), problem="")
    assert wording.problem_of(unexplained) == said + "loss 0.2%, seen 45.1 ms, loss 0.19%"
    assert wording.probed(broken_row()) == "40 of 120 links, 24,000 probes"


@pytest.mark.parametrize(
    ("since", "until", "state", "said"),
    [
        (None, None, "waiting", "f: w, its time had not come"),
        ("2026-11-21T20:13:20Z", None, "active", "f: w, since 20:13:20 UTC"),
        ("2026-11-21T20:13:20Z", "2026-11-21T20:13:50.123Z", "ended", "f: w, 20:13:20 to 20:13:50 UTC"),
        ("2026-11-21T20:13:20Z", None, "ended", "f: w, at 20:13:20 UTC"),
        ("2026-11-21T20:13:20Z", "2026-11-21T20:13:20Z", "ended", "f: w, at 20:13:20 UTC"),
        ("noon", None, "failed", "f: w, since noon UTC, not in force"),
    ],
)
def test_a_fault_is_told_with_its_times(since: str | None, until: str | None, state: str, said: str) -> None:
    assert wording.fault_words(FaultStatus("f", "w", "lease", state, [], since, until)) == said


@given(
    st.floats(min_value=0, max_value=3.6e6),
    st.floats(min_value=0, max_value=1),
    st.floats(min_value=1e3, max_value=1e12),
)
def test_any_figure_is_said_without_an_exponent(delay: float, loss: float, bandwidth: float) -> None:
    said = wording.figures(LinkFigures(delay, delay, loss, bandwidth))

    assert "e+" not in said
    assert "e-" not in said
    assert math.isclose(float(said.split()[0]) * (1000 if " s," in said[:12] else 1), delay, rel_tol=1e-2, abs_tol=1e-4)
