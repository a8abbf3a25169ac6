from functools import partial

import pytest
from tests.sim.conftest import give

from p2pnet.broadcast import BlobClient, Bounce, effects, inputs
from p2pnet.broadcast.pool import AddToValidated
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.errors import LocalError, SpecError
from p2pnet.model.events import EventKind
from p2pnet.sim import CoreFailedError, PublicationRefusedError, World


class Counting(BlobClient):
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def on_state_change(self, changes, pool, now):
        self.calls += 1
        return super().on_state_change(changes, pool, now)


class Picky(BlobClient):
    """Wants nothing."""

    def bouncer(self, artifact, key, size):
        return Bounce.UNWANTED


class Broken(BlobClient):
    """Raises whenever it has to judge something."""

    def on_state_change(self, changes, pool, now):
        if pool.unvalidated:
            raise RuntimeError("no idea")
        return []


class Producing(BlobClient):
    """Makes one artifact of its own accord."""

    def on_state_change(self, changes, pool, now):
        mine = self.make("mine", b"mine", nonce=bytes(16), now=now, keep_s=100)
        return [AddToValidated(mine)] if not pool.validated else []


def pair(**node):
    world = World(1)
    a, b = world.node("a", **node), world.node("b", **node)
    world.link("a", "b")
    return world, a, b


def test_what_is_published_is_held_by_all():
    world, a, b = pair()
    x = a.publish(b"hello", keep="1h", name="greeting")
    assert a.holds(x)
    assert not b.holds(x)
    world.run("60ms")
    assert b.held() == [x]
    assert b.core.pool.validated[x].inspected.name == "greeting"
    assert world.delivered(x) == {"b": pytest.approx(0.05)}
    assert world.latencies(x) == [pytest.approx(0.05)]


def test_a_megabyte_takes_its_time_on_the_uplink():
    world = World()
    a, b = world.node("a", up="100Mbit"), world.node("b")
    world.link("a", "b", delay="50ms")
    x = a.publish(bytes(1 << 20))
    world.settle()
    serialised = (1 << 20) * 8 / 100e6
    assert serialised + 0.05 < world.delivered(x)["b"] < serialised + 0.5
    assert b.holds(x)


def test_an_artifact_is_gone_when_it_expires():
    world, a, b = pair()
    x = a.publish(b"short", keep="5s")
    world.run("4s")
    assert b.holds(x)
    world.run("2s")
    assert not a.holds(x)
    assert not b.holds(x)


def test_a_purge_is_one_nodes_own_and_a_withdrawal_everybodys():
    world, a, b = pair()
    x, y = a.publish(b"x"), a.publish(b"y")
    world.settle()
    b.purge(x)
    world.withdraw(y)
    world.settle()
    assert a.held() == [x]
    assert b.held() == []
    assert world.broken() == []


def test_who_starts_after_a_withdrawal_is_told():
    world, a, b = pair()
    x = a.publish(b"x")
    world.settle()
    b.crash()
    world.withdraw(x)
    b.restart()
    late = world.node("late")
    world.run(1)
    assert late.core.counters["withdrawals_unknown"] == 1
    assert b.held() == []


def test_equal_payloads_are_held_once():
    world, a, b = pair()
    x = a.publish(bytes(200_000))
    world.settle()
    assert b.core.pool.validated[x].data is a.core.pool.validated[x].data
    world.withdraw(x)
    assert not world._context.payloads


def test_a_restarted_node_has_forgotten_and_gets_it_again():
    world, a, b = pair()
    x = a.publish(b"x")
    world.settle()
    b.crash()
    assert not b.is_up
    assert not b.holds(x)
    b.restart()
    assert b.incarnations == 2
    assert not b.holds(x)
    world.settle()
    assert b.holds(x)


def test_events_are_kept_with_their_time_over_incarnations():
    world, a, b = pair()
    x = a.publish(b"x")
    world.settle()
    b.restart()
    world.settle()
    validated = [event for event in b.events if event.kind is EventKind.VALIDATED]
    assert [event.artifact for event in validated] == [x, x]
    assert [event.peer for event in validated] == ["a", "a"]
    assert validated[0].time == pytest.approx(0.05)
    assert validated[0].hop == 1
    assert world.delivered(x)["b"] == pytest.approx(0.05)


def test_a_publication_that_cannot_be_is_refused_with_its_reason():
    world = World()
    a = world.node("a", settings=BroadcastSettings(artifact_bytes_max=10))
    with pytest.raises(PublicationRefusedError, match="at most 10"):
        a.publish(bytes(11))
    with pytest.raises(LocalError):
        a.publish(b"x", keep="99d")


