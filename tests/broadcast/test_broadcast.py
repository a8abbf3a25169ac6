"""Several nodes on links with a delay: what reaches whom, how often, and through whom."""

from typing import TYPE_CHECKING

import pytest

from p2pnet.broadcast import effects, inputs
from p2pnet.model.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broadcast.conftest import Net, Node

K = EventKind


def fetches(node: "Node") -> int:
    return len(node.sent(effects.Fetch))


def test_an_artifact_reaches_every_peer_and_says_through_whom(net: "Net") -> None:
    a, b, c = net.mesh(3)
    artifact = a.publish(b"hello", name="greeting")
    net.run(1)
    assert [(e.peer, e.hop, e.bytes) for e in a.seen(K.PUBLISHED, artifact)] == [("", 0, 5)]
    for node in (b, c):
        assert [(e.peer, e.hop, e.bytes) for e in node.seen(K.RECEIVED, artifact)] == [("n0", 1, 5)]
        assert [(e.peer, e.hop, e.bytes) for e in node.seen(K.VALIDATED, artifact)] == [("n0", 1, 5)]
        found = node.core.user_bytes(artifact)
        assert found is not None
        assert (found[0], bytes(found[1])) == ("greeting", b"hello")


@pytest.mark.parametrize(("size", "expected"), [(1023, 0), (1024, 1), (1, 0)])
def test_a_small_artifact_is_pushed_and_a_larger_one_fetched_once(net: "Net", size: int, expected: int) -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(size))
    net.run(1)
    assert b.holds(artifact)
    assert fetches(b) == expected


def test_ten_announcing_peers_cost_one_fetch_and_one_insert(net: "Net") -> None:
    nodes = net.mesh(10, full_mesh=False)
    late = net.node("late", full_mesh=False)
    artifact = nodes[0].publish(bytes(5000))
    net.run(2)
    for node in nodes:
        net.link(late, node)
    net.run(2)
    assert len(late.seen(K.RECEIVED, artifact)) == 1
    assert fetches(late) == 1


def test_a_late_joiner_gets_everything_that_is_live_and_nothing_withdrawn(net: "Net") -> None:
    a, b, c = net.mesh(3)
    ids = [a.publish(bytes([i]) * 300) for i in range(50)]
    gone, live = ids[:10], ids[10:]
    net.run(1)
    for artifact in gone:
        for node in (a, b, c):
            node.withdraw(artifact)
    net.run(1)
    late = net.node("late")
    for node in (a, b, c):
        net.link(late, node)
    net.run(3)
    assert set(late.core.pool.ids()) == set(live)
    assert sorted(late.synced_from) == ["n0", "n1", "n2"]
    assert len(late.seen(K.RECEIVED)) == len(live)


def test_a_peer_that_comes_back_is_told_of_all_active_slots_and_others_are_not(net: "Net") -> None:
    a, b, _ = net.mesh(3)
    for i in range(5):
        a.publish(bytes([i]))
    net.run(1)
    net.cut(a, b)
    net.run(1)
    before = len([s for s in a.sent(effects.SendUpdates) if s.peer == "n2"])
    net.link(a, b)
    net.run(1)
    assert a.core.counters["resent"] == 5
    assert len([s for s in a.sent(effects.SendUpdates) if s.peer == "n2"]) == before
    assert len(b.seen(K.RECEIVED)) == 5


def test_a_flapping_connection_causes_no_second_fetch(net: "Net") -> None:
    a, b = net.mesh(2)
    old = a.publish(bytes(10_000))
    net.run(1)
    net.cut(a, b)
    new = a.publish(bytes(20_000))
    net.run(5)
    net.link(a, b)
    net.run(1)
    assert b.holds(new)
    assert len(b.seen(K.RECEIVED, old)) == 1
    assert fetches(b) == 2


