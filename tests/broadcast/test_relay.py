"""Passing on: none, auto (held in a full mesh), advert, push; and what need not be sent."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from p2pnet.broadcast import effects
from p2pnet.broadcast.wire import Kind, decode_updates
from p2pnet.model.events import EventKind

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

K = EventKind


def chain(net: "Net", size: int, **settings: Any) -> "list[Node]":
    nodes = [net.node(f"n{i}", **settings) for i in range(size)]
    for a, b in pairwise(nodes):
        net.link(a, b)
    net.run(1)
    return nodes


def kinds(node: "Node", peer: str) -> list[int]:
    sent = [s for s in node.sent(effects.SendUpdates) if s.peer == peer]
    return [entry.kind for s in sent for entry in decode_updates(b"".join(s.body))]


@pytest.mark.parametrize("relay", ["auto", "advert", "push"])
def test_a_sparse_topology_is_crossed_hop_by_hop(net: "Net", relay: str) -> None:
    nodes = chain(net, 5, relay=relay, full_mesh=False)
    artifact = nodes[0].publish(b"x" * 100)
    net.run(3)
    assert [e.hop for node in nodes[1:] for e in node.seen(K.VALIDATED, artifact)] == [1, 2, 3, 4]
    assert kinds(nodes[1], "n2") == [Kind.PUSH if relay == "push" else Kind.ADVERT]


def test_none_relays_nothing(net: "Net") -> None:
    nodes = chain(net, 3, relay="none", full_mesh=False)
    artifact = nodes[0].publish(b"x")
    net.run(3)
    assert nodes[1].holds(artifact)
    assert not nodes[2].holds(artifact)


def test_a_full_mesh_holds_relays_and_a_held_relay_takes_no_slot(net: "Net") -> None:
    nodes = net.mesh(4)
    net.run(1)
    nodes[0].publish(b"x")
    net.run(3)
    for node in nodes[1:]:
        assert not node.sent(effects.SendUpdates)
        assert node.core.gauges()["slots_in_use"] == 0


def test_held_relays_are_announced_when_their_source_disconnects(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.run(1)
    net.cut(a, c)
    artifact = a.publish(b"x")
    net.run(1)
    assert not c.holds(artifact)
    net.cut(a, b)
    net.run(1)
    assert c.holds(artifact)
    assert [(e.peer, e.hop) for e in c.seen(K.VALIDATED)] == [("n1", 2)]


def test_held_relays_are_announced_to_a_peer_that_connects_and_to_no_other(net: "Net") -> None:
    a, b, _ = net.mesh(3)
    net.run(1)
    artifact = a.publish(b"x")
    net.run(1)
    late = net.node("late")
    net.link(late, b)
    net.run(1)
    assert late.holds(artifact)
    assert not kinds(b, "n2")
    assert kinds(b, "late") == [Kind.ADVERT]


def test_what_a_source_delivered_before_it_left_reaches_all_even_after_it_was_shown_to_one(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.cut(a, c)
    net.run(1)
    artifact = a.publish(b"x")
    net.run(1)
    late = net.node("late")
    net.link(late, b)
    net.run(1)
    assert not c.holds(artifact)
    net.crash(a)
    net.run(1)
    assert c.holds(artifact)


def test_a_source_gone_before_validation_makes_the_relay_due_at_once(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.cut(a, c)
    net.run(1)
    artifact = a.publish(b"x")
    net.run(0.0099)
    net.at(net.now + 150_000, lambda: net.cut(a, b))
    net.run(1)
    if b.holds(artifact):
        assert c.holds(artifact)


def test_nothing_is_announced_to_a_peer_that_says_it_holds_it(net: "Net") -> None:
    a, b = chain(net, 2, full_mesh=False)
    artifact = a.publish(b"x")
    net.run(2)
    assert b.holds(artifact)
    assert not kinds(b, "n0")
    assert b.core.counters["suppressed"] == 1


def test_a_suppressed_update_is_due_at_once_when_the_peers_row_ends(net: "Net") -> None:
    a, b = chain(net, 2, full_mesh=False)
    artifact = a.publish(b"x")
    net.run(2)
    a.withdraw(artifact)
    net.run(0.2)
    assert kinds(b, "n0") == [Kind.ADVERT]
    net.run(2)
    assert not a.holds(artifact)


def test_relays_leave_slots_to_own_publications(net: "Net") -> None:
    a, b, c = (net.node(name, full_mesh=False, slots_per_peer=8) for name in "abc")
    net.link(a, b)
    net.link(b, c)
    net.run(1)
    for _ in range(8):
        a.publish(b"x")
    net.run(2)
    assert b.core.gauges()["slots_in_use"] == 6
    own = b.publish(b"mine")
    net.run(1)
    assert a.holds(own)
    assert c.holds(own)


def test_a_relay_without_a_slot_goes_out_when_one_is_free(net: "Net") -> None:
    a, b, c = (net.node(name, full_mesh=False, slots_per_peer=8) for name in "abc")
    net.link(a, b)
    net.link(b, c)
    net.run(1)
    ids = [a.publish(b"x") for _ in range(8)]
    net.run(2)
    assert len(c.core.pool.ids()) == 6
    b.withdraw(ids[0])
    b.withdraw(ids[1])
    net.run(2)
    assert len(c.core.pool.ids()) == 8


def test_hops_saturate(net: "Net") -> None:
    from p2pnet.broadcast import inputs
    from p2pnet.broadcast.wire import encode_push

    a, b = chain(net, 2, full_mesh=False)
    made = a.core.client.make("f", b"x", nonce=bytes(16), now=net.wall, keep_s=60)
    push = b"".join(encode_push(0, 0, 255, made))
    b.core.handle(inputs.UpdatesReceived("n0", b.connections["n0"], 1, push), net.now, net.wall)
    b.arm()
    net.run(1)
    assert [e.hop for e in b.core.pool.validated.values()] == [255]