def test_a_node_that_is_down_or_paused_cannot_publish():
    _world, a, b = pair()
    a.crash()
    b.pause()
    with pytest.raises(LocalError, match="a is down"):
        a.publish(b"x")
    with pytest.raises(LocalError, match="b is paused"):
        b.publish(b"x")


@pytest.mark.parametrize("client", ["tests.sim.test_node:Counting", Counting, partial(Counting), Counting()])
def test_every_incarnation_has_a_fresh_client(client):
    world, a, b = pair(client=client)
    world.settle()
    first = a.client
    assert isinstance(first, Counting)
    assert first is not b.client
    assert first.calls
    a.restart()
    assert a.client is not first
    assert a.client.calls == 0


@pytest.mark.parametrize("client", ["nothing", "no.such.module:Client", "p2pnet.broadcast:NoClient", 5])
def test_a_client_that_is_none_is_refused(client):
    with pytest.raises(SpecError):
        World().node("a", client=client)


def test_what_a_client_raises_is_told_to_the_core_and_the_world_goes_on(scripted):
    world = scripted("a", client=Broken)
    a = world.nodes["a"]
    a.core.pool.unvalidated[b"x"] = object()
    give(a, effects.RunClient([]))
    world.run(1)
    assert a.core.of(inputs.ClientAnswered) == [inputs.ClientAnswered([], 0, failed="RuntimeError('no idea')")]


def test_a_slow_client_works_on_the_pool_as_it_was(scripted):
    seen = []

    class Looking(BlobClient):
        def on_state_change(self, changes, pool, now):
            seen.append(sorted(pool.validated))
            return []

    world = scripted("a", client=Looking, client_delay="30ms")
    a = world.nodes["a"]
    a.core.pool.validated[b"old"] = object()
    give(a, effects.RunClient([]))
    a.core.pool.validated[b"new"] = object()
    world.run(1)
    assert seen == [[b"old"]]
    assert a.core.times(inputs.ClientAnswered) == [0.03]


def test_what_a_client_makes_is_delivered():
    world = World()
    a = world.node("a", client=Producing)
    b = world.node("b")
    world.link("a", "b")
    world.settle()
    assert a.held() == b.held()
    assert len(a.held()) == 1
    assert world.delivered(a.held()[0]) == {"b": pytest.approx(0.05)}


def test_a_client_that_wants_nothing_gets_nothing():
    world = World()
    a, b = world.node("a"), world.node("b", client=Picky)
    world.link("a", "b")
    a.publish(b"x")
    world.settle()
    assert b.held() == []
    assert world.broken() == []


def test_quota_and_settings_reach_the_core(scripted):
    world = scripted("")
    settings = BroadcastSettings(relay="advert")
    a = world.node("a", settings=settings, quota="400kB")
    assert a.core.quota == 400_000
    assert a.core.settings == settings
    assert a.settings == settings


def test_nodes_of_a_regular_world_know_that_it_is_sparse(scripted):
    world = scripted("abcdef")
    own = world.node("own", settings=BroadcastSettings())
    world.node("h")
    world.regular(3)
    late = world.node("late")
    world.run(1)
    assert not world.nodes["a"].core.settings.full_mesh
    assert not late.core.settings.full_mesh
    assert own.core.settings.full_mesh
    assert [len(world.nodes[name].peers()) for name in "abcdefh"] == [3] * 7


def test_a_shape_that_comes_too_late_is_refused(scripted):
    world = scripted("abcd")
    assert world.nodes["a"].core.settings.full_mesh
    with pytest.raises(LocalError, match="node a has started"):
        world.regular(2)


def test_a_fault_of_a_core_comes_out_of_run_with_node_and_input(scripted):
    world = scripted()
    world.link("a", "b")
    world.nodes["b"].core.answers[inputs.PeerDown] = lambda _: 1 / 0
    world.cut("a", "b")
    with pytest.raises(CoreFailedError, match=r"node b, input PeerDown, 0\.\d+ s .*ZeroDivisionError") as raised:
        world.run(1)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_turn_wakes_its_core_four_times_at_most(scripted):
    world = scripted("a")
    a = world.nodes["a"]
    world.run(1)
    turns = []

    def again(_):
        turns.append(len(a.core.of(inputs.Wake)))
        a.core.due = 1_000_000_000 if len(turns) < 10 else None
        return []

    a.core.answers[inputs.Wake] = again
    give(a)
    world.run(1)
    assert len(turns) == 10
    assert a.core.times(inputs.Wake)[-1] == 1.0


def test_a_core_that_is_due_for_ever_is_a_fault(scripted):
    world = scripted("a")
    a = world.nodes["a"]

    def again(_):
        a.core.due = 0
        return []

    a.core.answers[inputs.Wake] = again
    give(a)
    with pytest.raises(CoreFailedError, match="node a: its core is due for ever"):
        world.run(1)
