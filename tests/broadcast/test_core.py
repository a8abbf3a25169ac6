"""Several nodes on links with a delay: what reaches whom, how often, and through whom; and the core as its driver sees it."""

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.broadcast.kit import SECOND, Made, Script, Ticking, Undecided, of, ok

from p2pnet.broadcast import BlobClient, Broadcast, effects, inputs
from p2pnet.broadcast.wire import encode_advert
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broadcast.conftest import Net, Node

K = EventKind


def fetches(node: "Node") -> int:
    return len(node.sent(effects.Fetch))


def sent_to(node: "Node", peer: str) -> int:
    return len([s for s in node.sent(effects.SendUpdates) if s.peer == peer])


# From one to all


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


@pytest.mark.parametrize(
    ("size", "full_mesh", "expected"),
    [(1, True, 0), (PART_BYTES, True, 0), (PART_BYTES + 1, True, 1), (1023, False, 0), (1024, False, 1)],
)
def test_a_small_artifact_is_pushed_and_a_larger_one_fetched_once(
    net: "Net", size: int, full_mesh: bool, expected: int
) -> None:
    a, b = net.mesh(2, full_mesh=full_mesh)
    net.run(1)
    artifact = a.publish(bytes(size))
    net.run(1)
    assert b.holds(artifact)
    assert fetches(b) == expected


def test_in_a_net_where_everybody_asks_everybody_all_get_a_large_artifact(net: "Net") -> None:
    nodes = [net.node(f"n{i}", full_mesh=False) for i in range(20)]
    for i, node in enumerate(nodes):
        for step in range(1, 5):
            net.link(node, nodes[(i + step) % 20])
    net.run(2)
    assert all(len(node.connections) == 8 for node in nodes)
    artifact = nodes[0].publish(bytes(1 << 20))
    net.run(30)
    assert all(node.holds(artifact) for node in nodes)
    assert all(node.core.gauges()["tasks"] == 0 for node in nodes)
    assert all(fetches(node) <= 17 + 1 + node.core.counters["fetch_hedges"] for node in nodes[1:])
    assert sum(node.core.counters["source_answered_have"] for node in nodes) == 0


def test_large_artifacts_of_several_publishers_cross_a_sparse_net_at_once(net: "Net") -> None:
    nodes = [net.node(f"n{i}", full_mesh=False) for i in range(8)]
    for i, node in enumerate(nodes):
        for step in (1, 3):
            net.link(node, nodes[(i + step) % 8])
    net.run(2)
    ids = [node.publish(bytes((5 + 3 * i) * PART_BYTES)) for i, node in enumerate(nodes)]
    net.run(30)
    for node in nodes:
        assert set(node.core.pool.ids()) == set(ids)
        assert sum(node.core.quota_used(peer) for peer in node.connections) == 0


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


def test_a_lossy_link_delivers_everything_in_the_end(net: "Net") -> None:
    nodes = net.mesh(4)
    net.drop = 0.3
    ids = [node.publish(bytes([i]) * (100 + 20_000 * i)) for i in range(10) for node in nodes]
    net.run(200)
    for node in nodes:
        assert set(node.core.pool.ids()) == set(ids)
        assert not node.core.gauges()["tasks"]


# Connections that come and go


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
    before = sent_to(a, "n2")
    net.link(a, b)
    net.run(1)
    assert a.core.counters["resent"] == 5
    assert sent_to(a, "n2") == before
    assert len(b.seen(K.RECEIVED)) == 5


def test_a_flapping_connection_causes_no_second_fetch(net: "Net") -> None:
    a, b = net.mesh(2, push_below=0)
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
    net.run(3)
    assert b.holds(artifact)
    assert not c.holds(artifact)
    net.link(c, b)
    net.run(3)
    assert c.holds(artifact)
    assert [(e.peer, e.hop) for e in c.seen(K.VALIDATED)] == [("n1", 2)]


def test_a_restarted_receiver_gets_everything_again(net: "Net") -> None:
    a, b = net.mesh(2)
    ids = [a.publish(bytes([i]) * 30_000 * i) for i in range(5)]
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
    assert b.core.gauges()["rows"] == 1


# Ends


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
    net.run(65)
    assert b.core.gauges()["rows"] == 0
    assert a.core.at_rest
    assert b.core.at_rest


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
    assert b.core.quota_used("n0") == 0


