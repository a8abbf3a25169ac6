"""When a seed is dialled; and how often anything may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.text import parse_address
from p2pnet.peering.clock import NS
from p2pnet.peering.seeds import (
    SEED_AGAIN_ALONE_MAX_S,
    SEED_AGAIN_MAX_S,
    SEED_CHECK_S,
    SEED_DIALS_MAX,
    SeedTable,
    parse_seeds,
)

SERVICE = ("demo-nodes.lab.svc", 4100)
OWN = ("10.0.0.1", 4100)


def addresses(count: int) -> list[tuple[str, int]]:
    return [(f"10.0.0.{number + 1}", 4100) for number in range(count)]


def table(count: int) -> SeedTable:
    made = SeedTable({OWN}, lambda: 1.0)
    made.found(SERVICE, addresses(count), 0)
    return made


def test_found_seeds_are_dialled_at_once_a_few_at_a_time_and_never_oneself() -> None:
    seeds = table(10)
    first = seeds.start_due(set(), set(), 0)
    assert len(first) == SEED_DIALS_MAX
    assert OWN not in first
    assert seeds.start_due(set(), set(), 0) == []
    assert seeds.next_wakeup() is None
    seeds.answered(first[0], "node-7", 0)
    [another] = seeds.start_due(set(), {"node-7"}, 0)
    assert another not in first


def test_a_seed_that_leads_to_somebody_known_is_left_to_the_dialer() -> None:
    seeds = table(3)
    [_, known, linked] = addresses(3)
    assert seeds.start_due({known}, set(), 0) == [linked]
    seeds.answered(linked, "node-2", 0)
    assert seeds.start_due({known}, {"node-2"}, int(SEED_CHECK_S * NS)) == []
    # neither is known any more
    later = int(2 * SEED_CHECK_S * NS)
    assert set(seeds.start_due(set(), set(), later)) == {known, linked}


@pytest.mark.parametrize(("alone", "most_s"), [(True, SEED_AGAIN_ALONE_MAX_S), (False, SEED_AGAIN_MAX_S)])
def test_a_silent_seed_is_tried_again_ever_more_seldom_within_bounds(alone: bool, most_s: float) -> None:
    seeds, now, waits = table(2), 0, []
    for _ in range(12):
        [address] = seeds.start_due(set(), set(), now)
        seeds.failed(address, now, alone=alone)
        due = seeds.next_wakeup()
        assert due is not None
        waits.append((due - now) / NS)
        assert seeds.start_due(set(), set(), due - 1) == []
        now = due
    assert waits == sorted(waits)
    assert waits[-1] == most_s


def test_when_the_last_link_is_gone_all_seeds_are_due() -> None:
    seeds = table(3)
    for _ in range(8):
        for address in seeds.start_due(set(), set(), 1 << 62):
            seeds.failed(address, 0, alone=False)
    assert seeds.start_due(set(), set(), NS) == []
    seeds.all_due(NS)
    assert len(seeds.start_due(set(), set(), NS)) == 2


def test_a_name_that_resolves_anew_brings_and_takes_seeds() -> None:
    seeds = table(3)
    assert seeds.resolved([SERVICE])
    assert not seeds.resolved([SERVICE, ("other", 1)])
    seeds.found(SERVICE, [OWN, ("10.0.0.9", 4100)], 5)
    assert len(seeds) == 1
    assert seeds.start_due(set(), set(), 5) == [("10.0.0.9", 4100)]
    seeds.found(SERVICE, [OWN], 6)
    seeds.failed(("10.0.0.9", 4100), 7, alone=True)  # gone while it was dialled
    assert (len(seeds), seeds.next_wakeup()) == (0, None)


@given(st.lists(st.integers(0, 3000), max_size=20))
def test_seed_addresses_are_bounded_whatever_names_resolve_to(counts: list[int]) -> None:
    seeds = SeedTable(set(), lambda: 0.0)
    for number, count in enumerate(counts):
        seeds.found((f"name-{number % 3}", 1), [("10.0.0.1", port) for port in range(1, count + 1)], 0)
        assert len(seeds) <= limits.SEED_ADDRESSES_MAX


@given(st.lists(st.text(max_size=20) | st.from_regex(r"[a-z]{1,9}:[1-9][0-9]{0,3}", fullmatch=True), max_size=20))
def test_seeds_are_addresses_or_refused_by_their_place(texts: list[str]) -> None:
    good = [text for text in texts if parse_address(text) is not None]
    if good == texts and 1 <= len(texts) <= limits.SEEDS_MAX:
        assert len(parse_seeds(texts)) == len(texts)
    else:
        with pytest.raises(SpecError, match=r"^seeds(\[\d+\])?: "):
            parse_seeds(texts)


def test_seeds_of_both_ip_families_are_tried_in_turn_and_neither_crowds_the_other_out() -> None:
    four = [(f"10.0.{index // 250}.{index % 250 + 1}", 4100) for index in range(limits.SEED_ADDRESSES_MAX)]
    six = [(f"fd00::{index + 1:x}", 4100) for index in range(50)]
    seeds = SeedTable((), lambda: 0.5)
    seeds.found(("seeds", 4100), [*four, *six], 0)
    assert len(seeds) == limits.SEED_ADDRESSES_MAX
    assert all(address in seeds for address in six)
    first = seeds.start_due(set(), set(), 0)
    assert [":" in host for host, _ in first] == [True, False] * (SEED_DIALS_MAX // 2)
