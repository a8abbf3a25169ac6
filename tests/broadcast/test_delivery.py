"""Sending, seen from one node whose peers are scripted: what is written, when, and again when."""

from itertools import pairwise
from random import Random
from typing import Any

import pytest

from p2pnet.broadcast import BlobClient, Broadcast, effects, inputs, make_blob
from p2pnet.broadcast.wire import Kind, Status, decode_updates
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import UPDATE_BATCH_BYTES

MS = 1_000_000
SECOND = 1000 * MS


class Script:
    """One core under direct control."""

    def __init__(self, client: Any = None, **settings: Any) -> None:
        self.core = Broadcast(client or BlobClient(), "me", BroadcastSettings(**settings), Random(1))
        self.now = 0
        self.made = 0
        self.turn()

    def give(self, what: inputs.Input) -> list[effects.Effect]:
        return self.core.handle(what, self.now, 1000.0 + self.now / SECOND)

    def turn(self, *what: inputs.Input) -> list[effects.Effect]:
        """Inputs, then the Wake that ends the turn; a RunClient is answered at once."""
        done = [effect for one in what for effect in self.give(one)]
        done += self.give(inputs.Wake())
        for run in of(done, effects.RunClient):
            actions = self.core.client.on_state_change(run.changes, self.core.pool, 1000.0)
            done += self.give(inputs.ClientAnswered(actions, 0))
            done += self.give(inputs.Wake())
        return done

    def later(self, ns: int) -> list[effects.Effect]:
        """Let time pass, waking when asked to."""
        end, done = self.now + ns, list[effects.Effect]()
        while (at := self.core.next_wakeup()) is not None and at <= end:
            self.now = max(self.now, at)
            done += self.turn()
        self.now = end
        return done

    def blob(self, size: int = 10) -> inputs.Publish:
        self.made += 1
        return inputs.Publish(make_blob("f", bytes(size), self.made.to_bytes(16, "big"), 1000, 90_000), size)

    def publish(self, size: int = 10) -> tuple[ArtifactId, list[effects.Effect]]:
        done = self.turn(self.blob(size))
        (published,) = of(done, effects.Published)
        return published.artifact, done

    def up(self, peer: str, connection: int) -> list[effects.Effect]:
        """Connect, answering everything that is due at first."""
        done = self.turn(inputs.PeerUp(peer, connection))
        for sent in of(done, effects.SendUpdates):
            self.turn(ok(sent))
        return done


def of(done: list[effects.Effect], kind: type[Any]) -> list[Any]:
    return [effect for effect in done if isinstance(effect, kind)]


def entries(sent: effects.SendUpdates) -> list[tuple[int, int, int]]:
    """(slot, commit, kind) of each."""
    return [(e.slot, e.commit, e.kind) for e in decode_updates(b"".join(sent.body))]


def ok(sent: effects.SendUpdates, status: Status = Status.OK) -> inputs.UpdatesAnswered:
    return inputs.UpdatesAnswered(sent.token, bytes([status]) * len(entries(sent)))


def test_commit_ids_grow_with_every_event_and_the_freed_slot_is_taken_again() -> None:
    script = Script()
    script.up("p", 1)
    wire = []
    first, done = script.publish()
    wire += of(done, effects.SendUpdates)
    wire += of(script.publish()[1], effects.SendUpdates)
    script.turn(inputs.Withdraw(first))
    wire += of(script.publish()[1], effects.SendUpdates)
    assert [entries(sent)[0] for sent in wire] == [(0, 0, 0), (1, 1, 0), (0, 3, 0)]


def test_publishing_the_same_artifact_twice_sends_nothing_and_leaves_a_gap_in_the_commit_ids() -> None:
    script = Script()
    script.up("p", 1)
    blob = script.blob()
    script.turn(blob)
    assert not of(script.turn(blob), effects.SendUpdates)
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    assert entries(sent) == [(1, 2, Kind.PUSH)]
    assert script.core.counters["publications_duplicate"] == 1


def test_updates_of_one_turn_travel_in_one_request_and_are_encoded_once_for_all_peers() -> None:
    script = Script()
    script.up("p", 1)
    script.up("q", 2)
    sent = of(script.turn(*[script.blob() for _ in range(20)]), effects.SendUpdates)
    assert [s.peer for s in sent] == ["p", "q"]
    assert len(entries(sent[0])) == 20
    assert all(a is b for a, b in zip(sent[0].body, sent[1].body, strict=True))


def test_a_batch_stays_below_its_bound() -> None:
    script = Script()
    script.up("p", 1)
    sent = of(script.turn(*[script.blob(1000) for _ in range(100)]), effects.SendUpdates)
    assert sum(len(entries(s)) for s in sent) == 100
    assert all(len(b"".join(s.body)) <= UPDATE_BATCH_BYTES for s in sent)
    assert len(sent) == 7


@pytest.mark.parametrize(("size", "kind"), [(1023, Kind.PUSH), (1024, Kind.ADVERT)])
def test_the_users_bytes_decide_between_push_and_advert(size: int, kind: Kind) -> None:
    script = Script()
    script.up("p", 1)
    (sent,) = of(script.publish(size)[1], effects.SendUpdates)
    assert entries(sent)[0][2] == kind


