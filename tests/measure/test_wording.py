"""Quantities as people read them."""

import pytest

from p2pnet.measure.wording import MISSING, adversary_parts, milliseconds, percent
from p2pnet.model.behaviours import AdversaryGroup


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, MISSING), (0.0, "0.0 ms"), (99.94, "99.9 ms"), (141.2, "141 ms"), (2312.0, "2.31 s"),
     (65_000.0, "65.0 s"), (-2.0, "-2.0 ms"), (float("inf"), MISSING)],
)  # fmt: skip
def test_a_latency_is_as_precise_as_its_size(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(None, MISSING), (1.0, "100%"), (0.99996, "99.9%"), (0.0, "0%"), (1e-9, "0.1%")]
)
def test_a_hundred_percent_is_all_and_nought_is_nothing(ratio: float | None, text: str) -> None:
    assert percent(ratio) == text


def test_adversaries_are_told_by_group_and_honest_nodes_need_no_words() -> None:
    groups = [AdversaryGroup("liar", "lying", ["liar-0", "liar-1"]), AdversaryGroup("old", "slow", ["old-0"])]
    assert adversary_parts(groups, 8) == [
        "5 of 8 nodes, of the others nothing is expected",
        "2 lying: liar-0, liar-1",
        "1 slow: old-0",
    ]
    assert adversary_parts([], 8) == []
