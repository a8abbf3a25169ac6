import pytest
from tests.sim.conftest import give, update

from p2pnet.broadcast import BlobClient, Bounce
from p2pnet.model.ids import ArtifactId
from p2pnet.sim import NotQuiet, Pending, World


def pair(**link):
    world = World(1)
    a, b = world.node("a"), world.node("b")
    world.link("a", "b", **link)
    return world, a, b


def test_a_world_that_has_nothing_to_do_is_quiet_at_once():
    world, _, _ = pair()
    world.settle()
    start = world.now
    world.settle()
    assert world.now == start
    assert world.pending() == {}


def test_settling_ends_when_the_last_message_has_arrived():
    world, a, b = pair()
    x = a.publish(b"x", keep="1h")
    world.settle()
    assert b.holds(x)
    assert world.now < 2
    assert world.pending() == {}
    assert world.broken() == []


def test_messages_on_their_way_are_pending_at_their_sender():
    world, a, _ = pair(delay="1s")
    world.run(5)
    a.publish(b"x")
    world.run("500ms")
    (left,) = [what for what in world.pending()["a"] if what.detail.startswith("updates, ")]
    assert (left.kind, left.peer) == ("message", "b")
    world.run(1)
    assert "answer, 1 bytes" in [what.detail for what in world.pending()["b"]]


def test_what_never_ends_is_named_with_its_node_and_artifact(scripted):
    world = scripted()
    world.link("a", "b")
    a = world.nodes["a"]
    a.core.due = 10**18
    a.core.left = [Pending("task", ArtifactId(bytes.fromhex("1f0c2b9a") + bytes(28)), "b", "no source")]
    give(a)
    a.core.due = 10**18
    with pytest.raises(NotQuiet, match=r"a: task 1f0c2b9a \(with b\): no source") as raised:
        world.settle("5m")
    assert world.now == 300
    assert raised.value.pending == {"a": a.core.left}


def test_a_core_that_is_due_and_does_not_say_why_is_named(scripted):
    world = scripted("a")
    a = world.nodes["a"]
    world.run(1)
    a.core.due = 10**18
    give(a)
    a.core.due = 10**18
    with pytest.raises(NotQuiet, match="a: wake: due 1e"):
        world.settle("5m")


def test_a_request_without_an_answer_is_due_no_more_than_its_core_says(scripted):
    world = scripted()
    world.link("a", "b")
    world.nodes["b"].core.answers.clear()
    update(world.nodes["a"], "b")
    world.settle()
    assert world.now < 1


def test_a_paused_node_with_something_to_handle_is_not_quiet():
    world, a, b = pair()
    world.settle()
    b.pause()
    a.publish(b"x")
    with pytest.raises(NotQuiet, match=r"b: wake: paused, with \d inputs"):
        world.settle("1m")
    b.resume()
    world.settle()
    assert world.broken() == []


def test_a_crash_leaves_nothing_pending_once_it_was_noticed():
    world, a, b = pair()
    a.publish(bytes(300_000))
    b.crash()
    world.settle()
    assert world.pending() == {}


def test_expiries_and_ticks_do_not_keep_a_world_busy():
    class Ticking(BlobClient):
        tick_s = 1.0

    world = World()
    a = world.node("a", client=Ticking)
    a.publish(b"x", keep="1h")
    world.settle()
    assert world.now < 1


def test_a_slow_client_at_work_is_pending():
    world = World()
    world.node("a", client_delay="5s")
    world.run(1)
    assert Pending("client", detail="at work") in world.pending()["a"]
    world.settle()
    assert world.now == 5


def test_a_world_cannot_be_settled_by_an_undecided_bouncer_for_ever():
    class Undecided(BlobClient):
        def bouncer(self, artifact, key, size):
            return Bounce.MAYBE_LATER

    world = World()
    a, b = world.node("a"), world.node("b", client=Undecided)
    world.link("a", "b")
    a.publish(b"x")
    world.run("10s")
    assert b.held() == []
    assert not [line for line in world.broken() if "does not hold" in line]
