"""The sender: slot numbers, commit ids, what every peer is due for an artifact, and for one that is here in part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.broadcast.kit import MS, SECOND, Made, Plain, Script, Urgent, entries, of, ok

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.sender import SlotSet
from p2pnet.broadcast.wire import Entry, EntryKind, UpdateStatus, decode_fetch, decode_updates
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

# Slot numbers and commit ids


def test_the_most_recently_freed_slot_is_taken_first() -> None:
    slots = SlotSet(10)
    assert [slots.take() for _ in range(3)] == [0, 1, 2]
    slots.free(0)
    slots.free(1)
    assert [slots.take(), slots.take(), slots.take()] == [1, 0, 3]


def test_a_freed_slot_is_taken_again_before_a_new_number() -> None:
    slots = SlotSet(10)
    for _ in range(3):
        slots.take()
    slots.free(1)
    assert slots.take() == 1
    assert (slots.allocated, slots.in_use) == (3, 3)


def test_no_slot_is_given_beyond_the_limit() -> None:
    slots = SlotSet(2)
    assert [slots.take() for _ in range(3)] == [0, 1, None]


def test_commit_ids_count_from_zero() -> None:
    slots = SlotSet(1)
    assert [slots.commit() for _ in range(3)] == [0, 1, 2]


@given(st.lists(st.integers(-3, 20), max_size=60), st.integers(1, 8))
def test_a_number_is_held_once_and_stays_below_the_limit(steps: list[int], limit: int) -> None:
    slots, held = SlotSet(limit), list[int]()
    for step in steps:
        if step < 0 and held:
            slots.free(held.pop(step % len(held)))
        elif (slot := slots.take()) is not None:
            assert slot not in held
            assert slot < limit
            held.append(slot)
        else:
            assert len(held) == limit
        assert slots.in_use == len(held)
        assert slots.room == limit - len(held)


def test_commit_ids_grow_with_every_event_and_the_freed_slot_is_taken_again() -> None:
    script = Script()
    script.up("p")
    wire = []
    first, done = script.publish()
    wire += of(done, effects.SendUpdates)
    wire += of(script.publish()[1], effects.SendUpdates)
    script.turn(inputs.Withdraw(first))
    wire += of(script.publish()[1], effects.SendUpdates)
    assert [entries(sent)[0] for sent in wire] == [(0, 0, 0), (1, 1, 0), (0, 3, 0)]
    assert script.core.gauges()["slots_allocated"] == 2
    assert script.core.counters["slot_reused"] == 1


def test_publishing_the_same_artifact_twice_sends_nothing_and_leaves_a_gap_in_the_commit_ids() -> None:
    script = Script()
    script.up("p")
    blob = script.blob()
    script.turn(blob)
    assert not of(script.turn(blob), effects.SendUpdates)
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    assert entries(sent) == [(1, 2, EntryKind.PUSH)]
    assert script.core.counters["publications_duplicate"] == 1


def test_withdrawing_what_is_not_known_uses_a_commit_id_too() -> None:
    script = Script()
    script.up("p")
    script.turn(inputs.Withdraw(ArtifactId(bytes(32))))
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    assert entries(sent) == [(0, 1, EntryKind.PUSH)]
    assert script.core.counters["withdrawals_unknown"] == 1


# Push or advert


@pytest.mark.parametrize(
    ("size", "kind"), [(0, EntryKind.PUSH), (PART_BYTES, EntryKind.PUSH), (PART_BYTES + 1, EntryKind.ADVERT)]
)
def test_in_a_full_mesh_one_part_of_the_users_bytes_is_pushed(size: int, kind: EntryKind) -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish(size)[1], effects.SendUpdates)
    assert entries(sent)[0][2] == kind


@pytest.mark.parametrize(("size", "kind"), [(1023, EntryKind.PUSH), (1024, EntryKind.ADVERT)])
def test_in_a_sparse_topology_less_than_1_kib_is_pushed(size: int, kind: EntryKind) -> None:
    script = Script(full_mesh=False)
    script.up("p")
    (sent,) = of(script.publish(size)[1], effects.SendUpdates)
    assert entries(sent)[0][2] == kind


@pytest.mark.parametrize(
    ("below", "size", "kind"), [(500, 499, EntryKind.PUSH), (500, 500, EntryKind.ADVERT), (0, 0, EntryKind.ADVERT)]
)
def test_push_below_compares_the_users_bytes_not_the_envelope(below: int, size: int, kind: EntryKind) -> None:
    script = Script(push_below=below)
    script.up("p")
    (sent,) = of(script.publish(size)[1], effects.SendUpdates)
    assert entries(sent)[0][2] == kind


def test_an_urgent_artifact_is_pushed_at_any_size_in_a_request_of_its_own() -> None:
    script = Script(Urgent())
    script.up("p")
    sent = of(script.turn(script.blob(), script.blob(1_000_000), script.blob()), effects.SendUpdates)
    assert [len(entries(s)) for s in sent] == [1, 2]
    assert all(s.urgent for s in sent)
    assert {kind for s in sent for _, _, kind in entries(s)} == {EntryKind.PUSH}


@pytest.mark.parametrize("size", [10, 100_000])
def test_every_update_carries_the_clients_key_and_the_encoded_size(size: int) -> None:
    script = Script(Plain())
    script.up("p")
    done = script.turn(inputs.Publish(b"\x07" * size, size))
    (sent,) = of(done, effects.SendUpdates)
    (entry,) = decode_updates(b"".join(sent.body))
    assert (entry.key, entry.size, entry.hop, entry.have) == (b"\x07", size, 0, None)


# Empties


def test_a_freed_slot_is_announced_empty_after_50_ms_with_a_commit_id_of_its_own() -> None:
    script = Script()
    script.up("p")
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    assert not of(script.later(49 * MS), effects.SendUpdates)
    (sent,) = of(script.later(2 * MS), effects.SendUpdates)
    assert entries(sent) == [(0, 2, EntryKind.EMPTY)]


def test_a_freed_slot_that_is_taken_again_in_time_is_never_announced_empty() -> None:
    script = Script()
    script.up("p")
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    script.publish()
    assert not of(script.later(SECOND), effects.SendUpdates)


def test_each_of_many_freed_slots_is_announced_empty_once_at_its_own_time() -> None:
    script = Script()
    script.up("p")
    done = []
    for artifact in [script.publish()[0] for _ in range(3)]:
        script.turn(inputs.Withdraw(artifact))
        done += script.later(20 * MS)
    done += script.later(SECOND)
    assert [entries(sent)[0][::2] for sent in of(done, effects.SendUpdates)] == [(n, EntryKind.EMPTY) for n in range(3)]


def test_an_empty_goes_only_to_peers_an_attempt_may_have_reached() -> None:
    script = Script()
    script.up("p")
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    script.up("q")
    assert [sent.peer for sent in of(script.later(SECOND), effects.SendUpdates)] == ["p"]


def test_an_empty_is_tried_again_until_it_is_answered() -> None:
    script = Script()
    script.up("p")
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    (sent,) = of(script.later(SECOND), effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, None))
    (again,) = of(script.later(SECOND), effects.SendUpdates)
    assert entries(again) == entries(sent)
    script.turn(ok(again))
    assert not of(script.later(60 * SECOND), effects.SendUpdates)


def test_a_slot_that_was_announced_empty_and_is_taken_again_goes_out_with_a_greater_commit_id() -> None:
    script = Script()
    script.up("p")
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    (empty,) = of(script.later(SECOND), effects.SendUpdates)
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    assert entries(sent)[0][0] == entries(empty)[0][0]
    assert entries(sent)[0][1] > entries(empty)[0][1]


# Connections


def test_a_new_connection_gets_all_active_slots_as_adverts() -> None:
    script = Script()
    script.up("p")
    for _ in range(3):
        script.publish()
    (sent,) = of(script.connect("p"), effects.SendUpdates)
    assert entries(sent) == [(0, 0, EntryKind.ADVERT), (1, 1, EntryKind.ADVERT), (2, 2, EntryKind.ADVERT)]
    assert script.core.counters["resent"] == 3


def test_with_relay_push_a_new_connection_gets_the_bytes() -> None:
    script = Script(relay="push")
    script.publish()
    (sent,) = of(script.connect("p"), effects.SendUpdates)
    assert entries(sent) == [(0, 0, EntryKind.PUSH)]


def test_a_connection_that_is_up_already_gets_nothing_again() -> None:
    script = Script()
    script.publish()
    script.up("p", 1)
    assert not of(script.turn(inputs.PeerUp("p", 1)), effects.SendUpdates)


# What is here in part


def offers(done: list[effects.Effect], peer: str) -> list[Entry]:
    return [e for s in of(done, effects.SendUpdates) if s.peer == peer for e in decode_updates(b"".join(s.body))]


def begin(script: Script, made: Made) -> list[effects.Effect]:
    """The core gets part list and part 0 of an artifact of p's, and asks for the rest; q only looks on."""
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    return script.answer(first, made.answer(0, first=True))


