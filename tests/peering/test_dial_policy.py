from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.peering.clock import NS
from p2pnet.peering.dial_policy import (
    CHOICES,
    CROSSED_S,
    DIALS_MAX,
    HIGHER_WAITS_MAX_S,
    NEXT,
    REDIAL_MAX_S,
    SETTLED_S,
    SILENT_DIALS_MAX,
    SILENT_S,
    Candidate,
    DialEvent,
    DialPhase,
    DialPolicy,
    choose,
    is_lower,
)
from p2pnet.peering.pacing import Rate


def dialer(name: str = "node-1", rng: float = 1.0) -> DialPolicy:
    return DialPolicy(name, lambda: rng)


def unlinked(_name: str) -> bool:
    return False


# --- which connection stays ---


def test_the_choice_is_decided_for_every_case() -> None:
    assert set(CHOICES) == set(product((True, False), repeat=3))
    assert [case for case, choice in CHOICES.items() if choice == "keep"] == [(True, False, True)]


@pytest.mark.parametrize(("ours_held", "ours_new", "lower"), list(product((True, False), repeat=3)))
def test_a_different_incarnation_replaces_whoever_dialled(ours_held: bool, ours_new: bool, lower: bool) -> None:
    held, new = Candidate("one", ours_held, 0), Candidate("two", ours_new, 5)
    assert choose(held, new, lower=lower) == "replace"


@pytest.mark.parametrize(("ours", "lower"), list(product((True, False), repeat=2)))
def test_the_same_dialers_newer_replaces(ours: bool, lower: bool) -> None:
    assert choose(Candidate("one", ours, 0), Candidate("one", ours, 5), lower=lower) == "replace"


@pytest.mark.parametrize("lower_first", [True, False])
def test_both_ends_of_crossed_dials_keep_the_lower_names(lower_first: bool) -> None:
    """Two connections, dialled by either side, seen in either order at either end: the lower name's is left."""
    order = ["lower", "higher"] if lower_first else ["higher", "lower"]
    for at_lower in (True, False):
        kept, held = "", None
        for number, dialled_by in enumerate(order):
            new = Candidate(
                "same", (dialled_by == "lower") == at_lower, since_ns=number, dial=dialled_by, knows="former"
            )
            if choose(held, new, lower=at_lower) == "replace":
                kept, held = dialled_by, new
        assert kept == "lower"


def test_a_dial_that_comes_too_late_to_have_crossed_replaces() -> None:
    held = Candidate("same", ours=True, since_ns=0)
    late = Candidate("same", ours=False, since_ns=int(CROSSED_S * NS) + 1, knows="other")
    assert choose(held, late, lower=True) == "replace"
    assert choose(held, Candidate("same", ours=False, since_ns=NS, knows="other"), lower=True) == "keep"


def test_a_dial_made_in_view_of_the_held_link_replaces_it() -> None:
    """The higher name has lost the link, or shows a new leaf: no crossing, however young the link."""
    held = Candidate("same", ours=True, since_ns=0, dial="d1")
    assert choose(held, Candidate("same", ours=False, since_ns=1, dial="d2", knows="d1"), lower=True) == "replace"
    assert choose(held, Candidate("same", ours=False, since_ns=1, dial="d2", knows="d0"), lower=True) == "keep"


def test_names_are_ordered_by_group_and_number() -> None:
    assert is_lower("node-9", "node-10")
    assert not is_lower("node-10", "node-9")
    assert is_lower("next-40", "node-0")


# --- when to dial ---


def test_every_happening_has_a_next_phase_in_every_phase() -> None:
    assert set(NEXT) == set(product(DialPhase, DialEvent))
    assert set(NEXT.values()) == set(DialPhase)


def test_the_lower_name_dials_at_once_and_the_higher_after_a_second() -> None:
    some = dialer("node-1")
    some.want(["node-0", "node-2"], unlinked, 0)
    assert some.start_due(0) == ["node-2"]
    assert some.next_wakeup() == NS
    assert some.start_due(NS - 1) == []
    assert some.start_due(NS) == ["node-0"]


def test_the_higher_name_waits_on_while_links_come_up_but_not_for_ever() -> None:
    some, now = dialer("node-5"), 0
    some.want(["node-2", "node-9"], unlinked, 0)
    assert some.start_due(0) == ["node-9"]
    while some.phase("node-2") is DialPhase.WAITING:
        now += NS // 2
        some.up("node-9", now)
        some.start_due(now)
    assert now == int(HIGHER_WAITS_MAX_S * NS)


def test_a_failed_dial_is_repeated_from_200_ms_to_3_s_without_end() -> None:
    some, now, gaps = dialer(), 0, []
    some.want(["node-2"], unlinked, now)
    for _ in range(12):
        assert some.start_due(now) == ["node-2"]
        some.failed("node-2", now)
        due = some.next_wakeup()
        assert due is not None
        gaps.append((due - now) / NS)
        now = due
    assert gaps[:5] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.0])
    assert set(gaps[4:]) == {REDIAL_MAX_S}


@given(st.floats(0, 1, exclude_max=True))
def test_chance_shortens_a_back_off_by_at_most_half(rng: float) -> None:
    some = dialer(rng=rng)
    some.want(["node-2"], unlinked, 0)
    some.start_due(0)
    some.failed("node-2", 0)
    due = some.next_wakeup()
    assert due is not None
    assert 0.1 <= due / NS <= 0.2


