"""Delivery: the table of an update's states, and what is written to scripted peers, when, and when again."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.broadcast.kit import MS, SECOND, Made, Script, Urgent, entries, of, ok

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.delivery import AFTER, NEXT, REQUESTS_PER_PEER, DeliveryEvent, DeliveryState, PeerOutbox
from p2pnet.broadcast.wire import EntryKind, UpdateStatus
from p2pnet.model.events import EventKind
from p2pnet.model.limits import UPDATE_BATCH_BYTES

H = DeliveryEvent
STATES: list[DeliveryState | None] = [None, *DeliveryState]

# The table of states

LEADS_TO: dict[DeliveryState | None, set[DeliveryState | None]] = {
    None: {None, DeliveryState.DUE},
    DeliveryState.DUE: {DeliveryState.DUE, DeliveryState.IN_FLIGHT, DeliveryState.SUPPRESSED, None},
    DeliveryState.IN_FLIGHT: {DeliveryState.IN_FLIGHT, DeliveryState.DUE, DeliveryState.PAUSED, None},
    DeliveryState.PAUSED: {DeliveryState.PAUSED, DeliveryState.DUE, DeliveryState.SUPPRESSED, None},
    DeliveryState.SUPPRESSED: {DeliveryState.SUPPRESSED, DeliveryState.DUE, None},
}


def after(state: DeliveryState | None, happening: DeliveryEvent) -> DeliveryState | None:
    return NEXT.get((state, happening), state)


@pytest.mark.parametrize("state", STATES)
def test_a_state_leads_exactly_where_it_should(state: DeliveryState | None) -> None:
    assert {after(state, happening) for happening in H} == LEADS_TO[state]


@pytest.mark.parametrize(("state", "happening"), list(product(STATES, H)))
def test_every_pair_of_state_and_happening_has_one_meaning(
    state: DeliveryState | None, happening: DeliveryEvent
) -> None:
    following = after(state, happening)
    if happening is H.MARKED:
        assert following is DeliveryState.DUE
    elif happening is H.FREED:
        assert following is None
    elif happening is H.HELD:
        assert following is (DeliveryState.SUPPRESSED if state in {DeliveryState.DUE, DeliveryState.PAUSED} else state)
    elif happening is H.ROW_ENDED:
        assert following is (DeliveryState.DUE if state is DeliveryState.SUPPRESSED else state)
    elif happening is H.RESUMED:
        assert following is (DeliveryState.DUE if state is DeliveryState.PAUSED else state)
    elif happening is H.WRITTEN:
        assert following is (DeliveryState.IN_FLIGHT if state is DeliveryState.DUE else state)
    else:  # an answer: it speaks of what is on its way only
        settled = {H.FAILED: DeliveryState.PAUSED, H.ADVERTISE: DeliveryState.DUE}.get(happening)
        assert following is (settled if state is DeliveryState.IN_FLIGHT else state)


def test_the_table_names_no_line_that_changes_nothing_but_the_vacant_one() -> None:
    idle = [pair for pair, following in NEXT.items() if following is pair[0]]
    assert idle == [(None, H.HELD)]


@pytest.mark.parametrize("state", [state for state in STATES if state is not None])
def test_every_state_can_reach_rest_and_is_reached(state: DeliveryState) -> None:
    assert None in LEADS_TO[state]
    assert any(state in following for other, following in LEADS_TO.items() if other is not state)


def test_every_status_a_peer_may_answer_has_a_consequence() -> None:
    assert set(AFTER) == {int(status) for status in UpdateStatus}


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(H), st.booleans()), max_size=60))
def test_exactly_the_slots_that_are_due_wait_to_be_written(steps: list[tuple[int, DeliveryEvent, bool]]) -> None:
    box = PeerOutbox("p", 1)
    states: dict[int, DeliveryState | None] = {}
    box.before_synced = dict.fromkeys(range(4))
    for slot, happening, push in steps:
        states[slot] = after(states.get(slot), happening)
        assert box.step(slot, happening, push=push) is states[slot]
        assert box.states == {slot: state for slot, state in states.items() if state is not None}
        assert set(box.due) == {slot for slot, state in states.items() if state is DeliveryState.DUE}
        if states[slot] in {None, DeliveryState.SUPPRESSED}:
            assert slot not in box.before_synced
            assert slot not in (box.attempts or {})


# Batches


def test_updates_of_one_turn_travel_in_one_request_and_are_encoded_once_for_all_peers() -> None:
    script = Script()
    script.up("p")
    script.up("q")
    sent = of(script.turn(*[script.blob() for _ in range(20)]), effects.SendUpdates)
    assert [s.peer for s in sent] == ["p", "q"]
    assert len(entries(sent[0])) == 20
    assert all(a is b for a, b in zip(sent[0].body, sent[1].body, strict=True))


def test_a_batch_stays_below_its_bound() -> None:
    script = Script()
    script.up("p")
    sent = of(script.turn(*[script.blob(1000) for _ in range(100)]), effects.SendUpdates)
    assert sum(len(entries(s)) for s in sent) == 100
    assert all(len(b"".join(s.body)) <= UPDATE_BATCH_BYTES for s in sent)
    assert len(sent) == 7


def test_a_large_push_travels_alone_and_is_not_copied() -> None:
    script = Script()
    script.up("p")
    script.up("q")
    publish = script.blob(60_000)
    sent = of(script.turn(script.blob(), publish, script.blob()), effects.SendUpdates)
    large = [s for s in sent if len(entries(s)) == 1]
    assert [len(entries(s)) for s in sent] == [1, 2, 1, 2]
    assert all(s.body[1] is publish.data for s in large)


def test_a_peer_that_does_not_answer_has_a_bounded_number_of_requests_in_flight() -> None:
    script = Script()
    script.up("p")
    sent = [s for _ in range(200) for s in of(script.publish()[1], effects.SendUpdates)]
    assert len(sent) == REQUESTS_PER_PEER
    (next_one,) = of(script.turn(ok(sent[0])), effects.SendUpdates)
    assert len(entries(next_one)) == 200 - REQUESTS_PER_PEER


# Answers


def test_a_peer_that_fails_is_tried_again_with_growing_pauses_until_it_answers() -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    times = [script.now]
    for _ in range(6):
        script.turn(inputs.UpdatesAnswered(sent.token, None))
        while not (again := of(script.later(50 * MS), effects.SendUpdates)):
            pass
        (sent,) = again
        times.append(script.now)
    script.turn(ok(sent))
    assert not of(script.later(300 * SECOND), effects.SendUpdates)
    gaps = [b - a for a, b in pairwise(times)]
    assert all(b > 1.2 * a for a, b in pairwise(gaps))
    assert script.core.counters["delivered"] == 1


@pytest.mark.parametrize("status", [UpdateStatus.BUSY, UpdateStatus.LIMIT])
def test_busy_and_limit_are_retried_for_ever_at_most_a_minute_apart(status: UpdateStatus) -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    for _ in range(15):
        script.turn(ok(sent, status))
        (sent,) = of(script.later(80 * SECOND), effects.SendUpdates)
    assert entries(sent) == [(0, 0, EntryKind.PUSH)]


def test_pauses_begin_anew_once_a_peer_has_answered() -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    for _ in range(8):
        script.turn(ok(sent, UpdateStatus.BUSY))
        (sent,) = of(script.later(80 * SECOND), effects.SendUpdates)
    script.turn(ok(sent))
    (other,) = of(script.publish()[1], effects.SendUpdates)
    script.turn(ok(other, UpdateStatus.BUSY))
    assert of(script.later(320 * MS), effects.SendUpdates)


def test_one_failed_update_of_a_request_is_retried_alone() -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.turn(*[script.blob() for _ in range(5)]), effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, bytes([0, 0, UpdateStatus.BUSY, 1, 2])))
    (again,) = of(script.later(SECOND), effects.SendUpdates)
    assert [slot for slot, _, _ in entries(again)] == [2]


@pytest.mark.parametrize("body", [bytes([UpdateStatus.MALFORMED]), bytes([UpdateStatus.MALFORMED]) * 2])
def test_what_a_peer_calls_malformed_is_given_up_and_reported(body: bytes) -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.turn(script.blob(), script.blob()), effects.SendUpdates)
    done = script.turn(inputs.UpdatesAnswered(sent.token, body))
    assert [emit.kind for emit in of(done, effects.Emit)] == [EventKind.GIVEN_UP] * 2
    assert not of(script.later(300 * SECOND), effects.SendUpdates)
    assert script.core.counters["given_up"] == 2


@pytest.mark.parametrize("body", [b"", b"\x00\x00", b"\xff"])
def test_a_senseless_answer_is_a_failure(body: bytes) -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, body))
    assert len(of(script.later(SECOND), effects.SendUpdates)) == 1


def test_a_peer_without_room_gets_an_advert_at_once_instead() -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    (again,) = of(script.turn(ok(sent, UpdateStatus.ADVERTISE)), effects.SendUpdates)
    assert entries(again) == [(0, 0, EntryKind.ADVERT)]


def test_a_peer_that_wants_an_advert_instead_of_an_advert_is_asked_again_after_a_pause() -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish(100_000)[1], effects.SendUpdates)
    assert not of(script.turn(ok(sent, UpdateStatus.ADVERTISE)), effects.SendUpdates)
    assert len(of(script.later(SECOND), effects.SendUpdates)) == 1


def test_a_retry_carries_what_the_slot_holds_by_then() -> None:
    script = Script()
    script.up("p")
    first, done = script.publish()
    (sent,) = of(done, effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, None))
    script.turn(inputs.Withdraw(first))
    (fresh,) = of(script.publish()[1], effects.SendUpdates)
    script.turn(ok(fresh))
    assert not of(script.later(10 * SECOND), effects.SendUpdates)


def test_an_answer_to_content_that_has_changed_since_says_nothing() -> None:
    script = Script()
    script.up("p")
    first, done = script.publish()
    (old,) = of(done, effects.SendUpdates)
    script.turn(inputs.Withdraw(first))
    (new,) = of(script.publish()[1], effects.SendUpdates)
    assert entries(new)[0][0] == entries(old)[0][0]
    script.turn(ok(old))
    assert script.core.counters["content_changed_on_its_way"] == 1
    assert script.core.counters["delivered"] == 0
    script.turn(inputs.UpdatesAnswered(new.token, None))
    assert len(of(script.later(SECOND), effects.SendUpdates)) == 1


def test_answers_of_an_older_connection_are_ignored() -> None:
    script = Script()
    script.up("p")
    (old,) = of(script.publish()[1], effects.SendUpdates)
    (new,) = of(script.connect("p"), effects.SendUpdates)
    script.turn(ok(old))
    assert script.core.counters["delivered"] == 0
    script.turn(ok(new))
    assert script.core.counters["delivered"] == 1


def test_the_end_of_an_older_connection_is_ignored() -> None:
    script = Script()
    script.up("p", 1)
    script.up("p", 2)
    script.turn(inputs.PeerDown("p", 1))
    assert len(of(script.publish()[1], effects.SendUpdates)) == 1


def test_retries_end_with_their_connection() -> None:
    script = Script()
    script.up("p")
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, None))
    script.down("p")
    assert not of(script.later(300 * SECOND), effects.SendUpdates)
    assert script.core.at_rest


# Withdrawn on the way


def test_withdrawn_before_writing_the_entry_is_left_out() -> None:
    script = Script()
    script.up("p")
    one, two = script.blob(), script.blob()
    first = of(script.give(one), effects.Published)[0].artifact
    script.give(two)
    (sent,) = of(script.turn(inputs.Withdraw(first)), effects.SendUpdates)
    assert [slot for slot, _, _ in entries(sent)] == [1]
    assert not of(script.later(SECOND), effects.SendUpdates)


def test_a_lone_large_push_is_reset_on_withdrawal_and_an_empty_follows() -> None:
    script = Script(Urgent())
    script.up("p")
    first, done = script.publish(5_000_000)
    (sent,) = of(done, effects.SendUpdates)
    assert of(script.turn(inputs.Withdraw(first)), effects.Cancel) == [effects.Cancel(sent.token)]
    (empty,) = of(script.later(SECOND), effects.SendUpdates)
    assert entries(empty)[0][2] == EntryKind.EMPTY
    assert not script.turn(inputs.UpdatesAnswered(sent.token, None))


def test_an_update_in_a_batch_is_not_reset_on_withdrawal() -> None:
    script = Script()
    script.up("p")
    first, _ = script.publish()
    assert not of(script.turn(inputs.Withdraw(first)), effects.Cancel)


# What a peer holds already


def test_nothing_is_sent_to_a_peer_that_shows_it_complete() -> None:
    script, made = Script(full_mesh=False), Made()
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    sent = of(script.log, effects.SendUpdates)
    assert [s.peer for s in sent] == ["q"]
    assert script.core.counters["suppressed"] == 1


def test_a_suppressed_update_is_due_at_once_when_the_peers_row_ends() -> None:
    script, made, other = Script(full_mesh=False, relay="advert"), Made(), Made(nonce=1)
    script.up("p")
    script.updates("p", made.push(0, 0))
    sent = of(script.updates("p", other.push(0, 1)), effects.SendUpdates)
    assert [entries(s) for s in sent] == [[(0, 0, EntryKind.ADVERT)]]
    assert script.core.counters["due_when_row_ended"] == 1


def test_a_suppressed_update_stays_so_while_another_row_shows_it() -> None:
    script, made, other = Script(full_mesh=False), Made(), Made(nonce=1)
    script.up("p")
    script.updates("p", made.push(0, 0), made.advert(1, 1))
    assert not of(script.updates("p", other.push(0, 2)), effects.SendUpdates)


def test_a_slot_whose_empty_was_answered_owes_the_peer_no_word_about_what_it_holds_next() -> None:
    script, made = Script(full_mesh=False), Made()
    script.up("p")
    first, done = script.publish()
    script.turn(ok(of(done, effects.SendUpdates)[0]))
    script.turn(inputs.Withdraw(first))
    (empty,) = of(script.later(SECOND), effects.SendUpdates)
    script.turn(ok(empty))
    assert not of(script.updates("p", made.push()), effects.SendUpdates)
    assert script.core.counters["suppressed"] == 1


def test_a_partial_row_suppresses_nothing() -> None:
    script, made = Script(full_mesh=False), Made(200_000)
    script.up("p")
    script.up("q")
    script.updates("q", made.advert(have=0b0001))
    done = script.turn(inputs.Publish(made.data, 200_000))
    assert sorted(s.peer for s in of(done, effects.SendUpdates)) == ["p", "q"]


def test_a_push_is_not_repeated_to_a_peer_that_meanwhile_shows_it_complete() -> None:
    script, made = Script(), Made(50_000)
    script.up("p")
    script.turn(inputs.Publish(made.data, 50_000))
    (sent,) = of(script.log, effects.SendUpdates)[-1:]
    assert entries(sent)[0][2] == EntryKind.PUSH
    script.turn(ok(sent, UpdateStatus.BUSY))
    script.updates("p", made.advert())
    later = of(script.later(10 * SECOND), effects.SendUpdates)
    assert [kind for s in later for _, _, kind in entries(s)] == [EntryKind.ADVERT]


def test_a_push_that_waits_behind_too_many_requests_turns_into_an_advert_when_the_peer_shows_it() -> None:
    script, made = Script(), Made()
    script.up("p")
    first, done = script.publish()
    sent = of(done, effects.SendUpdates)
    for _ in range(REQUESTS_PER_PEER - 1):
        sent += of(script.publish()[1], effects.SendUpdates)
    script.turn(inputs.Withdraw(first))
    script.turn(inputs.Publish(made.data, 10))
    script.updates("p", made.advert())
    (last,) = of(script.turn(ok(sent[0])), effects.SendUpdates)
    assert [(slot, kind) for slot, _, kind in entries(last)] == [(0, EntryKind.ADVERT)]


def test_what_a_peer_shows_before_the_turn_ends_is_not_pushed_to_it() -> None:
    script, made = Script(), Made()
    script.up("p")
    script.up("q")
    script.give(inputs.Publish(made.data, 10))
    sent = of(script.updates("p", made.advert()), effects.SendUpdates)
    assert [s.peer for s in sent] == ["q"]


# Synced


def test_synced_is_said_when_all_that_was_active_is_answered() -> None:
    script = Script()
    script.up("p")
    for _ in range(3):
        script.publish()
    done = script.connect("p")
    (sent,) = of(done, effects.SendUpdates)
    assert not of(done, effects.SendSynced)
    (synced,) = of(script.turn(ok(sent)), effects.SendSynced)
    assert (synced.peer, synced.connection) == ("p", script.connections["p"])


def test_synced_waits_for_the_update_that_failed() -> None:
    script = Script()
    for _ in range(2):
        script.publish()
    (sent,) = of(script.connect("p"), effects.SendUpdates)
    assert not of(script.turn(inputs.UpdatesAnswered(sent.token, bytes([0, UpdateStatus.BUSY]))), effects.SendSynced)
    (again,) = of(script.later(SECOND), effects.SendUpdates)
    assert of(script.turn(ok(again)), effects.SendSynced)


def test_synced_waits_for_nothing_that_was_withdrawn_given_up_or_suppressed() -> None:
    script, made = Script(full_mesh=False), Made()
    first, _ = script.publish()
    script.publish()
    script.turn(inputs.Publish(made.data, 10))
    (sent,) = of(script.connect("p"), effects.SendUpdates)
    script.turn(inputs.Withdraw(first))
    answer = bytes([UpdateStatus.OK, UpdateStatus.MALFORMED, UpdateStatus.BUSY])
    assert not of(script.turn(inputs.UpdatesAnswered(sent.token, answer)), effects.SendSynced)
    script.updates("p", made.advert())
    empty, last = of(script.later(SECOND), effects.SendUpdates)
    assert not of(script.turn(ok(empty)), effects.SendSynced)
    assert of(script.turn(ok(last)), effects.SendSynced)


def test_synced_is_said_again_after_a_failure_while_the_connection_lives() -> None:
    script = Script()
    (synced,) = of(script.connect("p"), effects.SendSynced)
    script.turn(inputs.SyncedAnswered(synced.token, ok=False))
    (again,) = of(script.later(SECOND), effects.SendSynced)
    script.turn(inputs.SyncedAnswered(again.token, ok=False))
    script.down("p")
    assert not of(script.later(10 * SECOND), effects.SendSynced)
