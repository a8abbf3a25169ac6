from typing import ClassVar

import pytest

from p2pnet.broadcast import inputs
from p2pnet.model.errors import LocalError
from p2pnet.model.events import EventKind
from p2pnet.sim import MANNERS, Liar, NotQuiet, World


def world_with(manner, count=5, until="20s", **more):
    world = World(3)
    nodes = [world.node(f"n{i}") for i in range(count)]
    liar = world.liar("z", manner, until=until, **more)
    world.regular(4 if count % 2 else 3, delay="20ms", jitter="5ms")
    return world, liar, nodes


@pytest.mark.parametrize("manner", sorted(MANNERS))
def test_honest_nodes_get_what_honest_nodes_publish_whatever_a_liar_does(manner):
    world, liar, nodes = world_with(manner)
    published = []
    for i, size in enumerate((10, 3_000, 200_000)):
        published.append(nodes[i].publish(bytes([i]) * size))
        world.run("3s")
    liar.stop()
    world.run("20s")
    assert all(node.holds(x) for node in nodes for x in published)


@pytest.mark.parametrize("manner", sorted(MANNERS))
def test_a_liar_lies_the_same_way_every_time(manner):
    digests = set()
    for _ in range(2):
        world, _, nodes = world_with(manner, until="5s")
        nodes[0].publish(bytes(70_000))
        world.run("6s")
        digests.add(world.digest())
    assert len(digests) == 1


def test_settling_waits_for_a_liar_to_stop():
    world, _liar, nodes = world_with("never-remove", until="8s")
    nodes[0].publish(b"x")
    world.settle()
    assert 8 <= world.now < 10
    assert world.pending() == {}


def test_a_liar_that_acts_too_long_is_named():
    world, _, _nodes = world_with("never-remove", until="2h")
    with pytest.raises(NotQuiet, match="z: wake: a liar that still acts"):
        world.settle("1m")


def test_wrong_bytes_are_blamed_on_the_liar():
    world, _, nodes = world_with("wrong-bytes")
    world.cut("n0", "z")
    world.run(1)
    nodes[0].publish(bytes(100_000))
    world.run("15s")
    blamed = {e.peer for node in nodes for e in node.events if e.kind is EventKind.FETCH_FAILED}
    assert blamed <= {"z"}


def test_a_liar_collects_what_it_hears_of():
    world, liar, nodes = world_with("never-remove")
    x = nodes[0].publish(bytes(200_000))
    world.run("10s")
    assert liar.known[x].data == nodes[0].core.pool.validated[x].data


def test_a_liar_of_ones_own_is_a_subclass():
    class Shy(Liar):
        asked: ClassVar[list[str]] = []

        def answer(self, peer, entries):
            self.asked.append(peer)

    world, liar, nodes = world_with("never-remove", kind=Shy)
    nodes[0].publish(b"x")
    world.run(5)
    assert isinstance(liar, Shy)
    assert liar.asked
    assert not nodes[0].core.counters["given_up"]


def test_a_liar_can_be_scripted(scripted):
    world = scripted("a")
    a = world.nodes["a"]
    liar = world.liar("z", "silent", until=0)
    world.link("a", "z")
    x = liar.make(b"made")
    world.run(1)
    liar.claim("a", [x])
    liar.push_to("a", b"pushed", slot=3)
    liar.ask("a", x, 0)
    world.run(1)
    assert [what.peer for what in a.core.of(inputs.UpdatesReceived)] == ["z", "z"]
    assert len(a.core.of(inputs.FetchReceived)) == 1


def test_what_a_liar_owes_is_not_held_against_the_promise():
    world, _liar, nodes = world_with("refuse-acks")
    nodes[0].publish(b"x")
    world.run("10m")
    assert world.broken() == []


def test_a_manner_there_is_not_is_refused():
    with pytest.raises(LocalError, match="wrong-bytes"):
        World().liar("z", "friendly")
