"""The slot table: order, tombstones, limits, ends; and what each peer holds by it."""

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.table import Table, UpdateVerdict
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

if TYPE_CHECKING:
    from random import Random

A, B = ArtifactId(b"a" * 32), ArtifactId(b"b" * 32)
IDS = [ArtifactId(bytes([i]) * 32) for i in range(4)]
SIZE = 4 * PART_BYTES
UPDATES = st.tuples(
    st.integers(0, 3), st.integers(0, 30), st.sampled_from([*IDS, None]), st.sampled_from([None, 0, 1, 6])
)  # fmt: skip


def update(
    table: Table, slot: int, commit: int, artifact: ArtifactId | None, *, peer: str = "p", have: int | None = None
) -> ArtifactId | None:
    """Apply as the receiver does; the id whose row ended."""
    if table.judge(table.peers[peer], slot, commit) in {UpdateVerdict.STALE, UpdateVerdict.LIMIT}:
        return None
    return table.put(peer, slot, commit, artifact, have, SIZE, 0)


@pytest.fixture
def table() -> Table:
    table = Table(4)
    table.connect("p", 1)
    return table


@pytest.mark.parametrize(
    ("connection", "commit", "verdict"),
    [
        (5, 9, UpdateVerdict.STALE),
        (5, 10, UpdateVerdict.STALE),
        (5, 11, UpdateVerdict.REPLACES),
        (6, 0, UpdateVerdict.REPLACES),
        (6, 11, UpdateVerdict.REPLACES),
    ],
)
def test_an_update_replaces_only_an_older_one(connection: int, commit: int, verdict: UpdateVerdict) -> None:
    table = Table(4)
    table.connect("p", 5)
    update(table, 0, 10, A)
    table.connect("p", connection)
    assert table.judge(table.peers["p"], 0, commit) is verdict


@given(st.lists(UPDATES, max_size=40), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_updates_ends_at_the_highest(
    updates: list[tuple[int, int, ArtifactId | None, int | None]], chance: "Random"
) -> None:
    by_commit = {(slot, commit): (slot, commit, artifact, have) for slot, commit, artifact, have in updates}
    unique = list(by_commit.values())  # a commit id says one thing
    shuffled = unique + unique[: len(unique) // 2]
    chance.shuffle(shuffled)
    table = Table(4)
    table.connect("p", 1)
    for slot, commit, artifact, have in shuffled:
        update(table, slot, commit, artifact, have=have)
    highest: dict[int, tuple[int, ArtifactId | None, int | None]] = {}
    for slot, commit, artifact, have in unique:
        if slot not in highest or commit > highest[slot][0]:
            highest[slot] = (commit, artifact, have)
    rows = table.peers["p"].rows
    assert {slot: (row.commit, row.artifact) for slot, row in rows.items()} == {
        slot: (commit, artifact) for slot, (commit, artifact, _) in highest.items()
    }
    assert set(table.holders) == {artifact for _, artifact, _ in highest.values()} - {None}
    complete = {artifact for _, artifact, have in highest.values() if have is None and artifact is not None}
    assert {artifact for artifact in IDS if table.holds("p", artifact)} == complete


@given(
    st.lists(
        st.one_of(
            UPDATES.map(lambda update: ("update", *update)),
            st.tuples(st.sampled_from(["connect", "disconnect", "synced", "leaves"])),
        ),
        max_size=60,
    )
)
def test_sources_count_exactly_the_rows_there_are_through_reconnects_and_ends(steps: list[tuple]) -> None:
    table, connection = Table(4), 1
    table.connect("p", 1)
    for commit, (kind, *fields) in enumerate(steps):
        peer_rows = table.peers.get("p")
        if kind == "connect":
            connection += 1
            table.connect("p", connection)
        elif kind == "disconnect":
            table.disconnect("p", connection)
        elif kind == "synced":
            table.end_older("p")
        elif kind == "leaves":
            table.end_all("p")
        elif peer_rows is not None and peer_rows.connection:
            slot, _, artifact, have = fields
            update(table, slot, commit, artifact, have=have)
        check_counts(table)
    table.disconnect("p", connection)
    table.end_older("p")
    assert not table.peers
    assert not table.holders


def check_counts(table: Table) -> None:
    for peer_rows in table.peers.values():
        rows = Counter(row.artifact for row in peer_rows.rows.values() if row.artifact is not None)
        assert peer_rows.artifacts() == list(rows)
        assert {artifact: table.holders[artifact]["p"].rows for artifact in rows} == rows
        for artifact in rows:
            whole = [row for row in peer_rows.rows.values() if row.artifact == artifact and row.complete]
            source = table.source("p", artifact)
            assert source is not None
            assert source.complete_rows == sum(row.connection == source.connection for row in whole)
    assert sum(map(len, table.holders.values())) == sum(len(rows.artifacts()) for rows in table.peers.values())


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
    assert table.judge(table.peers["p"], 4, 9) is UpdateVerdict.LIMIT
    assert table.judge(table.peers["p"], 3, 9) is UpdateVerdict.REPLACES
    assert len(table.peers["p"].rows) == 4


def test_rows_and_tombstones_of_older_connections_end_at_synced(table: Table) -> None:
    update(table, 0, 7, A)
    update(table, 1, 8, None)
    table.connect("p", 2)
    update(table, 2, 0, B)
    assert table.older_rows("p") == [0, 1]
    assert table.end_older("p") == [A]
    assert list(table.peers["p"].rows) == [2]
    assert set(table.holders) == {B}


def test_a_row_of_an_older_connection_does_not_count_as_held_now(table: Table) -> None:
    update(table, 0, 0, A)
    assert table.holds("p", A)
    table.connect("p", 2)
    assert not table.holds("p", A)
    update(table, 1, 0, A)
    assert table.holds("p", A)
    table.end_older("p")
    assert table.holds("p", A)


def test_a_partial_row_does_not_count_as_held(table: Table) -> None:
    update(table, 0, 0, A, have=0b0011)
    assert A in table.holders
    assert not table.holds("p", A)
    update(table, 0, 1, A)
    assert table.holds("p", A)


def test_bitmaps_of_one_connection_add_up_and_a_new_connection_begins_anew(table: Table) -> None:
    update(table, 0, 0, A, have=0b0001)
    update(table, 0, 1, A, have=0b0110)
    assert table.holders[A]["p"].have == 0b0111
    table.connect("p", 2)
    update(table, 0, 0, A, have=0b1000)
    assert table.holders[A]["p"].have == 0b1000


def test_a_source_that_was_closed_may_be_asked_again_on_a_new_connection(table: Table) -> None:
    update(table, 0, 0, A)
    source = table.holders[A]["p"]
    source.closed, source.failures = True, 8
    update(table, 0, 1, A)
    assert source.closed
    table.connect("p", 2)
    update(table, 0, 0, A)
    assert (source.closed, source.failures) == (False, 0)


def test_all_rows_of_a_peer_that_left_end_in_every_slot(table: Table) -> None:
    table.connect("q", 2)
    for slot in range(3):
        update(table, slot, slot, A)
        update(table, slot, slot, A, peer="q")
    assert table.end_all("p") == [A] * 3
    table.end_all("q")
    assert not table.holders


def test_a_peer_that_is_away_is_forgotten_with_its_last_row(table: Table) -> None:
    update(table, 0, 0, A)
    assert not table.disconnect("p", 99)
    assert table.disconnect("p", 1)
    assert table.end_older("p") == [A]
    assert not table.peers
