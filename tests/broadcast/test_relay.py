"""Passing on: none, auto (held in a full mesh), advert, push; what need not be sent, and what waits for a slot."""

from typing import TYPE_CHECKING, Any

import pytest
from tests.broadcast.kit import Plain

from p2pnet.broadcast import effects
from p2pnet.broadcast.wire import EntryKind, decode_updates, encode_push
from p2pnet.model.events import EventKind
from p2pnet.model.limits import PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

K = EventKind


def kinds(node: "Node", peer: str) -> list[int]:
    """What it wrote to one peer, in order."""
    sent = [s for s in node.sent(effects.SendUpdates) if s.peer == peer]
    return [entry.kind for s in sent for entry in decode_updates(b"".join(s.body))]


@pytest.mark.parametrize("relay", ["auto", "advert", "push"])
def test_a_sparse_topology_is_crossed_hop_by_hop(net: "Net", relay: str) -> None:
    nodes = net.chain(5, relay=relay)
    artifact = nodes[0].publish(b"x" * 100)
    net.run(3)
    assert [e.hop for node in nodes[1:] for e in node.seen(K.VALIDATED, artifact)] == [1, 2, 3, 4]
    assert kinds(nodes[1], "n2") == [EntryKind.ADVERT if relay == "advert" else EntryKind.PUSH]


def test_a_relay_that_pushes_advertises_what_is_not_small(net: "Net") -> None:
    nodes = net.chain(3, relay="push")
    artifact = nodes[0].publish(b"x" * 1024)
    net.run(3)
    assert nodes[2].holds(artifact)
    assert kinds(nodes[1], "n2") == [EntryKind.ADVERT]


def test_none_relays_nothing(net: "Net") -> None:
    nodes = net.chain(3, relay="none")
    small, large = nodes[0].publish(b"x"), nodes[0].publish(bytes(5 * PART_BYTES))
    net.run(30)
    assert nodes[1].holds(small)
    assert nodes[1].holds(large)
    assert not nodes[2].core.pool.ids()
    assert not kinds(nodes[1], "n2")


def test_a_full_mesh_holds_relays_and_a_held_relay_takes_no_slot(net: "Net") -> None:
    nodes = net.mesh(4)
    net.run(1)
    nodes[0].publish(b"x")
    net.run(30)
    for node in nodes[1:]:
        assert not node.sent(effects.SendUpdates)
        assert node.core.gauges()["slots_in_use"] == 0
        assert node.core.counters["relays_held"] == 1


def test_in_a_full_mesh_parts_are_passed_on_while_they_arrive(net: "Net") -> None:
    nodes = net.mesh(4)
    net.run(1)
    artifact = nodes[0].publish(bytes(40 * PART_BYTES))
    net.run(5)
    assert all(node.holds(artifact) for node in nodes)
    served = [node.core.counters["parts_served"] for node in nodes]
    assert served[0] < 2 * 41
    assert min(served[1:]) > 10


def test_a_client_decides_for_its_own_artifacts(net: "Net") -> None:
    class OddOnly(Plain):
        def relay(self, artifact: Any, key: bytes) -> Any:
            return "advert" if key[0] % 2 else "none"

    nodes = [net.node(name, client=OddOnly(), full_mesh=False) for name in "abc"]
    net.link(nodes[0], nodes[1])
    net.link(nodes[1], nodes[2])
    net.run(1)
    for number in range(4):
        nodes[0].publish(bytes([number]) * 9)
    net.run(30)
    assert len(nodes[1].core.pool.ids()) == 4
    assert {found.inspected.key[0] for found in nodes[2].core.pool.validated.values()} == {1, 3}


# What need not be sent


def test_nothing_is_announced_to_a_peer_that_says_it_holds_it(net: "Net") -> None:
    a, b = net.chain(2)
    artifact = a.publish(b"x")
    net.run(2)
    assert b.holds(artifact)
    assert not kinds(b, "n0")
    assert b.core.counters["suppressed"] == 1


def test_a_suppressed_update_is_due_at_once_when_the_peers_row_ends(net: "Net") -> None:
    a, b = net.chain(2, relay="advert")
    artifact = a.publish(b"x")
    net.run(2)
    a.withdraw(artifact)
    net.run(0.2)
    assert kinds(b, "n0") == [EntryKind.ADVERT]
    net.run(2)
    assert not a.holds(artifact)


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


# Slots


def test_relays_leave_slots_to_own_publications(net: "Net") -> None:
    a, b, c = net.chain(3, slots_per_peer=8)
    for _ in range(8):
        a.publish(b"x")
    net.run(2)
    assert b.core.gauges()["slots_in_use"] == 6
    own = b.publish(b"mine")
    net.run(1)
    assert a.holds(own)
    assert c.holds(own)


def test_a_relay_without_a_slot_goes_out_when_one_is_free(net: "Net") -> None:
    a, b, c = net.chain(3, slots_per_peer=8)
    ids = [a.publish(b"x") for _ in range(8)]
    net.run(2)
    assert len(c.core.pool.ids()) == 6
    assert b.core.waiting_for_slot() == ids[6:]
    b.withdraw(ids[0])
    b.withdraw(ids[1])
    net.run(2)
    assert len(c.core.pool.ids()) == 8
    assert b.core.waiting_for_slot() == []


def test_a_relay_that_waits_for_a_slot_is_forgotten_when_it_leaves_the_pool(net: "Net") -> None:
    a, b, c = net.chain(3, slots_per_peer=8)
    ids = [a.publish(b"x") for _ in range(8)]
    net.run(2)
    b.withdraw(ids[7])
    assert b.core.waiting_for_slot() == [ids[6]]
    b.withdraw(ids[0])
    net.run(2)
    assert set(c.core.pool.ids()) == set(ids[:7])


def test_parts_are_not_offered_while_slots_are_short_and_the_whole_still_arrives(net: "Net") -> None:
    a, b, c = net.chain(3, slots_per_peer=8)
    small = [a.publish(b"x") for _ in range(6)]
    net.run(2)
    large = a.publish(bytes(20 * PART_BYTES))
    net.run(2)
    assert b.holds(large)
    assert b.core.counters["partial_offered"] == 0
    b.withdraw(small[0])
    net.run(2)
    assert c.holds(large)


def test_hops_saturate(net: "Net") -> None:
    a, b = net.chain(2)
    made = a.core.client.make("f", b"x", nonce=bytes(16), now=net.wall, keep_s=60)
    net.say(a, b, *encode_push(0, 0, 255, made))
    net.run(1)
    assert [e.hop for e in b.core.pool.validated.values()] == [255]
