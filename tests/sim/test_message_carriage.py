"""Worlds whose messages pass netem's message model."""

from typing import Any

import pytest
from tests.sim.conftest import ScriptedCore, fetch, give, update

from p2pnet.broadcast import effects, inputs
from p2pnet.model.errors import LocalError
from p2pnet.netem import AccessShape, LinkShape
from p2pnet.sim import NotQuiet, World, incarnation

MS = 1_000_000
DELAYED = LinkShape(delay_ns=50 * MS)
BLOCKED = LinkShape(delay_ns=50 * MS, blocked=True)
MIB = 1 << 20


def world_of(names: str = "ab", seed: int = 1, **node: Any) -> World:
    world = World(seed, model="messages")
    for name in names:
        world.node(name, **node)
    world.full_mesh(delay="50ms")
    return world


@pytest.fixture
def scripted_messages(monkeypatch) -> Any:
    monkeypatch.setattr(incarnation, "Broadcast", ScriptedCore)
    return world_of


def block(world: World, a: str, b: str, shape: LinkShape = BLOCKED) -> None:
    world.shape(a, b, shape)
    world.shape(b, a, shape)


def test_a_small_message_takes_the_delay_and_a_large_one_its_windows(scripted_messages):
    world = scripted_messages()
    update(world.nodes["a"], "b", 700)
    world.run(5)
    update(world.nodes["a"], "b", MIB)
    world.run(5)
    small, large = world.nodes["b"].core.times(inputs.UpdatesReceived)
    assert small == 0.05
    assert 5.5 < large < 5.7


def test_answers_pass_the_model_too(scripted_messages):
    world = scripted_messages()
    world.nodes["b"].core.answers[inputs.FetchReceived] = lambda what: [effects.AnswerFetch(what.token, [bytes(MIB)])]
    fetch(world.nodes["a"], "b")
    world.run(5)
    assert 0.65 < world.nodes["a"].core.times(inputs.FetchAnswered)[0] < 0.85  # a round trip more, for its grant


def test_the_shape_of_one_way_is_not_that_of_the_other(scripted_messages):
    world = scripted_messages()
    world.shape("a", "b", LinkShape(delay_ns=200 * MS))
    update(world.nodes["a"], "b")
    update(world.nodes["b"], "a")
    world.run(1)
    assert world.nodes["b"].core.times(inputs.UpdatesReceived) == [0.2]
    assert world.nodes["a"].core.times(inputs.UpdatesReceived) == [0.05]


def test_a_changed_shape_acts_on_the_next_message_and_not_on_those_under_way(scripted_messages):
    world = scripted_messages()
    update(world.nodes["a"], "b")
    world.run("10ms")
    world.shape("a", "b", LinkShape(delay_ns=MS))
    update(world.nodes["a"], "b")
    world.run(1)
    assert world.nodes["b"].core.times(inputs.UpdatesReceived) == [0.011, 0.05]


def test_an_uplink_may_change_while_the_world_runs(scripted_messages):
    world = scripted_messages("abc", up="8Mbit")
    update(world.nodes["a"], "b", 10_000)
    world.run(5)
    world.access("a", AccessShape(bandwidth_bps=80e6))
    update(world.nodes["a"], "c", 10_000, connection=2)
    world.run(5)
    (slow,), (fast,) = (world.nodes[name].core.times(inputs.UpdatesReceived) for name in "bc")
    assert slow == pytest.approx(0.05 + 0.0101, abs=0.001)
    assert fast == pytest.approx(5.05 + 0.00101, abs=0.0002)


def test_a_block_lets_nothing_through_and_its_connection_ends_after_the_idle_time(scripted_messages):
    world = scripted_messages()
    world.run(1)
    block(world, "a", "b")
    update(world.nodes["a"], "b")
    world.run(9)
    a, b = world.nodes["a"].core, world.nodes["b"].core
    assert not a.of(inputs.PeerDown)
    world.run(7)
    assert not b.of(inputs.UpdatesReceived)
    assert len(a.of(inputs.PeerDown)) == len(b.of(inputs.PeerDown)) == 1
    assert len(a.of(inputs.UpdatesAnswered)) == 1
    world.run(60)
    assert world.nodes["a"].peers() == []


