"""The pool manager: what enters and leaves the pool, whoever asked for it, and what follows from it."""

from collections.abc import Callable

import pytest
from tests.broadcast.kit import EPOCH, SECOND, Made, Plain, Script, Undecided, entries, of, ok

from p2pnet.broadcast import (
    AddToValidated,
    HandleInvalid,
    MoveToValidated,
    PurgeBelow,
    RemoveFromUnvalidated,
    RemoveFromValidated,
    effects,
    inputs,
    make_blob,
)
from p2pnet.broadcast.expiry import REFUSED_AFTER_S
from p2pnet.broadcast.manager import PUBLICATIONS_QUEUED_MAX
from p2pnet.broadcast.wire import EntryKind, UpdateStatus, encode_empty
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

K = EventKind


def client_says(script: Script, *actions: object) -> list[effects.Effect]:
    """As if the client had been run and had answered this."""
    return script.turn(inputs.ClientAnswered(list(actions), 0))


# Publications


def test_a_publication_is_in_the_pool_at_once_and_says_so() -> None:
    script, made = Script(), Made(77)
    done = script.turn(inputs.Publish(made.data, 77))
    assert of(done, effects.Published) == [effects.Published(made.id)]
    assert [(emit.kind, emit.peer, emit.hop, emit.bytes) for emit in of(done, effects.Emit)] == [
        (K.PUBLISHED, "", 0, 77)
    ]
    found = script.core.user_bytes(made.id)
    assert found is not None
    assert (found[0], bytes(found[1])) == ("f", made.data[-77:])


def test_a_publication_without_a_free_slot_waits_and_is_sent_when_one_is_free() -> None:
    script = Script(slots_per_peer=2)
    script.up("p")
    first, _ = script.publish()
    script.publish()
    third, done = script.publish()
    assert not of(done, effects.SendUpdates)
    assert script.core.pool.get(third) is not None
    assert script.core.waiting_for_slot() == [third]
    (sent,) = of(script.turn(inputs.Withdraw(first)), effects.SendUpdates)
    assert entries(sent)[0][0] == 0
    assert script.core.waiting_for_slot() == []


def test_publications_that_wait_keep_their_order() -> None:
    script = Script(slots_per_peer=1)
    first, _ = script.publish()
    waiting = [script.publish()[0] for _ in range(3)]
    for artifact in [first, *waiting]:
        assert script.core.waiting_for_slot() == waiting
        script.turn(inputs.Withdraw(artifact))
        waiting = waiting[1:]


def test_a_withdrawn_publication_leaves_the_line_for_a_slot() -> None:
    script = Script(slots_per_peer=1)
    script.up("p")
    first, _ = script.publish()
    gone = [script.publish()[0] for _ in range(PUBLICATIONS_QUEUED_MAX)]
    assert of(script.turn(script.blob()), effects.PublishRefused)
    for artifact in gone[:-1]:
        script.turn(inputs.Withdraw(artifact))
    assert script.core.waiting_for_slot() == gone[-1:]
    assert script.core.counters["slot_queue_withdrawn"] == len(gone) - 1
    assert not of(script.turn(script.blob()), effects.PublishRefused)
    script.turn(inputs.Withdraw(first))
    assert len(script.core.waiting_for_slot()) == 1
    assert script.core.gauges()["slots_in_use"] == 1


def test_a_publication_that_expires_leaves_the_line_for_a_slot() -> None:
    script = Script(slots_per_peer=1)
    script.publish()
    brief = inputs.Publish(make_blob("f", b"x", bytes(16), EPOCH, EPOCH + 5), 1)
    script.turn(brief)
    assert len(script.core.waiting_for_slot()) == 1
    script.later(6 * SECOND)
    assert script.core.waiting_for_slot() == []


def test_a_publication_that_cannot_even_wait_is_refused_reported_and_names_keep() -> None:
    script = Script(slots_per_peer=1)
    for _ in range(PUBLICATIONS_QUEUED_MAX + 1):
        script.publish()
    done = script.turn(script.blob())
    (refused,) = of(done, effects.PublishRefused)
    assert refused.code == "no-slot"
    assert "keep" in refused.message
    assert [emit.kind for emit in of(done, effects.Emit)] == [K.QUEUE_FULL]
    assert script.core.counters["publications_refused"] == 1


@pytest.mark.parametrize(
    ("publish", "code"),
    [
        (inputs.Publish(make_blob("f", bytes(101), bytes(16), EPOCH, EPOCH + 9), 101), "too-large"),
        (inputs.Publish(b"no blob", 7), "malformed"),
        (inputs.Publish(make_blob("f", b"", bytes(16), 1, 2), 0), "malformed"),
    ],
)
def test_too_large_malformed_and_expired_publications_are_refused(publish: inputs.Publish, code: str) -> None:
    script = Script(artifact_bytes_max=100)
    (refused,) = of(script.turn(publish), effects.PublishRefused)
    assert refused.code == code
    assert not script.core.pool.validated