def test_what_is_published_during_a_partition_arrives_after_it(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.cut(a, c)
    net.cut(b, c)
    artifact = a.publish(b"news")
    net.run(1)
    assert b.holds(artifact)
    assert not c.holds(artifact)
    net.link(c, b)
    net.run(1)
    assert c.holds(artifact)
    assert [(e.peer, e.hop) for e in c.seen(K.VALIDATED)] == [("n1", 2)]


def test_a_restarted_receiver_gets_everything_again(net: "Net") -> None:
    a, b = net.mesh(2)
    ids = [a.publish(bytes([i]) * 2000) for i in range(5)]
    net.run(1)
    net.crash(b)
    again = net.node("n1", seed=2)
    net.link(a, again)
    net.run(1)
    assert set(again.core.pool.ids()) == set(ids)


def test_a_restarted_sender_replaces_its_old_rows(net: "Net") -> None:
    a, b = net.mesh(2)
    for i in range(5):
        a.publish(bytes([i]))
    net.run(1)
    net.crash(a)
    net.run(1)
    again = net.node("n0", seed=2)
    net.link(again, b)
    new = again.publish(b"new")
    net.run(1)
    assert b.holds(new)
    rows = b.core._table.peers["n0"].rows
    assert [row.artifact for row in rows.values()] == [new]


def test_an_expired_artifact_leaves_everywhere_and_cannot_come_back(net: "Net") -> None:
    a, b = net.mesh(2)
    artifact = a.publish(b"brief", keep_s=5)
    net.run(4)
    assert b.holds(artifact)
    net.run(2)
    assert not a.holds(artifact)
    assert not b.holds(artifact)
    assert [e.detail for e in b.seen(K.REMOVED, artifact)] == ["expired"]
    assert a.core.gauges()["slots_in_use"] == 0
    net.run(5)
    net.cut(a, b)
    net.link(a, b)
    net.run(5)
    assert b.core._table.rows("n0") == 0


def test_withdrawing_at_the_receiver_first_keeps_it_away_although_the_publisher_still_has_it(net: "Net") -> None:
    a, b = net.mesh(2)
    artifact = a.publish(bytes(3000))
    net.run(1)
    b.withdraw(artifact)
    assert [e.detail for e in b.seen(K.REMOVED, artifact)] == ["withdrawn"]
    net.cut(a, b)
    net.link(a, b)
    net.run(5)
    assert not b.holds(artifact)
    assert len(b.seen(K.RECEIVED, artifact)) == 1


def test_withdrawing_before_it_arrives_keeps_it_away(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(b"x")
    b.withdraw(artifact)
    net.run(1)
    assert not b.holds(artifact)
    assert a.core.counters["delivered"] == 1


def test_withdrawing_during_a_fetch_ends_it(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(2_000_000))
    net.run(0.05)
    assert b.core.gauges()["tasks"] == 1
    b.withdraw(artifact)
    net.run(2)
    assert b.core.gauges()["tasks"] == 0
    assert not b.holds(artifact)
    assert b.core._charges.held("n0") == 0


def test_withdrawing_at_the_publisher_during_a_fetch_ends_the_task_without_an_insert(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(3_000_000))
    net.run(0.05)
    a.withdraw(artifact)
    net.run(2)
    assert b.core.gauges()["tasks"] == 0
    assert not b.seen(K.RECEIVED, artifact)
    assert b.core._charges.held("n0") == 0


def test_updates_that_do_not_come_on_the_current_connection_are_dropped(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(b"x")
    net.run(0.001)
    (sent,) = a.sent(effects.SendUpdates)
    done = b.core.handle(inputs.UpdatesReceived("n0", 99, 7, b"".join(sent.body)), net.now, net.wall)
    assert done == [effects.AnswerUpdates(7, b"")]
    assert not b.holds(artifact)


def test_a_lossy_link_delivers_everything_in_the_end(net: "Net") -> None:
    nodes = net.mesh(4)
    net.drop = 0.3
    ids = [node.publish(bytes([i]) * (100 + 400 * i)) for i in range(10) for node in nodes]
    net.run(120)
    for node in nodes:
        assert set(node.core.pool.ids()) == set(ids)
        assert not node.core.gauges()["tasks"]


def test_a_slow_link_does_not_delay_the_other_peers(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.run(1)
    net.delays[("n0", "n2")] = net.delay * 100
    artifact = a.publish(bytes(100))
    net.run(0.011)
    assert b.holds(artifact)
    assert not c.holds(artifact)
    net.run(2)
    assert c.holds(artifact)


def test_a_burst_runs_the_client_once_per_turn(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    before = b.core.counters["client_runs"]
    for i in range(300):
        a.publish(i.to_bytes(2, "big"))
    net.run(1)
    assert len(b.core.pool.ids()) == 300
    assert b.core.counters["client_runs"] - before <= 2


def test_a_second_push_of_a_held_artifact_is_a_duplicate(net: "Net") -> None:
    a, b, c = net.mesh(3, relay="push", full_mesh=False)
    net.cut(a, c)
    net.run(1)
    net.delays[("n1", "n2")] = net.delay * 3
    artifact = a.publish(b"x")
    net.link(a, c)
    net.run(1)
    assert len(c.seen(K.RECEIVED, artifact)) == 1
    assert len(c.seen(K.DUPLICATE, artifact)) + len(b.seen(K.DUPLICATE, artifact)) >= 1


def test_the_same_inputs_give_the_same_effects(make_net: "Callable[[int], Net]") -> None:
    def logs() -> list[object]:
        net = make_net(5)
        nodes = net.mesh(4, full_mesh=False)
        net.drop = 0.2
        for i in range(20):
            nodes[i % 4].publish(bytes(i * 5000))
        net.run(20)
        return [effect for node in nodes for effect in node.log]

    assert logs() == logs()