def test_a_healed_path_is_dialled_again_within_the_longest_back_off(scripted_messages):
    world = scripted_messages()
    world.run(1)
    block(world, "a", "b")
    world.run(19)
    block(world, "a", "b", DELAYED)
    world.run("3500ms")
    assert world.nodes["a"].peers() == ["b"]
    ups = world.nodes["a"].core.times(inputs.PeerUp)
    assert ups[1] >= 20 + 6 * 0.05


def test_a_short_block_costs_time_and_no_connection(scripted_messages):
    world = scripted_messages()
    world.run(1)
    block(world, "a", "b")
    update(world.nodes["a"], "b")
    world.run(2)
    block(world, "a", "b", DELAYED)
    world.run(60)
    assert len(world.nodes["b"].core.of(inputs.UpdatesReceived)) == 1
    assert world.nodes["b"].core.times(inputs.UpdatesReceived)[0] > 3
    assert not world.nodes["a"].core.of(inputs.PeerDown)


def test_one_way_that_is_blocked_ends_the_connection_at_both_ends(scripted_messages):
    world = scripted_messages()
    world.run(1)
    world.shape("a", "b", BLOCKED)
    world.run(20)
    assert all(len(world.nodes[name].core.of(inputs.PeerDown)) == 1 for name in "ab")


def test_what_is_reset_before_it_has_left_never_arrives(scripted_messages):
    world = scripted_messages()
    token = update(world.nodes["a"], "b", MIB)
    world.run("200ms")
    give(world.nodes["a"], effects.Cancel(token))
    world.run(5)
    assert not world.nodes["b"].core.of(inputs.UpdatesReceived)


def test_wire_bytes_count_headers_and_bytes_sent_does_not(scripted_messages):
    world = scripted_messages()
    world.run(1)
    before = world.wire_bytes_of("a")
    update(world.nodes["a"], "b", 1_000)
    world.run(1)
    assert world.bytes_sent == 1_002
    assert 1_050 < world.wire_bytes_of("a") - before < 1_150


def test_a_restart_costs_a_handshake_of_three_round_trips(scripted_messages):
    world = scripted_messages()
    world.run(1)
    before = world.wire_bytes_of("b")
    world.nodes["a"].restart()
    world.run(5)
    assert 1.3 <= world.nodes["a"].core.times(inputs.PeerUp)[0] <= 1.35
    assert world.wire_bytes_of("b") - before > 2_500


def test_a_world_says_what_a_blocked_message_waits_for(scripted_messages):
    world = scripted_messages()
    world.run(1)
    update(world.nodes["a"], "b", MIB)
    world.run("100ms")
    with pytest.raises(NotQuiet, match="window"):
        world.settle("10ms")
    block(world, "a", "b")
    assert any("idle" in what.detail for what in world.pending()["a"])


def test_shapes_are_for_the_message_model_alone():
    world = World(1)
    world.node("a"), world.node("b")
    world.link("a", "b")
    for call in (
        lambda: world.shape("a", "b", DELAYED),
        lambda: world.access("a", AccessShape(bandwidth_bps=1e6)),
        lambda: world.wire_bytes_of("a"),
    ):
        with pytest.raises(LocalError, match="messages"):
            call()


def test_everything_reaches_everybody_over_narrow_lossy_links_and_a_partition():
    digests = []
    for _ in range(2):
        world = World(3, model="messages")
        nodes = [world.node(f"n{number}", up="20Mbit", down="50Mbit") for number in range(8)]
        world.full_mesh(delay="40ms", loss="2%")
        lossy = LinkShape(delay_ns=40 * MS, jitter_ns=5 * MS, loss=0.03, bandwidth_bps=10e6)
        for node in nodes[1:4]:
            block_to = LinkShape(delay_ns=40 * MS, blocked=True)
            for other in nodes[4:]:
                world.shape(node.name, other.name, block_to)
                world.shape(other.name, node.name, block_to)
        published = [node.publish(bytes(size)) for node, size in zip(nodes, (100, 70_000, 400_000), strict=False)]
        world.run(30)
        for node in nodes[1:4]:
            for other in nodes[4:]:
                world.shape(node.name, other.name, lossy)
                world.shape(other.name, node.name, lossy)
        world.settle()
        assert world.broken() == []
        assert all(node.holds(artifact) for node in nodes for artifact in published)
        digests.append(world.digest())
    assert digests[0] == digests[1]
