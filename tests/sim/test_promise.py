import itertools

import pytest

from p2pnet.broadcast import Artifact, Broadcast, Inspected
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.ids import ArtifactId
from p2pnet.sim import World

SPARSE = BroadcastSettings(full_mesh=False)


def line(names="abc", **settings):
    """Nodes in a row."""
    world = World(1)
    nodes = [world.node(name, settings=BroadcastSettings(full_mesh=False, **settings)) for name in names]
    for a, b in itertools.pairwise(names):
        world.link(a, b)
    return world, *nodes


def test_a_promise_that_is_kept_has_nothing_to_say():
    world, a, _b, c = line()
    x = a.publish(b"x")
    world.settle()
    assert c.holds(x)
    assert world.broken() == []


def test_what_is_missing_is_named_with_the_peer_that_holds_it():
    world, a, _b, c = line()
    x = a.publish(b"x")
    world.settle()
    del c.core.pool.validated[x]
    assert world.broken() == [f"c does not hold {x.hex()[:8]}: its peer b holds it"]


def test_a_node_behind_one_that_misses_it_is_owed_it_too():
    world, a, b, c = line()
    x = a.publish(b"x")
    world.settle()
    del b.core.pool.validated[x], c.core.pool.validated[x]
    assert [sentence[:15] for sentence in world.broken()] == ["b does not hold", "c does not hold"]


def test_nothing_is_owed_over_a_link_that_is_down():
    world, a, _b, c = line()
    x = a.publish(b"x")
    world.settle()
    world.cut("b", "c")
    world.settle()
    del c.core.pool.validated[x]
    assert world.broken() == []


def test_a_node_that_wants_no_more_of_it_is_owed_nothing_and_is_no_path():
    world, a, b, c = line()
    world.cut("b", "c")
    x = a.publish(b"x")
    world.settle()
    b.purge(x)
    world.heal("b", "c")
    world.settle()
    assert not c.holds(x)
    assert world.broken() == []


def test_a_new_incarnation_is_owed_what_the_former_one_purged():
    world, a, b, _c = line()
    x = a.publish(b"x")
    world.settle()
    b.purge(x)
    b.restart()
    world.settle()
    assert b.holds(x)
    del b.core.pool.validated[x]
    assert [sentence[:15] for sentence in world.broken()] == ["b does not hold"]


def test_a_node_that_is_down_is_owed_nothing():
    world, a, _b, c = line()
    a.publish(b"x")
    c.crash()
    world.settle()
    assert world.broken() == []


def test_what_was_withdrawn_is_nowhere():
    world, a, _b, c = line()
    x = a.publish(b"x")
    world.settle()
    kept = c.core.pool.validated[x]
    world.withdraw(x)
    world.settle()
    assert world.broken() == []
    c.core.pool.validated[x] = kept
    assert world.broken() == [f"c holds {x.hex()[:8]}, which was withdrawn"]


def test_what_has_expired_is_nowhere():
    world, a, _b, c = line()
    x = a.publish(b"x", keep="10s")
    world.settle()
    kept = c.core.pool.validated[x]
    world.run("13s")
    assert world.broken() == []
    c.core.pool.validated[x] = kept
    assert world.broken() == [f"c holds {x.hex()[:8]}, which expired {world.now - 10:.3g} s ago"]


def test_what_nobody_was_told_to_judge_is_missing():
    world, a, _b, c = line()
    x = a.publish(b"x")
    world.settle()
    c.core.pool.unvalidated[x] = c.core.pool.validated.pop(x)
    assert world.broken() == []
    c.record.shown.clear()
    assert world.broken() == [f"c has not judged {x.hex()[:8]}: its peer b holds it"]


def test_an_artifact_too_large_for_a_node_is_not_owed_to_it():
    world, a, _b = line("ab")
    small = world.node("small", settings=BroadcastSettings(full_mesh=False, artifact_bytes_max=100))
    world.link("small", "b")
    a.publish(bytes(2000))
    world.settle()
    assert small.held() == []
    assert not [sentence for sentence in world.broken() if sentence.startswith("small does")]


def test_a_node_that_does_not_relay_is_no_path():
    world, a, b, c = line(relay="none")
    x = a.publish(b"x")
    world.settle()
    assert b.holds(x)
    assert not c.holds(x)
    assert world.broken() == []


def test_what_is_left_to_do_is_broken_too():
    world, a, _b, _c = line()
    a.publish(b"x")
    assert any(sentence.startswith("a is not at rest: ") for sentence in world.broken())


@pytest.mark.parametrize("waiting", [True, False])
def test_what_waits_for_a_slot_is_not_owed_yet(waiting, monkeypatch):
    world, a, _b = line("ab")
    world.settle()
    x = ArtifactId(bytes(32))
    a.core.pool.validated[x] = Artifact(id=x, data=b"x", parts=b"", inspected=Inspected(size=1))
    if waiting:
        monkeypatch.setattr(Broadcast, "waiting_for_slot", lambda core: [x] if core is a.core else [])
    assert bool(world.broken()) is not waiting
