"""Clients: when they are run and told what; what those that raise cost; products of their own; views of the pool."""

from typing import TYPE_CHECKING, Any

import pytest
from tests.broadcast.kit import SECOND, Failing, Made, Plain, Script, of, serve

from p2pnet.broadcast import (
    AddToValidated,
    BlobClient,
    Change,
    ChangeAction,
    ChangeKind,
    Inspected,
    MoveToValidated,
    PoolView,
    PurgeBelow,
    effects,
    inputs,
)
from p2pnet.broadcast.client import FAILURES_REPORTED
from p2pnet.broadcast.wire import UpdateStatus
from p2pnet.model.events import EventKind
from p2pnet.model.limits import PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net

K = EventKind


# When it is run


def test_a_client_is_run_at_the_start_and_at_its_ticks_and_else_only_on_changes(net: "Net") -> None:
    class Ticking(BlobClient):
        tick_s = 0.5

    still, ticking = net.node("a"), net.node("b", client=Ticking())
    net.run(10.1)
    assert len(still.sent(effects.RunClient)) == 1
    assert len(ticking.sent(effects.RunClient)) == 21


def test_a_burst_runs_the_client_once_per_turn(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    before = b.core.counters["client_runs"]
    for i in range(300):
        a.publish(i.to_bytes(2, "big"))
    net.run(1)
    assert len(b.core.pool.ids()) == 300
    assert b.core.counters["client_runs"] - before <= 2


def test_at_most_one_run_is_open_and_what_happens_meanwhile_is_told_in_the_next() -> None:
    script, mades = Script(), [Made(nonce=n) for n in range(3)]
    script.up("p")
    opened = []
    for token, made in enumerate(mades):
        script.give(inputs.UpdatesReceived("p", script.connections["p"], token, made.push(token, token)))
        opened += of(script.give(inputs.Wake()), effects.RunClient)
    assert [len(run.changes) for run in opened] == [1]
    script.give(inputs.ClientAnswered([], 5))
    (second,) = of(script.give(inputs.Wake()), effects.RunClient)
    assert [change.artifact for change in second.changes] == [made.id for made in mades[1:]]


def test_the_client_is_told_of_changes_in_order_and_only_once(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(b"x")
    net.run(1)
    a.withdraw(artifact)
    net.run(1)
    changes = [change for run in a.sent(effects.RunClient) for change in run.changes]
    assert changes == [Change(ChangeKind.PUBLISHED, artifact), Change(ChangeKind.REMOVED, artifact)]
    told = [change for run in b.sent(effects.RunClient) for change in run.changes]
    assert told == [Change(ChangeKind.INSERTED, artifact)]


# What it makes


class Heights(Plain):
    """Artifacts {height, ...}: takes all, answers the first of each height with one of its own, keeps three heights."""

    def __init__(self) -> None:
        self.top = 0

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        actions: list[ChangeAction] = [MoveToValidated(artifact) for artifact in pool.unvalidated]
        heights = [a.inspected.height or 0 for s in (pool.unvalidated, pool.validated) for a in s.values()]
        if heights and max(heights) > self.top:
            self.top = max(heights)
            actions += [AddToValidated(bytes([self.top]) + bytes(9)), PurgeBelow(self.top - 2)]
        return actions

    def relay(self, artifact: Any, key: bytes) -> Any:
        return "none"


def test_a_client_adds_products_of_its_own_and_purges_below_a_height(net: "Net") -> None:
    a, b = net.node("a", client=Heights()), net.node("b", client=Heights())
    net.link(a, b)
    for height in range(1, 8):
        a.publish(bytes([height]) + b"published")
        net.run(1)
    for node in (a, b):
        heights = sorted(found.inspected.height or 0 for found in node.core.pool.validated.values())
        assert heights == [5, 5, 6, 6, 7, 7]
        assert {emit.detail for emit in node.seen(K.REMOVED)} == {"purged"}
        assert node.core.gauges()["slots_in_use"] <= 6


def test_bouncer_and_relay_see_the_key_an_artifact_was_announced_with() -> None:
    class Curious(Plain):
        seen: list[tuple[str, bytes]] = []  # noqa: RUF012 - one test, one client

        def bouncer(self, artifact: Any, key: bytes, size: int) -> Any:
            self.seen.append(("bouncer", key))
            return super().bouncer(artifact, key, size)

        def relay(self, artifact: Any, key: bytes) -> Any:
            self.seen.append(("relay", key))
            return None

    from p2pnet.broadcast.wire import encode_push

    script = Script(Curious())
    script.up("p")
    assert script.statuses("p", b"".join(encode_push(0, 0, 0, b"\x07data", b"\x07"))) == [UpdateStatus.OK]
    assert set(Curious.seen) == {("bouncer", b"\x07"), ("relay", b"\x07")}


# What raises


@pytest.mark.parametrize("method", ["inspect", "bouncer"])
def test_a_push_whose_client_raises_is_answered_busy_counted_reported_and_taken_later(method: str) -> None:
    client, made = Failing(method), Made()
    script = Script(client)
    script.up("p")
    assert script.statuses("p", made.push()) == [UpdateStatus.BUSY]
    assert script.core.counters["client_failures"] == 1
    (failed,) = script.events(K.CLIENT_FAILED)
    assert failed.detail == f"{method}: ValueError: as it was told"
    assert script.core.gauges()["rows"] == script.core.quota_used("p") == 0
    client.fails_in.clear()
    assert script.statuses("p", made.push()) == [UpdateStatus.OK]
    assert made.id in script.core.pool.validated


def test_an_advert_whose_client_raises_is_answered_busy_and_taken_later() -> None:
    client, made = Failing("bouncer"), Made(5000)
    script = Script(client)
    script.up("p")
    assert script.statuses("p", made.advert()) == [UpdateStatus.BUSY]
    assert not of(script.log, effects.Fetch)
    client.fails_in.clear()
    assert script.statuses("p", made.advert()) == [UpdateStatus.OK]
    assert len(of(script.log, effects.Fetch)) == 1


def test_one_update_whose_client_raises_leaves_the_others_of_its_request_alone() -> None:
    class Picky(Failing):
        def inspect(self, data: bytes) -> Inspected:
            if len(data) > 500:
                raise ValueError("too much for me")
            return super().inspect(data)

    script = Script(Picky())
    script.up("p")
    pushes = [Made(size, nonce=size).push(n, n) for n, size in enumerate((10, 600, 20))]
    assert script.statuses("p", *pushes) == [UpdateStatus.OK, UpdateStatus.BUSY, UpdateStatus.OK]
    assert len(script.core.pool.validated) == 2


@pytest.mark.parametrize("size", [5000, 3 * PART_BYTES])
def test_a_fetched_artifact_whose_client_raises_is_fetched_again_after_a_pause(size: int) -> None:
    client, made = Failing("inspect"), Made(size)
    script = Script(client)
    script.up("p")
    open_now = of(script.updates("p", made.advert()), effects.Fetch)
    while open_now:
        if script.core.counters["client_failures"] == 3:
            client.fails_in.clear()
        done = serve(script, open_now.pop(0), made)
        open_now += of(done + script.later(2 * SECOND), effects.Fetch)
    assert script.core.counters["client_failures"] == 3
    assert made.id in script.core.pool.validated
    assert script.core.quota_used("p") == script.core.gauges()["tasks"] == 0


@pytest.mark.parametrize("method", ["inspect", "bouncer"])
def test_after_70_artifacts_whose_client_raised_a_peer_still_gets_others(net: "Net", method: str) -> None:
    client = Failing(method)
    a, b = net.node("a"), net.node("b", client=client)
    net.link(a, b)
    net.run(1)
    ids = [a.publish(bytes(70_000 if n % 2 else 100)) for n in range(70)]
    net.run(10)
    assert not b.core.pool.validated
    assert b.core.counters["client_failures"] >= 70
    assert FAILURES_REPORTED <= len(b.seen(K.CLIENT_FAILED)) <= FAILURES_REPORTED + 11
    assert b.core.counters["events_left_out"] > 0
    client.fails_in.clear()
    fresh = [a.publish(bytes(size)) for size in (10, 70_000)]
    net.run(1)
    assert all(b.holds(artifact) for artifact in fresh)
    net.run(120)
    assert set(b.core.pool.ids()) == {*ids, *fresh}
    assert b.core.gauges()["tasks"] == b.core.quota_used("a") == 0


@pytest.mark.parametrize("method", ["is_urgent", "relay"])
def test_a_client_that_raises_about_how_to_send_is_reported_and_the_artifact_goes_the_usual_way(
    net: "Net", method: str
) -> None:
    a, b, c = (net.node(name, client=Failing(method), full_mesh=False) for name in "abc")
    net.link(a, b)
    net.link(b, c)
    net.run(1)
    artifact = a.publish(bytes(5000))
    net.run(2)
    assert c.holds(artifact)
    assert a.core.counters["client_failures"] + b.core.counters["client_failures"] > 0


def test_a_client_that_raises_on_a_publication_refuses_it() -> None:
    script = Script(Failing("inspect"))
    (refused,) = of(script.turn(script.blob()), effects.PublishRefused)
    assert refused.code == "malformed"
    assert "as it was told" in refused.message


def test_on_state_change_that_failed_is_called_again_with_the_same_changes_after_a_pause() -> None:
    client, made = Failing("on_state_change"), Made()
    script = Script(client)
    script.up("p")
    script.updates("p", made.push())
    script.later(3 * SECOND)
    told = [run.changes for run in of(script.log, effects.RunClient) if run.changes]
    assert len(told) >= 3
    assert all(changes == [Change(ChangeKind.INSERTED, made.id)] for changes in told)
    assert all("on_state_change" in emit.detail for emit in script.events(K.CLIENT_FAILED))
    assert script.core.gauges()["unvalidated"] == 1
    client.fails_in.clear()
    script.later(60 * SECOND)
    assert made.id in script.core.pool.validated
    script.updates("p", Made(nonce=2).push(1, 1))
    assert len(script.core.pool.validated) == 2


def test_what_happens_while_the_client_fails_is_told_after_what_it_failed_at() -> None:
    client, mades = Failing("on_state_change"), [Made(nonce=n) for n in range(3)]
    script = Script(client)
    script.up("p")
    for n, made in enumerate(mades):
        script.updates("p", made.push(n, n))
    client.fails_in.clear()
    script.later(60 * SECOND)
    last = of(script.log, effects.RunClient)[-1]
    assert [change.artifact for change in last.changes] == [made.id for made in mades]


def test_a_client_that_fails_for_ever_is_called_at_most_once_a_minute_in_the_end() -> None:
    script = Script(Failing("on_state_change"))
    script.later(600 * SECOND)
    before = len(of(script.log, effects.RunClient))
    script.later(600 * SECOND)
    assert 7 <= len(of(script.log, effects.RunClient)) - before <= 14


# Its view of the pool


def test_a_snapshot_stays_as_it_was(net: "Net") -> None:
    (a,) = net.mesh(1)
    artifact = a.publish(b"x")
    snapshot = a.core.pool.snapshot()
    a.withdraw(artifact)
    assert artifact in snapshot.validated
    assert not a.core.pool.validated