class Urgent(BlobClient):
    def is_urgent(self, artifact: ArtifactId, inspected: Any) -> bool:
        return True


def test_an_urgent_artifact_is_pushed_at_any_size_in_a_request_of_its_own() -> None:
    script = Script(Urgent())
    script.up("p", 1)
    sent = of(script.turn(script.blob(), script.blob(1_000_000), script.blob()), effects.SendUpdates)
    assert [len(entries(s)) for s in sent] == [1, 2]
    assert all(s.urgent for s in sent)
    assert {kind for s in sent for _, _, kind in entries(s)} == {Kind.PUSH}


def test_a_peer_that_fails_is_tried_again_with_growing_pauses_until_it_answers() -> None:
    script = Script()
    script.up("p", 1)
    _, done = script.publish()
    (sent,) = of(done, effects.SendUpdates)
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


@pytest.mark.parametrize("status", [Status.BUSY, Status.LIMIT])
def test_busy_and_limit_are_retried_for_ever_at_most_a_minute_apart(status: Status) -> None:
    script = Script()
    script.up("p", 1)
    _, done = script.publish()
    (sent,) = of(done, effects.SendUpdates)
    for _ in range(15):
        script.turn(ok(sent, status))
        (sent,) = of(script.later(80 * SECOND), effects.SendUpdates)
    assert entries(sent) == [(0, 0, Kind.PUSH)]


def test_one_failed_update_of_a_request_is_retried_alone() -> None:
    script = Script()
    script.up("p", 1)
    (sent,) = of(script.turn(*[script.blob() for _ in range(5)]), effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, bytes([0, 0, Status.BUSY, 1, 2])))
    (again,) = of(script.later(SECOND), effects.SendUpdates)
    assert [slot for slot, _, _ in entries(again)] == [2]


@pytest.mark.parametrize("body", [bytes([Status.MALFORMED]), bytes([Status.MALFORMED]) * 2])
def test_what_a_peer_calls_malformed_is_given_up_and_reported(body: bytes) -> None:
    script = Script()
    script.up("p", 1)
    (sent,) = of(script.turn(script.blob(), script.blob()), effects.SendUpdates)
    done = script.turn(inputs.UpdatesAnswered(sent.token, body))
    assert [emit.kind for emit in of(done, effects.Emit)] == [EventKind.GIVEN_UP] * 2
    assert not of(script.later(300 * SECOND), effects.SendUpdates)


@pytest.mark.parametrize("body", [b"", b"\x00\x00", b"\xff"])
def test_a_senseless_answer_is_a_failure(body: bytes) -> None:
    script = Script()
    script.up("p", 1)
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, body))
    assert len(of(script.later(SECOND), effects.SendUpdates)) == 1


def test_a_peer_without_room_gets_an_advert_instead() -> None:
    script = Script()
    script.up("p", 1)
    (sent,) = of(script.publish()[1], effects.SendUpdates)
    (again,) = of(script.turn(ok(sent, Status.ADVERTISE)), effects.SendUpdates)
    assert entries(again) == [(0, 0, Kind.ADVERT)]


def test_a_retry_carries_what_the_slot_holds_by_then() -> None:
    script = Script()
    script.up("p", 1)
    first, done = script.publish()
    (sent,) = of(done, effects.SendUpdates)
    script.turn(inputs.UpdatesAnswered(sent.token, None))
    script.turn(inputs.Withdraw(first))
    (fresh,) = of(script.publish()[1], effects.SendUpdates)
    script.turn(ok(fresh))
    assert not of(script.later(10 * SECOND), effects.SendUpdates)


def test_withdrawn_before_writing_the_entry_is_left_out() -> None:
    script = Script()
    script.up("p", 1)
    one, two = script.blob(), script.blob()
    first = of(script.give(one), effects.Published)[0].artifact
    script.give(two)
    (sent,) = of(script.turn(inputs.Withdraw(first)), effects.SendUpdates)
    assert [slot for slot, _, _ in entries(sent)] == [1]
    assert not of(script.later(SECOND), effects.SendUpdates)


def test_a_freed_slot_is_announced_empty_after_50_ms_with_a_commit_id_of_its_own() -> None:
    script = Script()
    script.up("p", 1)
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    assert not of(script.later(49 * MS), effects.SendUpdates)
    (sent,) = of(script.later(2 * MS), effects.SendUpdates)
    assert entries(sent) == [(0, 2, Kind.EMPTY)]


def test_a_freed_slot_that_is_taken_again_in_time_is_never_announced_empty() -> None:
    script = Script()
    script.up("p", 1)
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    script.publish()
    assert not of(script.later(SECOND), effects.SendUpdates)


def test_an_empty_goes_only_to_peers_an_attempt_may_have_reached() -> None:
    script = Script()
    script.up("p", 1)
    first, _ = script.publish()
    script.turn(inputs.Withdraw(first))
    script.up("q", 2)
    assert [sent.peer for sent in of(script.later(SECOND), effects.SendUpdates)] == ["p"]