def test_a_lost_link_that_had_settled_is_dialled_at_once_by_the_lower_name() -> None:
    some = dialer()
    some.want(["node-2"], unlinked, 0)
    some.start_due(0)
    some.up("node-2", 0)
    some.settled("node-2")
    later = int(SETTLED_S * NS)
    some.down("node-2", later)
    assert some.start_due(later) == ["node-2"]


def test_a_link_that_flaps_is_not_dialled_in_a_tight_loop() -> None:
    some, now, dials = dialer(), 0, 0
    some.want(["node-2"], unlinked, 0)
    while now < 30 * NS:
        for name in some.start_due(now):
            dials += 1
            some.up(name, now)
            some.settled(name)
            some.down(name, now)
        now = max(now, some.next_wakeup() or 0) + 1
    assert dials < 20


def test_a_link_the_peer_dialled_ends_the_wait() -> None:
    some = dialer("node-5")
    some.want(["node-2"], unlinked, 0)
    some.up("node-2", 1)
    assert some.start_due(5 * NS) == []
    assert some.phase("node-2") is DialPhase.LINKED


def test_only_so_many_dials_are_in_progress_at_a_time() -> None:
    some = dialer("node-0")
    some.want([f"node-{i}" for i in range(1, 40)], unlinked, 0)
    first = some.start_due(0)
    assert len(first) == DIALS_MAX
    assert some.start_due(0) == []
    assert some.next_wakeup() == SILENT_S * NS
    some.up(first[0], 0)
    some.settled(first[0])
    assert len(some.start_due(0)) == 1


def test_dials_that_nobody_answers_keep_a_node_from_no_other_peer() -> None:
    some = dialer("node-0")
    names = [f"node-{i}" for i in range(1, SILENT_DIALS_MAX + 40)]
    some.want(names, unlinked, 0)
    began: list[list[str]] = []
    now = 0
    while (wakeup := some.next_wakeup()) is not None:
        assert wakeup > now or not began
        now = wakeup
        began.append(some.start_due(now))
        assert 0 < len(began[-1]) <= DIALS_MAX
    assert sum(map(len, began)) == SILENT_DIALS_MAX, "there is a bound all the same"
    assert now == (SILENT_DIALS_MAX // DIALS_MAX - 1) * SILENT_S * NS
    for name in began[0]:
        some.failed(name, now)
    assert len(some.start_due(now)) == 0, "young ones count"
    assert len(some.start_due(now + int(SILENT_S * NS))) == DIALS_MAX


def test_a_peer_no_longer_wanted_is_not_dialled_again() -> None:
    some = dialer()
    some.want(["node-2"], unlinked, 0)
    some.start_due(0)
    some.want([], unlinked, 0)
    some.failed("node-2", 0)
    assert some.start_due(60 * NS) == []
    assert some.phase("node-2") is None


def test_a_peer_wanted_again_while_its_former_dial_lasts_is_dialled_afterwards() -> None:
    some = dialer()
    some.want(["node-2"], unlinked, 0)
    some.start_due(0)
    some.want([], unlinked, 0)
    some.want(["node-2"], unlinked, 0)
    assert some.start_due(0) == []
    some.settled("node-2")
    assert some.start_due(NS) == ["node-2"]


def test_a_new_leaf_is_shown_by_a_new_connection_to_everyone_linked() -> None:
    some = dialer()
    some.want(["node-0", "node-2"], lambda name: name == "node-2", 0)
    some.renew("node-2", 0)
    some.renew("node-0", 0)
    assert some.start_due(0) == ["node-2"]
    some.failed("node-2", 0)
    assert some.phase("node-2") is DialPhase.LINKED
    assert "node-2" in some.start_due(NS)
    some.up("node-2", NS)
    some.settled("node-2")
    assert "node-2" not in some.start_due(10 * NS)


@given(
    st.lists(
        st.tuples(st.sampled_from(["due", "failed", "up", "down", "want", "unwant"]), st.integers(0, 3)), max_size=60
    )
)
def test_an_unlinked_wanted_peer_always_has_a_dial_ahead_or_in_progress(steps: list[tuple[str, int]]) -> None:
    some, now, dialling, wanted = dialer(), 0, False, True
    some.want(["node-2"], unlinked, 0)
    for step, seconds in steps:
        now += seconds * NS
        if step == "due":
            dialling = bool(some.start_due(now)) or dialling
        elif step == "failed" and dialling:
            some.failed("node-2", now)
            dialling = False
        elif step == "up":
            some.up("node-2", now)
            some.settled("node-2")
            dialling = False
        elif step == "down":
            some.down("node-2", now)
        elif step in ("want", "unwant"):
            wanted = step == "want"
            some.want(["node-2"] if wanted else [], unlinked, now)
        if some.phase("node-2") in (DialPhase.WAITING, DialPhase.DIALLING):
            assert dialling or some.next_wakeup() is not None


def test_a_dialer_with_a_rate_waits_for_it_without_being_woken_in_vain() -> None:
    dialer = DialPolicy("node-0", lambda: 0.5, rate=Rate(2.0, 3))
    dialer.want([f"node-{number}" for number in range(1, 9)], lambda _: False, 0)
    assert len(dialer.start_due(0)) == 3 < DIALS_MAX
    due = dialer.next_wakeup()
    assert due == NS // 2
    assert len(dialer.start_due(due)) == 1
    assert dialer.next_wakeup() == NS


def test_the_higher_name_dials_a_seed_at_once() -> None:
    dialer = DialPolicy("node-5", lambda: 0.5, at_once={"node-2"}.__contains__)
    dialer.want(["node-1", "node-2", "node-9"], lambda _: False, 0)
    assert set(dialer.start_due(0)) == {"node-2", "node-9"}
