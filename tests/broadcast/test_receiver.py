"""The receiver: what a flooding, broken or absent peer's updates come to. It costs itself only."""

import pytest
from tests.broadcast.kit import EPOCH, SECOND, Made, Moody, Plain, Script, Ticking, Undecided, entries, of, ok

from p2pnet.broadcast import AddToValidated, Bounce, effects, inputs, receiver
from p2pnet.broadcast.artifact import part_list
from p2pnet.broadcast.context import EVENTS_PER_PEER
from p2pnet.broadcast.expiry import REFUSED_PER_PEER_MAX
from p2pnet.broadcast.wire import PREFIX_BYTES, EntryKind, UpdateStatus, encode_advert, encode_empty, encode_push
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES, UPDATE_BATCH_BYTES

K = EventKind
EMPTIES = encode_empty(0, 0) * (UPDATE_BATCH_BYTES // PREFIX_BYTES)


def id_of(number: int) -> ArtifactId:
    return ArtifactId(number.to_bytes(32, "big"))


# Rows


def test_rows_of_a_peer_stay_within_the_slot_limit_and_replacement_still_works() -> None:
    script = Script(slots_per_peer=100)
    script.up("p")
    script.up("q")
    for slot in range(300):
        statuses = script.statuses("p", encode_advert(slot, slot, 0, 100, id_of(slot)))
        assert statuses == [UpdateStatus.OK if slot < 100 else UpdateStatus.LIMIT]
    assert script.core.gauges()["rows"] == 100
    assert script.core.gauges()["tasks"] == 100
    assert script.core.counters["rows_over_limit"] == 200
    assert script.statuses("p", encode_empty(5, 5000)) == [UpdateStatus.OK]
    assert script.statuses("q", encode_empty(5, 0)) == [UpdateStatus.OK]
    assert script.core.gauges()["tasks"] == 99


def test_a_late_update_meets_a_tombstone_and_brings_nothing_back() -> None:
    script, made = Script(), Made()
    script.up("p")
    script.updates("p", encode_empty(0, 5))
    assert script.statuses("p", made.push(0, 4)) == [UpdateStatus.OK]
    assert not script.core.pool.holds(made.id)
    assert script.core.counters["tombstone_met"] == 1


def test_updates_of_one_slot_in_any_order_end_at_the_newest() -> None:
    script, old, new = Script(Undecided()), Made(nonce=1), Made(nonce=2)
    script.up("p")
    assert script.statuses("p", new.push(0, 7), old.push(0, 6), new.push(0, 7)) == [UpdateStatus.OK] * 3
    assert list(script.core.pool.unvalidated) == [new.id]
    assert script.core.counters["rows_stale"] == 2


def test_an_unvalidated_artifact_leaves_when_the_last_announcing_row_is_overwritten() -> None:
    script, made = Script(Undecided()), Made()
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    script.updates("q", made.push())
    script.updates("p", encode_empty(0, 1))
    assert list(script.core.pool.unvalidated) == [made.id]
    script.updates("q", encode_empty(0, 1))
    assert not script.core.pool.unvalidated
    assert script.core.quota_used("p") == 0
    assert script.core.at_rest


def test_an_artifact_in_two_slots_of_a_peer_lives_until_both_are_overwritten() -> None:
    script, made = Script(Undecided()), Made()
    script.up("p")
    script.updates("p", made.push(0, 0), made.push(1, 1))
    script.updates("p", encode_empty(0, 2))
    assert list(script.core.pool.unvalidated) == [made.id]
    script.updates("p", encode_empty(1, 3))
    assert not script.core.pool.unvalidated
    assert script.core.counters["same_id_in_two_slots"] == 1


def test_the_rows_of_a_peer_that_stays_away_end_after_a_minute() -> None:
    script, made = Script(Undecided()), Made()
    script.up("p")
    script.updates("p", made.push())
    script.down("p")
    script.later(59 * SECOND)
    assert script.core.gauges()["rows"] == 1
    script.later(2 * SECOND)
    assert script.core.gauges()["rows"] == 0
    assert not script.core.pool.unvalidated
    assert script.core.at_rest


def test_the_rows_of_a_replaced_connection_end_at_synced_or_after_a_minute() -> None:
    script = Script(Undecided())
    script.up("p")
    script.updates("p", Made(nonce=1).push(0, 0), Made(nonce=2).push(1, 1))
    script.up("p")
    script.updates("p", Made(nonce=3).push(2, 0))
    assert script.kinds_pending() == {"row", "timer"}
    script.turn(inputs.SyncedReceived("p", script.connections["p"]))
    assert script.core.gauges()["rows"] == 1
    script.up("p")
    script.later(61 * SECOND)
    assert script.core.gauges()["rows"] == 0
    assert script.core.counters["ghost_rows_ended"] == 2


def test_synced_on_a_replaced_connection_ends_nothing() -> None:
    script = Script(Undecided())
    script.up("p", 1)
    script.updates("p", Made().push())
    script.up("p", 2)
    script.turn(inputs.SyncedReceived("p", 1))
    assert script.core.gauges()["rows"] == 1


def test_updates_that_do_not_come_on_the_current_connection_are_dropped() -> None:
    script, made = Script(), Made()
    script.up("p", 2)
    done = script.turn(inputs.UpdatesReceived("p", 1, 7, made.push()))
    assert of(done, effects.AnswerUpdates) == [effects.AnswerUpdates(7, b"")]
    assert not script.core.pool.holds(made.id)
    assert of(script.turn(inputs.UpdatesReceived("stranger", 9, 8, made.push())), effects.AnswerUpdates)
    assert script.core.gauges()["rows"] == 0


def test_members_that_left_lose_their_rows_in_every_slot_all_at_once() -> None:
    script, made = Script(Undecided()), Made()
    script.turn(inputs.MembersChanged(frozenset({"me", "p", "q", "r"})))
    for peer in "pqr":
        script.up(peer)
        script.updates(peer, made.push(0, 0), made.push(1, 1))
    script.turn(inputs.MembersChanged(frozenset({"me", "r"})))
    assert list(script.core.pool.unvalidated) == [made.id]
    assert script.core.gauges()["rows"] == 2
    script.turn(inputs.MembersChanged(frozenset({"me"})))
    assert not script.core.pool.unvalidated
    assert script.core.gauges()["rows"] == 0


def test_a_member_that_is_away_and_leaves_loses_its_rows_without_the_wait() -> None:
    script = Script(Undecided())
    script.up("p")
    script.updates("p", Made().push())
    script.down("p")
    script.turn(inputs.MembersChanged(frozenset({"me"})))
    assert script.core.gauges()["rows"] == 0
    assert script.core.at_rest


def test_a_peer_that_is_connected_before_the_registry_names_it_keeps_its_rows() -> None:
    script = Script(Undecided())
    script.up("p")
    script.updates("p", Made().push())
    script.turn(inputs.MembersChanged(frozenset({"me"})))
    assert script.core.gauges()["rows"] == 1


def test_a_member_that_left_and_comes_again_has_its_events_reported_anew() -> None:
    script = Script()
    script.up("p")
    for _ in range(2 * EVENTS_PER_PEER):
        script.updates("p", b"nonsense")
    script.updates("p", encode_empty(0, 0))
    script.down("p")
    script.turn(inputs.MembersChanged(frozenset({"me"})))
    script.up("p")
    script.updates("p", b"nonsense")
    assert len(script.events(K.REJECTED)) == EVENTS_PER_PEER + 1


# Bytes


def test_pushes_beyond_a_peers_quota_are_answered_advertise_instead_and_others_are_not() -> None:
    script = Script(Undecided(), bytes_max=5000)
    script.up("p")
    script.up("q")
    statuses = [script.statuses("p", Made(900, nonce=i).push(i, i))[0] for i in range(10)]
    assert statuses == [UpdateStatus.OK] * 5 + [UpdateStatus.ADVERTISE] * 5
    assert script.core.quota_used("p") <= 5000
    assert script.statuses("q", Made(900, nonce=77).push()) == [UpdateStatus.OK]
    assert script.core.counters["updates_postponed"] == 5


def test_a_declared_size_beyond_the_bound_is_malformed_and_nothing_is_fetched() -> None:
    script = Script(artifact_bytes_max=1000)
    script.up("p")
    assert script.statuses("p", encode_advert(0, 0, 0, 1_000_000, id_of(1))) == [UpdateStatus.MALFORMED]
    assert script.statuses("p", Made(50_000).push(1, 1)) == [UpdateStatus.MALFORMED]
    assert script.core.gauges()["tasks"] == script.core.gauges()["rows"] == 0


def test_what_is_larger_than_its_client_allows_only_inside_its_envelope_is_rejected() -> None:
    script, made = Script(artifact_bytes_max=1000), Made(1500)
    script.up("p")
    assert script.statuses("p", made.push()) == [UpdateStatus.MALFORMED]
    assert [emit.detail for emit in script.events(K.REJECTED)] == ["too large"]


def test_one_peer_that_floods_malformed_requests_is_answered_so_each_time() -> None:
    script = Script()
    script.up("p", 1)
    for token in range(10):
        script.give(inputs.UpdatesReceived("p", 1, token, bytes(1_000_000)))
    for _ in range(20):
        script.turn()
    answers = of(script.log, effects.AnswerUpdates)
    assert sorted(answer.token for answer in answers) == list(range(10))
    assert {answer.body for answer in answers} == {bytes([UpdateStatus.MALFORMED])}


# Garbage


def test_malformed_requests_are_answered_so_and_reported() -> None:
    script = Script()
    script.up("p")
    assert script.statuses("p", b"nonsense") == [UpdateStatus.MALFORMED]
    assert [emit.peer for emit in script.events(K.REJECTED)] == ["p"]
    assert script.core.counters["updates_malformed"] == 1


def test_an_artifact_the_client_cannot_read_is_malformed_and_not_taken_again() -> None:
    script, made = Script(), Made.of(b"not a blob")
    script.up("p")
    assert script.statuses("p", made.push(0, 0)) == [UpdateStatus.MALFORMED]
    assert script.statuses("p", made.push(1, 1)) == [UpdateStatus.UNWANTED]
    assert len(script.events(K.REJECTED)) == 1
    assert script.core.quota_used("p") == 0
    assert script.core.is_refused(made.id)


def test_an_artifact_under_another_key_than_its_own_is_rejected() -> None:
    script = Script(Plain())
    script.up("p")
    push = b"".join(encode_push(0, 0, 0, b"data", b"x"))
    assert script.statuses("p", push) == [UpdateStatus.MALFORMED]
    assert [emit.detail for emit in script.events(K.REJECTED)] == ["announced under another key"]


def test_an_expired_artifact_is_unwanted() -> None:
    script, made = Script(), Made(created=EPOCH - 2000, keep_s=1000)
    script.up("p")
    assert script.statuses("p", made.push()) == [UpdateStatus.UNWANTED]
    assert script.core.counters["expired_on_arrival"] == 1


def test_an_artifact_from_the_future_is_rejected_with_its_reason() -> None:
    script, made = Script(), Made(created=EPOCH + 1000)
    script.up("p")
    script.updates("p", made.push())
    assert [(emit.peer, "future" in emit.detail) for emit in script.events(K.REJECTED)] == [("p", True)]
    assert not script.core.pool.holds(made.id)
    assert script.core.quota_used("p") == 0


def test_garbage_pushes_do_not_evict_the_refusal_of_what_was_withdrawn_here() -> None:
    script, gone = Script(), Made(nonce=1)
    script.up("liar")
    script.up("p")
    script.updates("p", gone.push())
    script.turn(inputs.Withdraw(gone.id))
    for number in range(REFUSED_PER_PEER_MAX + 200):
        script.updates("liar", Made.of(b"garbage %d" % number).push(0, number))
    assert script.core.is_refused(gone.id)
    assert script.statuses("p", gone.push(1, 1)) == [UpdateStatus.UNWANTED]
    assert script.core.counters["refusals_evicted"] == 200


def test_events_about_one_peer_are_bounded_and_what_is_left_out_is_counted() -> None:
    script = Script()
    script.up("liar")
    script.up("p")
    for number in range(2 * EVENTS_PER_PEER):
        script.updates("liar", Made.of(b"garbage %d" % number).push(0, number))
    script.updates("p", b"nonsense")
    rejected = script.events(K.REJECTED)
    assert [emit.peer for emit in rejected].count("liar") == EVENTS_PER_PEER
    assert rejected[-1].peer == "p"
    assert script.core.counters["events_left_out"] == EVENTS_PER_PEER
    script.later(SECOND)
    script.updates("liar", b"nonsense")
    assert script.events(K.REJECTED)[-1].peer == "liar"


# What is held already, and what is not wanted


def test_a_second_push_of_a_held_artifact_is_answered_have_and_counts_as_a_duplicate() -> None:
    script, made = Script(), Made(500)
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    assert script.statuses("q", made.push(hop=3)) == [UpdateStatus.HAVE]
    assert script.statuses("q", made.advert(1, 1)) == [UpdateStatus.HAVE]
    assert [(emit.peer, emit.hop, emit.bytes) for emit in script.events(K.DUPLICATE)] == [("q", 4, 500)]


def test_unwanted_is_never_fetched_and_keeps_its_row() -> None:
    script = Script(Moody(Bounce.UNWANTED))
    script.up("p")
    assert script.statuses("p", Made(nonce=1).advert(0, 0), Made(nonce=2).push(1, 1)) == [UpdateStatus.UNWANTED] * 2
    script.later(60 * SECOND)
    assert not of(script.log, effects.Fetch)
    assert not script.events(K.RECEIVED)
    assert script.core.gauges()["rows"] == 2


def test_maybe_later_keeps_no_bytes_and_fetches_when_it_turns_to_wants() -> None:
    client = Ticking(Bounce.MAYBE_LATER)
    script, ids = Script(client), [Made(size, nonce=size) for size in (100, 900, 5000)]
    script.up("p")
    statuses = script.statuses("p", ids[0].push(0, 0), ids[1].push(1, 1), ids[2].advert(2, 2))
    assert statuses == [UpdateStatus.OK] * 3
    script.later(5 * SECOND)
    gauges = script.core.gauges()
    assert (gauges["stashed"], gauges["tasks"], gauges["unvalidated"], script.core.quota_used("p")) == (3, 0, 0, 0)
    client.says = Bounce.WANTS
    fetches = of(script.later(SECOND), effects.Fetch)
    assert len(fetches) == 3
    assert script.core.gauges()["stashed"] == 0


def test_maybe_later_that_turns_to_unwanted_is_forgotten() -> None:
    client = Ticking(Bounce.MAYBE_LATER)
    script = Script(client)
    script.up("p")
    script.updates("p", Made().advert())
    client.says = Bounce.UNWANTED
    script.later(SECOND)
    assert script.core.gauges()["stashed"] == 0
    assert not of(script.log, effects.Fetch)


def test_a_bouncer_that_raises_when_it_is_asked_again_is_asked_once_more() -> None:
    class Shaky(Ticking):
        fails = False

        def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
            if self.fails:
                raise ValueError("not now")
            return super().bouncer(artifact, key, size)

    client = Shaky(Bounce.MAYBE_LATER)
    script = Script(client)
    script.up("p")
    script.updates("p", Made().advert())
    client.fails = True
    script.later(2 * SECOND)
    assert script.core.counters["client_failures"] > 0
    assert script.core.gauges()["stashed"] == 1
    client.fails, client.says = False, Bounce.WANTS
    assert len(of(script.later(SECOND), effects.Fetch)) == 1


def test_what_may_be_wanted_later_is_forgotten_with_its_last_row() -> None:
    script = Script(Ticking(Bounce.MAYBE_LATER))
    script.up("p")
    script.updates("p", Made().advert())
    script.updates("p", encode_empty(0, 1))
    assert script.core.gauges()["stashed"] == 0


def test_what_this_node_produced_meanwhile_is_wanted_no_more() -> None:
    client = Ticking(Bounce.MAYBE_LATER)
    script, made = Script(client), Made(5000)
    script.up("p")
    script.updates("p", made.advert())
    script.turn(inputs.ClientAnswered([AddToValidated(made.data)], 0))
    client.says = Bounce.WANTS
    script.later(5 * SECOND)
    assert not of(script.log, effects.Fetch)
    assert script.core.gauges()["tasks"] == script.core.gauges()["stashed"] == 0


# Pushes of what is being fetched


def test_a_push_that_arrives_meanwhile_completes_the_task() -> None:
    script, made = Script(), Made(3 * PART_BYTES)
    script.up("p")
    script.up("q")
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    done = script.updates("q", made.push())
    assert effects.Cancel(fetch.token) in done
    assert [emit.peer for emit in script.events(K.RECEIVED)] == ["q"]
    assert script.core.gauges()["tasks"] == script.core.quota_used("p") == script.core.quota_used("q") == 0
    assert script.core.counters["push_completed_a_fetch"] == 1


@pytest.mark.parametrize("made", [Made.of(bytes(3 * PART_BYTES)), Made(3 * PART_BYTES, created=EPOCH - 9, keep_s=5)])
def test_a_push_that_shows_a_fetch_to_be_vain_ends_it_with_what_was_offered_of_it(made: Made) -> None:
    script = Script()
    for peer in "pqr":
        script.up(peer)
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    script.answer(fetch, made.answer(0, first=True))
    assert script.core.gauges()["slots_in_use"] == 1
    script.updates("q", made.push())
    gauges = script.core.gauges()
    assert (gauges["tasks"], gauges["slots_in_use"], gauges["unvalidated"]) == (0, 0, 0)
    done = script.later(SECOND)
    assert [entries(s)[0][2] for s in of(done, effects.SendUpdates) if s.peer == "r"] == [EntryKind.EMPTY]
    for sent in of(done, effects.SendUpdates):
        script.turn(ok(sent))
    script.updates("p", encode_empty(0, 9))
    script.updates("q", encode_empty(0, 9))
    assert not script.core.quota_used("p") + script.core.quota_used("q")


# Repeated pushes


def test_a_push_of_what_is_held_is_known_by_its_bytes_and_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = list[bytes]()

    def listed(data: bytes) -> bytes:
        hashed.append(data)
        return part_list(data)

    monkeypatch.setattr(receiver, "part_list", listed)
    script, made = Script(full_mesh=False), Made(700)
    for peer in "pqr":
        script.up(peer)
    said = [script.statuses(peer, made.push(origin=7)) for peer in "pqr"]
    assert said == [[UpdateStatus.OK], [UpdateStatus.HAVE], [UpdateStatus.HAVE]]
    assert hashed == [made.data]
    assert len(script.events(EventKind.DUPLICATE)) == 2
    assert all(script.core.announced_by(peer) == [made.id] for peer in "pqr")


@pytest.mark.parametrize("at", [0, 350, -1])
def test_a_push_that_differs_by_a_bit_from_what_is_held_is_another_artifact(at: int) -> None:
    script = Script(full_mesh=False, client=Plain())
    script.up("p")
    script.up("q")
    first, other = Made.of(bytes(700)), bytearray(700)
    other[at] ^= 1
    for peer, data in (("p", first.data), ("q", bytes(other))):
        key = data[:1]
        assert script.statuses(peer, b"".join(encode_push(0, 0, 0, data, key, origin=7))) == [UpdateStatus.OK]
    assert sorted(one.data for one in script.core.pool.validated.values()) == sorted([first.data, bytes(other)])


def test_a_push_of_the_held_bytes_under_another_key_is_not_taken_for_them() -> None:
    script = Script(full_mesh=False, client=Plain())
    script.up("p")
    script.up("q")
    data = bytes(700)
    assert script.statuses("p", b"".join(encode_push(0, 0, 0, data, data[:1], origin=7))) == [UpdateStatus.OK]
    said = script.statuses("q", b"".join(encode_push(0, 0, 0, data, b"k", origin=7)))
    assert said == [UpdateStatus.MALFORMED]  # as the first of all would be: its key is not the client's