def test_withdrawing_at_the_publisher_during_a_fetch_ends_the_task_without_an_insert(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(9_000_000))
    net.run(0.05)
    assert b.core.gauges()["tasks"] == 1
    a.withdraw(artifact)
    net.run(2)
    assert b.core.gauges()["tasks"] == 0
    assert not b.seen(K.RECEIVED, artifact)
    assert b.core.quota_used("n0") == 0


# As the driver sees it


def test_an_idle_core_asks_for_no_wake_up_but_an_expiry() -> None:
    script = Script(full_mesh=False)
    script.up("p")
    assert script.core.next_wakeup() is None
    assert script.core.at_rest
    _, done = script.publish()
    script.turn(ok(of(done, effects.SendUpdates)[0]))
    at = script.core.next_wakeup()
    assert at is not None
    assert at > 599 * SECOND
    assert script.core.next_wakeup(expiries=False) is None
    assert script.core.at_rest


def test_ticks_of_a_client_leave_a_core_at_rest() -> None:
    from p2pnet.broadcast import Bounce

    script = Script(Ticking(Bounce.WANTS))
    assert script.core.next_wakeup() == SECOND // 2
    assert script.core.at_rest


def test_a_wake_that_comes_for_nothing_does_no_harm() -> None:
    script = Script()
    script.up("p")
    assert [script.turn() for _ in range(3)] == [[], [], []]


def test_what_is_pending_is_named_with_its_artifact_and_its_peer() -> None:
    script, large, small = Script(Undecided(), bytes_max=300_000), Made(3 * PART_BYTES), Made(70_000, nonce=1)
    script.up("p")
    (first,) = of(script.updates("p", large.advert()), effects.Fetch)
    script.answer(first, large.answer(0, first=True))
    script.updates("p", *(Made(70_000, nonce=n).advert(n, n) for n in range(1, 4)))
    found = {(one.kind, one.artifact, one.peer): one.detail for one in script.core.pending() if one.kind != "timer"}
    assert found["task", large.id, ""] == "3 of 4 parts lacking"
    assert found["task", small.id, ""] == "no part list"
    assert ("bytes", large.id, "p") in found
    assert "waits for quota" in found.values()
    assert "client" not in script.kinds_pending()


def test_gauges_name_what_there_is_now() -> None:
    script = Script(Undecided())
    script.up("p")
    script.publish()
    script.updates("p", Made(nonce=1).push(0, 0), Made(5000, nonce=2).advert(1, 1))
    assert script.core.gauges() == {
        "slots_in_use": 1, "slots_allocated": 1, "publications_waiting": 0, "relays_waiting": 0, "rows": 2, "tasks": 1,
        "stashed": 0, "validated": 1, "unvalidated": 1, "peers": 1,
    }  # fmt: skip


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


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=120)), max_size=20))
def test_any_bytes_from_a_peer_leave_the_core_standing(messages: list[tuple[int, bytes]]) -> None:
    core = Broadcast(BlobClient(), "me", BroadcastSettings(slots_per_peer=8), Random(1))
    core.handle(inputs.PeerUp("p", 1), 0, 1000.0)
    advert = encode_advert(1, 1, 0, 200_000, ArtifactId(bytes(32)))
    done = core.handle(inputs.UpdatesReceived("p", 1, 0, advert), 0, 1000.0)
    done += core.handle(inputs.Wake(), 0, 1000.0)
    for now, (kind, body) in enumerate(messages):
        tokens = {
            type(effect): effect.token for effect in done if isinstance(effect, effects.Fetch | effects.SendDigest)
        }
        what: inputs.Input
        match kind:
            case 0:
                what = inputs.UpdatesReceived("p", 1, now, body)
            case 1:
                what = inputs.FetchReceived("p", 1, now, body)
            case 2:
                what = inputs.FetchAnswered(tokens.get(effects.Fetch, 0), body)
            case 3:
                what = inputs.DigestReceived("p", 1, now, body)
            case 4:
                what = inputs.DigestAnswered(tokens.get(effects.SendDigest, 0), body)
            case _:
                what = inputs.UpdatesAnswered(now, body)
        done = core.handle(what, now * SECOND, 1000.0 + now) + core.handle(inputs.Wake(), now * SECOND, 1000.0 + now)
    assert core.gauges()["rows"] <= 8
