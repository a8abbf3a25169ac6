"""Other clients: bouncers with three words, products of their own, heights, ticks; and the pool's views."""

from typing import TYPE_CHECKING, Any

from p2pnet.broadcast import BlobClient, Bounce, effects
from p2pnet.broadcast.pool import (
    AddToValidated,
    Change,
    ChangeAction,
    ChangeKind,
    Inspected,
    MoveToValidated,
    PoolView,
    PurgeBelow,
    RemoveFromValidated,
)
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net

K = EventKind


class Moody(BlobClient):
    """A bouncer that changes its mind."""

    def __init__(self, says: Bounce) -> None:
        self.says = says

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        return self.says


def test_maybe_later_keeps_no_bytes_and_fetches_when_it_turns_to_wants(net: "Net") -> None:
    client = Moody(Bounce.MAYBE_LATER)
    a, b = net.node("a"), net.node("b", client=client)
    net.link(a, b)
    net.run(1)
    ids = [a.publish(bytes(size)) for size in (100, 900, 5000)]
    net.run(5)
    assert b.core.gauges()["stashed"] == 3
    assert b.core.gauges()["tasks"] == b.core.gauges()["unvalidated"] == 0
    client.says = Bounce.WANTS
    net.run(4)
    assert all(b.holds(artifact) for artifact in ids)


def test_unwanted_is_never_fetched_and_keeps_its_row(net: "Net") -> None:
    a, b = net.node("a"), net.node("b", client=Moody(Bounce.UNWANTED))
    net.link(a, b)
    net.run(1)
    a.publish(bytes(5000))
    a.publish(bytes(50))
    net.run(10)
    assert not b.sent(effects.Fetch)
    assert not b.seen(K.RECEIVED)
    assert b.core._table.rows("a") == 2
    assert a.core.counters["delivered"] == 2


class Heights:
    """Ten-byte artifacts {height, number}: takes all, answers the first of each height with one of its own, keeps three."""

    name = "heights"
    tick_s: float | None = None

    def __init__(self) -> None:
        self.top = 0

    def make(self, name: str, data: bytes, *, nonce: bytes, now: float, keep_s: float) -> bytes:
        return data

    def inspect(self, data: bytes) -> Inspected:
        return Inspected(size=len(data), height=data[0])

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        actions: list[ChangeAction] = [MoveToValidated(artifact) for artifact in pool.unvalidated]
        heights = [a.inspected.height or 0 for s in (pool.unvalidated, pool.validated) for a in s.values()]
        if heights and max(heights) > self.top:
            self.top = max(heights)
            actions += [AddToValidated(bytes([self.top]) + bytes(9)), PurgeBelow(self.top - 2)]
        return actions

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        return Bounce.WANTS

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        return False

    def relay(self, artifact: ArtifactId, key: bytes) -> Any:
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
        assert {e.detail for e in node.seen(K.REMOVED)} == {"purged"}
        assert node.core.gauges()["slots_in_use"] <= 6


def test_a_client_is_run_at_the_start_and_at_its_ticks_and_else_only_on_changes(net: "Net") -> None:
    class Ticking(BlobClient):
        tick_s = 0.5

    still, ticking = net.node("a"), net.node("b", client=Ticking())
    net.run(10.1)
    assert len(still.sent(effects.RunClient)) == 1
    assert len(ticking.sent(effects.RunClient)) == 21


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


def test_an_answer_about_artifacts_that_left_meanwhile_changes_nothing(net: "Net") -> None:
    _, b = net.mesh(2)
    net.run(1)
    from p2pnet.broadcast import inputs

    ghost = ArtifactId(bytes(32))
    done = b.give(inputs.ClientAnswered([MoveToValidated(ghost), RemoveFromValidated(ghost)], 5))
    assert not [e for e in done if isinstance(e, effects.Emit)]


def test_a_snapshot_stays_as_it_was(net: "Net") -> None:
    (a,) = net.mesh(1)
    artifact = a.publish(b"x")
    snapshot = a.core.pool.snapshot()
    a.withdraw(artifact)
    assert artifact in snapshot.validated
    assert not a.core.pool.validated