def test_a_publication_with_a_key_beyond_32_bytes_is_refused() -> None:
    class LongKeys(Plain):
        def inspect(self, data: bytes):
            from p2pnet.broadcast import Inspected

            return Inspected(size=len(data), key=data[:40])

    script = Script(LongKeys())
    assert of(script.turn(inputs.Publish(bytes(32), 32)), effects.Published)
    (refused,) = of(script.turn(inputs.Publish(bytes(33), 33)), effects.PublishRefused)
    assert "key" in refused.message


def test_what_was_withdrawn_cannot_be_published_again_before_it_would_have_expired() -> None:
    script, made = Script(), Made(10, keep_s=100)
    script.turn(inputs.Publish(made.data, 10))
    script.turn(inputs.Withdraw(made.id))
    assert of(script.turn(inputs.Publish(made.data, 10)), effects.PublishRefused)


# Produced by this node while it was on its way


def by_its_user(script: Script, made: Made) -> list[effects.Effect]:
    return script.turn(inputs.Publish(made.data, len(made.data)))


def by_its_client(script: Script, made: Made) -> list[effects.Effect]:
    return client_says(script, AddToValidated(made.data))


Produce = Callable[[Script, Made], list[effects.Effect]]


@pytest.mark.parametrize("produce", [by_its_user, by_its_client])
@pytest.mark.parametrize("size", [5000, 3 * PART_BYTES])
def test_a_node_that_produces_what_it_is_just_fetching_keeps_and_announces_it(produce: Produce, size: int) -> None:
    script, made = Script(), Made(size)
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    open_now = [first]
    if size > PART_BYTES:
        open_now = of(script.answer(first, made.answer(0, first=True)), effects.Fetch)
    done = produce(script, made)
    assert all(effects.Cancel(fetch.token) in done for fetch in open_now)
    assert script.core.gauges()["tasks"] == script.core.quota_used("p") == 0
    assert made.id in script.core.pool.validated
    assert not script.core.pool.unvalidated
    last = [e for s in of(script.log, effects.SendUpdates) if s.peer == "q" for e in entries(s)][-1]
    assert last[2] == (EntryKind.PUSH if size < PART_BYTES else EntryKind.ADVERT)
    assert script.core.counters["produced_what_was_fetched"] == 1
    for fetch in open_now:
        script.answer(fetch, made.answer(0, first=True))
    script.later(120 * SECOND)
    assert not script.events(K.RECEIVED)
    assert script.core.gauges()["slots_in_use"] == 1
    assert not script.kinds_pending() & {"task", "bytes"}


@pytest.mark.parametrize("produce", [by_its_user, by_its_client])
def test_a_node_that_produces_what_it_has_not_judged_yet_owes_nobody_a_byte(produce: Produce) -> None:
    script, made = Script(Undecided()), Made(5000)
    script.up("p")
    script.updates("p", made.push())
    assert script.core.quota_used("p") > 0
    produce(script, made)
    assert script.core.quota_used("p") == 0
    assert list(script.core.pool.validated) == [made.id]
    assert not script.core.pool.unvalidated
    script.updates("p", encode_empty(0, 1))
    assert made.id in script.core.pool.validated


# Withdrawn, purged, expired


def test_withdrawing_before_it_arrives_keeps_it_away() -> None:
    script, made = Script(), Made()
    script.up("p")
    script.turn(inputs.Withdraw(made.id))
    assert script.statuses("p", made.push()) == [UpdateStatus.UNWANTED]
    assert script.statuses("p", made.advert(1, 1)) == [UpdateStatus.UNWANTED]
    assert script.core.counters["purged_id_met"] == 2


def test_withdrawing_during_a_fetch_ends_it_and_what_was_offered_of_it() -> None:
    script, made = Script(), Made(3 * PART_BYTES)
    script.up("p")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    script.answer(first, made.answer(0, first=True))
    done = script.turn(inputs.Withdraw(made.id))
    assert len(of(done, effects.Cancel)) == 3
    gauges = script.core.gauges()
    assert (gauges["tasks"], gauges["slots_in_use"], script.core.quota_used("p")) == (0, 0, 0)
    assert script.statuses("p", made.advert(0, 1)) == [UpdateStatus.UNWANTED]


def test_withdrawing_says_so_once_and_only_of_what_was_valid_here() -> None:
    script, made = Script(), Made()
    script.up("p")
    script.updates("p", made.push())
    script.turn(inputs.Withdraw(made.id))
    script.turn(inputs.Withdraw(made.id))
    script.turn(inputs.Withdraw(Made(nonce=5).id))
    assert [(emit.artifact, emit.detail) for emit in script.events(K.REMOVED)] == [(made.id, "withdrawn")]