def number(fetch: effects.Fetch) -> int:
    (asked,) = decode_fetch(fetch.body).parts
    return asked


def test_parts_are_offered_as_they_arrive_and_told_of_at_most_every_20_ms() -> None:
    script, made = Script(), Made(4 * PART_BYTES)
    done = begin(script, made)
    (offer,) = offers(done, "q")
    assert (offer.kind, offer.have) == (EntryKind.ADVERT, 0b00001)
    asked = of(done, effects.Fetch)
    assert len(asked) == 4
    done = [effect for fetch in asked[:2] for effect in script.answer(fetch, made.answer(number(fetch)))]
    assert not offers(done + script.later(19 * MS), "q")
    (progress,) = offers(script.later(2 * MS), "q")
    assert progress.slot == offer.slot
    assert progress.commit > offer.commit
    assert progress.have == 1 | 1 << number(asked[0]) | 1 << number(asked[1])


def test_what_became_whole_is_announced_anew_in_the_same_slot() -> None:
    script, made = Script(), Made(PART_BYTES + 10)
    done = begin(script, made)
    (offer,) = offers(done, "q")
    (whole,) = offers(script.answer(of(done, effects.Fetch)[0], made.answer(1)), "q")
    assert (whole.slot, whole.kind, whole.have) == (offer.slot, EntryKind.ADVERT, None)
    assert script.core.counters["partial_became_complete"] == 1
    assert script.core.gauges()["slots_in_use"] == 1


