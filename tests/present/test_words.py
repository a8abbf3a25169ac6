"""The words that all renderings of a report share: outliers, moments, harmless text."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure.wording import MISSING
from p2pnet.model.report import NodeReceipts, Report
from p2pnet.present.words import clean, instant, journey_sentence, outliers


def nodes(*slowest: float | None) -> list[NodeReceipts]:
    return [NodeReceipts(f"node-{index}", int(ms is not None), 1, ms, ms) for index, ms in enumerate(slowest)]


def test_a_subnet_of_equals_has_no_outliers() -> None:
    assert outliers(nodes(*[100.0 + index for index in range(20)])) == {}
    assert outliers(nodes(*[100.0] * 20)) == {}


def test_who_misses_receipts_or_is_far_slower_than_the_others_stands_out() -> None:
    assert outliers(nodes(*[100.0] * 9, 900.0, None)) == {"node-9": "slow", "node-10": "1 missing"}


def test_a_delay_that_the_clocks_could_feign_makes_no_outlier() -> None:
    assert outliers(nodes(*[1.0] * 9, 2.0), bound_ms=0.6) == {}
    assert outliers(nodes(*[1.0] * 9, 2.0), bound_ms=0.1) == {"node-9": "slow"}


def test_among_three_nodes_nobody_can_say_what_is_slow() -> None:
    assert outliers(nodes(1.0, 1.0, 900.0)) == {}


def test_the_sentence_names_a_lone_publisher(report: Report, change: Callable[..., Report]) -> None:
    assert journey_sentence(report) == (
        "1 artifact of 64 KiB from eu-0 to 4 nodes: 3 of 3 receipts came, half of all within 141 ms, the last after 455 ms."
    )
    assert "from 2 nodes to" in journey_sentence(change(publishers=["eu-0", "eu-1"]))


def test_the_sentence_says_under_which_load(burst: Report, paced: Report) -> None:
    assert journey_sentence(burst).startswith("20 artifacts of 64 KiB in a burst from eu-0 to 4 nodes: ")
    assert journey_sentence(paced).startswith("20 artifacts of 64 KiB at 10/s from eu-0 to 4 nodes: ")
    assert paced.load is not None
    slow = msgspec.structs.replace(paced, load=msgspec.structs.replace(paced.load, published_per_s=4.0))
    assert journey_sentence(slow).startswith("20 artifacts of 64 KiB at 4/s instead of 10/s from eu-0 to 4 nodes: ")


@pytest.mark.parametrize("unix_s", [0.0, 1e30, -1e30])
def test_a_time_no_calendar_holds_is_a_dash(unix_s: float) -> None:
    assert instant(unix_s) == MISSING


@given(st.text())
def test_cleaned_text_can_be_written_anywhere_and_cleaning_again_changes_nothing(text: str) -> None:
    done = clean(text)

    done.encode()
    assert clean(done) == done
    assert len(done) == len(text)
    assert not set("\x00\x1b\x85\u202e\u2066") & set(done)