def test_an_expired_artifact_leaves_and_stays_away_for_a_while() -> None:
    script, made = Script(), Made(10, keep_s=5)
    script.up("p")
    script.updates("p", made.push())
    script.later(6 * SECOND)
    assert [(emit.artifact, emit.detail) for emit in script.events(K.REMOVED)] == [(made.id, "expired")]
    assert script.core.is_refused(made.id)
    assert script.statuses("p", made.advert(0, 1)) == [UpdateStatus.UNWANTED]
    script.later(int(REFUSED_AFTER_S) * SECOND)
    assert not script.core.is_refused(made.id)
    assert script.core.at_rest


def test_a_fetch_of_what_expires_meanwhile_ends_at_its_end() -> None:
    script, made = Script(), Made(3 * PART_BYTES, keep_s=5)
    script.up("p")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    parts = of(script.answer(first, made.answer(0, first=True)), effects.Fetch)
    script.later(6 * SECOND)
    for fetch in parts:
        script.answer(fetch, made.answer(fetch.body[-1]))
    gauges = script.core.gauges()
    assert (gauges["tasks"], gauges["slots_in_use"], gauges["unvalidated"], script.core.quota_used("p")) == (0, 0, 0, 0)
    assert script.core.is_refused(made.id)


def test_a_purge_removes_from_this_nodes_pool_and_keeps_the_id_away() -> None:
    script, made = Script(), Made()
    script.up("p")
    script.updates("p", made.push())
    script.turn(inputs.Purge(made.id))
    assert not script.core.pool.holds(made.id)
    assert [emit.detail for emit in script.events(K.REMOVED)] == ["purged"]
    assert script.core.is_refused(made.id)
    assert not script.turn(inputs.Purge(ArtifactId(bytes(32))))


def test_ids_purged_unequally_are_not_revived_by_those_that_still_hold_them() -> None:
    script, made = Script(), Made()
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    script.turn(inputs.Purge(made.id))
    script.up("q")
    assert script.statuses("q", made.advert()) == [UpdateStatus.UNWANTED]
    script.later(60 * SECOND)
    assert not script.core.pool.holds(made.id)


# The client's actions


def test_a_valid_artifact_moves_and_its_deliverer_is_charged_no_more() -> None:
    script, made = Script(Undecided()), Made(500)
    script.up("p")
    script.updates("p", made.push(hop=2))
    client_says(script, MoveToValidated(made.id))
    assert list(script.core.pool.validated) == [made.id]
    assert script.core.quota_used("p") == 0
    (valid,) = script.events(K.VALIDATED)
    assert (valid.peer, valid.hop, valid.bytes) == ("p", 3, 500)


def test_an_invalid_artifact_is_removed_reported_and_not_taken_again() -> None:
    script, made = Script(Undecided()), Made()
    script.up("p")
    script.updates("p", made.push())
    client_says(script, HandleInvalid(made.id, "bad signature"))
    assert [(emit.peer, emit.detail) for emit in script.events(K.REJECTED)] == [("p", "bad signature")]
    assert script.core.quota_used("p") == 0
    assert script.statuses("p", made.push(1, 1)) == [UpdateStatus.UNWANTED]


def test_what_the_client_does_not_need_is_removed_without_blame() -> None:
    script, made = Script(Undecided()), Made()
    script.up("p")
    script.updates("p", made.push())
    client_says(script, RemoveFromUnvalidated(made.id))
    assert not script.core.pool.holds(made.id)
    assert not script.events(K.REJECTED)
    assert script.core.is_refused(made.id)
    assert script.core.quota_used("p") == 0


def test_a_purge_below_a_height_leaves_the_rest() -> None:
    script = Script(Plain())
    ids = [of(script.turn(inputs.Publish(bytes([n]) * 9, 9)), effects.Published)[0].artifact for n in range(5)]
    client_says(script, PurgeBelow(3))
    assert list(script.core.pool.validated) == ids[3:]
    assert script.core.gauges()["slots_in_use"] == 2


def test_an_answer_about_artifacts_that_left_meanwhile_changes_nothing() -> None:
    script, ghost = Script(), ArtifactId(bytes(32))
    actions = [
        MoveToValidated(ghost),
        RemoveFromValidated(ghost),
        RemoveFromUnvalidated(ghost),
        HandleInvalid(ghost, ""),
    ]
    assert not of(client_says(script, *actions), effects.Emit)
    assert not script.core.is_refused(ghost)


def test_a_product_the_core_cannot_take_is_reported() -> None:
    script = Script()
    client_says(script, AddToValidated(b"not a blob"))
    assert [emit.kind for emit in of(script.log, effects.Emit)] == [K.REJECTED]


def test_withdrawn_at_the_receiver_the_slot_it_relayed_in_is_freed() -> None:
    script, made = Script(full_mesh=False), Made()
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    for sent in of(script.log, effects.SendUpdates):
        script.turn(ok(sent))
    script.turn(inputs.Withdraw(made.id))
    assert script.core.gauges()["slots_in_use"] == 0
    sent = of(script.later(SECOND), effects.SendUpdates)
    assert [(s.peer, entries(s)[0][2]) for s in sent] == [("q", EntryKind.EMPTY)]
