"""A status that is watched shows how it came to be: what was connected and up, and what the run that goes on does."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.cli.render import Output, render
from p2pnet.cli.trends import CELLS_MAX, RunTrend, Trends, Watched, sparkline
from p2pnet.model.jobs import Progress, RunRequest, RunState
from p2pnet.model.report import CertificateCounts, LinkCounts, NodeCounts, Status

MakeStatus = Callable[..., Status]


def running(delivered: int, sent: int = 0, run: str = "r-1") -> RunState:
    progress = Progress(published=3, artifacts=20, delivered=delivered, expected=180, sent_bytes=sent)
    return RunState(run, "running", RunRequest([]), 1.0, progress)


def test_levels_are_those_at_the_end_of_each_second_of_the_last_minute(make_status: MakeStatus) -> None:
    watched = Watched()
    for second, connected in enumerate([1, 2, 3, 3]):
        trends = watched.see(make_status(3, connected=connected), None, 100.0 + second)
    assert trends == Trends(connected=(1, 2, 3, 3), links_up=(0, 1, 3, 3))
    for second in range(300):
        trends = watched.see(make_status(3), None, 200.0 + second)
    assert trends.links_up == (3,) * CELLS_MAX


def test_a_run_tells_its_receipts_by_the_second_and_its_bytes_that_come_every_other(make_status: MakeStatus) -> None:
    watched, status = Watched(), make_status(3)
    for second, (delivered, sent) in enumerate([(0, 0), (40, 0), (60, 8_000), (70, 8_000), (80, 10_000)]):
        trends = watched.see(status, running(delivered, sent), 50.0 + second)
    assert trends.run is not None
    assert trends.run.delivered_per_s == (40, 20, 10, 10)
    assert trends.run.bytes_per_s == (4_000, 4_000, 1_000, 1_000)
    assert watched.see(status, running(0, 0, "r-2"), 55.0).run == RunTrend("r-2", running(0).progress, (), ())
    assert watched.see(status, None, 56.0).run is None


def test_a_total_that_stands_still_goes_down_to_nothing(make_status: MakeStatus) -> None:
    watched, status = Watched(), make_status(3)
    for second, delivered in enumerate([0, 10, 20, *[20] * 5]):
        trends = watched.see(status, running(delivered), float(second))
    assert trends.run is not None
    assert trends.run.delivered_per_s == (10, 10, 0, 0, 0, 0, 0)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 10**12)), max_size=40), st.booleans())
def test_any_looks_give_at_most_a_minute_of_rates_that_add_up_to_what_was_seen(
    looks: list[tuple[float, int]], ascii_only: bool
) -> None:
    status = Status(
        name="demo", target="local", nodes=NodeCounts(0, 0, 0, 0),
        links=LinkCounts(0, 0), certificates=CertificateCounts(0, None),
    )  # fmt: skip
    watched, now, total = Watched(), 0.0, 0
    for pause, more in looks:
        now, total = now + pause, total + more
        trends = watched.see(status, running(total, total), now)
        assert trends.run is not None
        rates = trends.run.bytes_per_s
        assert len(rates) <= CELLS_MAX
        assert all(rate >= -1e-3 for rate in rates)
        assert sum(rates) <= total + 1e-3
        assert len(sparkline(rates, max(rates, default=0.0), ascii_only=ascii_only)) == len(rates)


def test_only_nothing_is_drawn_lowest_and_only_the_most_highest() -> None:
    assert sparkline([0, 1, 50, 99, 100, 120], 100, ascii_only=False) == "▁▂▅███"
    assert sparkline([0, 1, 99, 100], 100, ascii_only=True) == "_.@@"
    assert sparkline([0, 0], 0, ascii_only=False) == "▁▁"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_sparklines_stand_beside_their_figures_and_fit_the_window(
    make_status: MakeStatus, width: int, ascii_only: bool
) -> None:
    run = RunTrend("r-1", running(120, 5 << 20).progress, (40.0, 20.0), (1e6, 2e6))
    trends = Trends((1,) * 30 + (3,) * 30, (0, 3) * 30, run)
    text = render(make_status(3), Output.TABLE, width=width, height=24, ascii_only=ascii_only, trends=trends)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert text.isascii() is ascii_only
    assert "@" in text if ascii_only else "█" in text
    said = " ".join(text.split())
    for figure in ("published 3/20", "delivered 120/180", "20/s", "sent 5 MiB", "1.91 MiB/s"):
        assert figure in said


def test_off_a_terminal_nothing_of_it_is_printed(make_status: MakeStatus) -> None:
    trends = Trends((1, 3), (0, 3), RunTrend("r-1", running(120).progress, (40.0, 20.0), ()))
    status = make_status(3)
    for output in (Output.JSON, Output.YAML, Output.NDJSON):
        assert render(status, output, trends=trends) == render(status, output)