def test_what_was_offered_in_part_is_announced_empty_when_it_cannot_become_whole() -> None:
    script, made = Script(), Made(PART_BYTES + 10)
    begin(script, made)
    script.updates("p", Made(nonce=9).push(0, 1))
    (empty,) = [e for e in offers(script.later(SECOND), "q") if e.kind == EntryKind.EMPTY]
    assert empty.slot == 0
    assert script.core.counters["partial_withdrawn"] == 1
    assert script.core.gauges()["slots_in_use"] == 0


@pytest.mark.parametrize("status", [UpdateStatus.HAVE, UpdateStatus.UNWANTED])
def test_more_parts_are_no_news_to_a_peer_that_has_them_all_or_wants_none(status: UpdateStatus) -> None:
    script, made = Script(), Made(4 * PART_BYTES)
    done = begin(script, made)
    to_q = next(s for s in of(done, effects.SendUpdates) if s.peer == "q")
    script.turn(ok(to_q, status))
    for fetch in of(done, effects.Fetch):
        done = script.answer(fetch, made.answer(number(fetch))) + script.later(21 * MS)
        assert not offers(done, "q")
    assert made.id in script.core.pool.validated


def test_a_peer_that_connects_meanwhile_is_told_of_the_parts_there_are() -> None:
    script, made = Script(), Made(PART_BYTES + 10)
    script.up("p")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    script.answer(first, made.answer(0, first=True))
    assert [entry.have for entry in offers(script.connect("q"), "q")] == [0b01]
