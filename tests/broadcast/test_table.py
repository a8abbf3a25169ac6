"""The slot table: order, tombstones, limits, ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.table import Table, Verdict
from p2pnet.model.ids import ArtifactId

A, B = ArtifactId(b"a" * 32), ArtifactId(b"b" * 32)
IDS = [ArtifactId(bytes([i]) * 32) for i in range(4)]


def update(
    table: Table, slot: int, commit: int, artifact: ArtifactId | None, *, peer: str = "p", complete: bool = True
) -> ArtifactId | None:
    """Apply as the intake does; the id that ended."""
    if table.judge(table.peers[peer], slot, commit) in {Verdict.STALE, Verdict.LIMIT}:
        return None
    return table.put(peer, slot, commit, artifact, complete=complete, size=10, hop=0)


@pytest.fixture
def table() -> Table:
    table = Table(4)
    table.connect("p", 1)
    return table


@pytest.mark.parametrize(
    ("connection", "commit", "verdict"),
    [
        (5, 9, Verdict.STALE),
        (5, 10, Verdict.STALE),
        (5, 11, Verdict.REPLACES),
        (6, 0, Verdict.REPLACES),
        (6, 11, Verdict.REPLACES),
    ],
)
def test_an_update_replaces_only_an_older_one(connection: int, commit: int, verdict: Verdict) -> None:
    table = Table(4)
    table.connect("p", 5)
    update(table, 0, 10, A)
    table.connect("p", connection)
    assert table.judge(table.peers["p"], 0, commit) is verdict


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.sampled_from([*IDS, None])), max_size=40),
    st.randoms(use_true_random=False),
)
def test_any_order_and_repetition_of_updates_ends_at_the_highest(
    updates: list[tuple[int, int, ArtifactId | None]], chance: object
) -> None:
    by_commit = {(slot, commit): artifact for slot, commit, artifact in updates}  # a commit id says one thing
    unique = [(slot, commit, artifact) for (slot, commit), artifact in by_commit.items()]
    shuffled = unique + unique[: len(unique) // 2]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    table = Table(4)
    table.connect("p", 1)
    for slot, commit, artifact in shuffled:
        update(table, slot, commit, artifact)
    highest: dict[int, tuple[int, ArtifactId | None]] = {}
    for slot, commit, artifact in unique:
        if slot not in highest or commit > highest[slot][0]:
            highest[slot] = (commit, artifact)
    rows = table.peers["p"].rows
    assert {slot: (row.commit, row.artifact) for slot, row in rows.items()} == highest
    held = {artifact for _, artifact in highest.values() if artifact is not None}
    assert set(table.holders) == held == {artifact for artifact in IDS if table.holds("p", artifact)}


def test_a_tombstone_keeps_a_late_push_from_coming_back(table: Table) -> None:
    update(table, 0, 5, None)
    assert update(table, 0, 4, A) is None
    assert not table.holders


def test_an_id_in_two_slots_of_a_peer_lives_until_both_are_overwritten(table: Table) -> None:
    update(table, 0, 0, A)
    update(table, 1, 1, A)
    update(table, 0, 2, B)
    assert table.holds("p", A)
    update(table, 1, 3, B)
    assert A not in table.holders


def test_the_same_id_in_the_same_slot_only_renews_the_row(table: Table) -> None:
    update(table, 0, 0, A)
    source = table.holders[A]["p"]
    update(table, 0, 1, A)
    assert table.holders[A]["p"] is source
    assert source.rows == 1


def test_an_id_lives_while_one_of_two_peers_announces_it(table: Table) -> None:
    table.connect("q", 2)
    update(table, 0, 0, A)
    update(table, 0, 0, A, peer="q")
    assert update(table, 0, 1, None) == A
    assert set(table.holders[A]) == {"q"}


def test_a_slot_number_at_the_limit_is_refused_and_replacement_still_works(table: Table) -> None:
    for slot in range(4):
        update(table, slot, slot, A)
    assert table.judge(table.peers["p"], 4, 9) is Verdict.LIMIT
    assert table.judge(table.peers["p"], 3, 9) is Verdict.REPLACES
    assert table.rows("p") == 4


def test_rows_of_older_connections_end_at_synced(table: Table) -> None:
    update(table, 0, 7, A)
    update(table, 1, 8, None)
    table.connect("p", 2)
    update(table, 2, 0, B)
    assert table.synced("p") == [A]
    assert list(table.peers["p"].rows) == [2]
    assert set(table.holders) == {B}


def test_a_row_of_an_older_connection_does_not_count_as_held_now(table: Table) -> None:
    update(table, 0, 0, A)
    assert table.holds("p", A)
    table.connect("p", 2)
    assert not table.holds("p", A)
    update(table, 1, 0, A)
    assert table.holds("p", A)
    table.synced("p")
    assert table.holds("p", A)


def test_a_partial_row_does_not_count_as_held(table: Table) -> None:
    update(table, 0, 0, A, complete=False)
    assert A in table.holders
    assert not table.holds("p", A)
    update(table, 0, 1, A)
    assert table.holds("p", A)


def test_all_rows_of_a_dropped_peer_end_in_every_slot(table: Table) -> None:
    table.connect("q", 2)
    for slot in range(3):
        update(table, slot, slot, A)
        update(table, slot, slot, A, peer="q")
    table.drop("p")
    table.drop("q")
    assert not table.holders