def test_a_lone_large_push_is_reset_on_withdrawal_and_an_empty_follows() -> None:
    script = Script(Urgent())
    script.up("p", 1)
    first, done = script.publish(5_000_000)
    (sent,) = of(done, effects.SendUpdates)
    assert of(script.turn(inputs.Withdraw(first)), effects.Cancel) == [effects.Cancel(sent.token)]
    (empty,) = of(script.later(SECOND), effects.SendUpdates)
    assert entries(empty)[0][2] == Kind.EMPTY
    assert not script.turn(inputs.UpdatesAnswered(sent.token, None))


def test_a_new_connection_gets_all_active_slots_as_adverts_and_then_synced() -> None:
    script = Script()
    script.up("p", 1)
    for _ in range(3):
        script.publish()
    done = script.turn(inputs.PeerUp("p", 2))
    (sent,) = of(done, effects.SendUpdates)
    assert entries(sent) == [(0, 0, Kind.ADVERT), (1, 1, Kind.ADVERT), (2, 2, Kind.ADVERT)]
    assert not of(done, effects.SendSynced)
    (synced,) = of(script.turn(ok(sent)), effects.SendSynced)
    assert (synced.peer, synced.connection) == ("p", 2)
    assert script.core.counters["resent"] == 3


def test_synced_waits_for_the_update_that_failed() -> None:
    script = Script()
    for _ in range(2):
        script.publish()
    (sent,) = of(script.turn(inputs.PeerUp("p", 1)), effects.SendUpdates)
    assert not of(script.turn(inputs.UpdatesAnswered(sent.token, bytes([0, Status.BUSY]))), effects.SendSynced)
    (again,) = of(script.later(SECOND), effects.SendUpdates)
    assert of(script.turn(ok(again)), effects.SendSynced)


def test_synced_waits_for_nothing_that_was_withdrawn() -> None:
    script = Script()
    first, _ = script.publish()
    script.turn(inputs.PeerUp("p", 1))
    assert of(script.turn(inputs.Withdraw(first)), effects.SendSynced)


def test_synced_is_said_again_after_a_failure_while_the_connection_lives() -> None:
    script = Script()
    (synced,) = of(script.turn(inputs.PeerUp("p", 1)), effects.SendSynced)
    script.turn(inputs.SyncedAnswered(synced.token, ok=False))
    (again,) = of(script.later(SECOND), effects.SendSynced)
    script.turn(inputs.SyncedAnswered(again.token, ok=False))
    script.turn(inputs.PeerDown("p", 1))
    assert not of(script.later(10 * SECOND), effects.SendSynced)


def test_answers_of_an_older_connection_are_ignored() -> None:
    script = Script()
    script.up("p", 1)
    (old,) = of(script.publish()[1], effects.SendUpdates)
    (new,) = of(script.turn(inputs.PeerUp("p", 2)), effects.SendUpdates)
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


def test_a_peer_that_does_not_answer_has_a_bounded_number_of_requests_in_flight() -> None:
    script = Script()
    script.up("p", 1)
    sent = [s for _ in range(200) for s in of(script.publish()[1], effects.SendUpdates)]
    assert len(sent) == 64
    (next_one,) = of(script.turn(ok(sent[0])), effects.SendUpdates)
    assert len(entries(next_one)) == 136


def test_a_publication_without_a_free_slot_waits_and_is_sent_when_one_is_free() -> None:
    script = Script(slots_per_peer=2)
    script.up("p", 1)
    first, _ = script.publish()
    script.publish()
    third, done = script.publish()
    assert not of(done, effects.SendUpdates)
    assert script.core.pool.get(third) is not None
    (sent,) = of(script.turn(inputs.Withdraw(first)), effects.SendUpdates)
    assert entries(sent)[0][0] == 0


def test_a_publication_that_cannot_even_wait_is_refused_reported_and_names_keep() -> None:
    script = Script(slots_per_peer=1)
    for _ in range(1001):
        script.publish()
    done = script.turn(script.blob())
    (refused,) = of(done, effects.PublishRefused)
    assert refused.code == "no-slot"
    assert "keep" in refused.message
    assert [emit.kind for emit in of(done, effects.Emit)] == [EventKind.QUEUE_FULL]


def test_too_large_malformed_and_expired_publications_are_refused() -> None:
    script = Script(artifact_bytes_max=100)
    codes = [
        of(script.turn(publish), effects.PublishRefused)[0].code
        for publish in (
            script.blob(101),
            inputs.Publish(b"no blob", 7),
            inputs.Publish(make_blob("f", b"", bytes(16), 1, 2), 0),
        )
    ]
    assert codes == ["too-large", "malformed", "malformed"]


def test_an_idle_core_asks_for_no_wake_up_but_an_expiry() -> None:
    script = Script()
    script.up("p", 1)
    assert script.core.next_wakeup() is None
    _, done = script.publish()
    script.turn(ok(of(done, effects.SendUpdates)[0]))
    at = script.core.next_wakeup()
    assert at is not None
    assert at > 599 * SECOND
