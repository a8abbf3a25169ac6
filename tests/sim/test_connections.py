import pytest
from tests.sim.conftest import update

from p2pnet.broadcast import inputs
from p2pnet.model.errors import LocalError


def ups(world, name):
    return [(what.peer, what.connection) for what in world.nodes[name].core.of(inputs.PeerUp)]


def downs(world, name):
    return [(what.peer, what.connection) for what in world.nodes[name].core.of(inputs.PeerDown)]


def test_links_made_before_the_start_are_up_from_the_start_with_ids_from_one(scripted):
    world = scripted("abc")
    world.full_mesh()
    world.run(0)
    assert ups(world, "a") == [("b", 1), ("c", 2)]
    assert ups(world, "c") == [("a", 1), ("b", 2)]
    assert world.nodes["b"].core.times(inputs.PeerUp) == [0.0, 0.0]


def test_members_are_told_before_any_peer_is_up(scripted):
    world = scripted("abc")
    world.full_mesh()
    world.run(0)
    first = world.nodes["a"].core.seen[0][1]
    assert first == inputs.MembersChanged(frozenset("abc"))


def test_a_link_made_later_takes_a_handshake(scripted):
    world = scripted()
    world.run(1)
    world.link("a", "b", delay="100ms")
    world.run(1)
    for name in "ab":
        (at,) = world.nodes[name].core.times(inputs.PeerUp)
        assert 1.2 <= at <= 1.25


def test_both_ends_of_a_cut_link_notice_it_at_times_of_their_own(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    world.cut("a", "b")
    world.run(1)
    assert downs(world, "a") == [("b", 1)]
    (one,), (other,) = (world.nodes[name].core.times(inputs.PeerDown) for name in "ab")
    assert one != other
    assert min(one, other) >= 1
    assert max(one, other) <= 1.5


def test_nothing_arrives_over_a_cut_link_and_what_was_on_its_way_fails_once(scripted):
    world = scripted()
    world.link("a", "b", delay="200ms")
    token = update(world.nodes["a"], "b")
    world.run("100ms")
    world.cut("a", "b")
    world.run(2)
    assert not world.nodes["b"].core.of(inputs.UpdatesReceived)
    assert world.nodes["a"].core.of(inputs.UpdatesAnswered) == [inputs.UpdatesAnswered(token, None)]


def test_a_healed_link_has_a_new_connection(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    world.cut("a", "b")
    world.run(1)
    world.heal("a", "b")
    world.run(1)
    assert ups(world, "a") == [("b", 1), ("b", 2)]
    assert world.nodes["a"].peers() == ["b"]


def test_a_link_healed_before_its_loss_was_noticed_replaces_the_connection(scripted):
    world = scripted(seed=3)
    world.link("a", "b", delay="1ms")
    world.run(1)
    world.cut("a", "b")
    world.heal("a", "b")
    world.run(5)
    replaced = [name for name in "ab" if not downs(world, name)]
    assert replaced
    assert all(ups(world, name) == [(peer, 1), (peer, 2)] for name, peer in ("ab", "ba"))


def test_a_pair_that_is_linked_is_left_alone_by_a_heal(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    world.heal("a", "b")
    world.run(5)
    assert ups(world, "a") == [("b", 1)]


def test_a_replaced_connection_ends_without_a_word(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    world.replace("a", "b")
    world.run(5)
    for name, peer in ("ab", "ba"):
        assert ups(world, name) == [(peer, 1), (peer, 2)]
        assert downs(world, name) == []
    assert world.nodes["a"].peers() == ["b"]


def test_requests_on_a_replaced_connection_still_arrive_for_a_while(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    world.replace("a", "b")
    world.run("500ms")
    update(world.nodes["a"], "b", connection=1)
    world.run("100ms")
    assert [what.connection for what in world.nodes["b"].core.of(inputs.UpdatesReceived)] == [1]


def test_what_is_unanswered_on_a_replaced_connection_fails_when_it_closes(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    world.nodes["b"].core.answers.clear()
    token = update(world.nodes["a"], "b", connection=1)
    world.replace("a", "b")
    world.run(5)
    assert world.nodes["a"].core.of(inputs.UpdatesAnswered) == [inputs.UpdatesAnswered(token, None)]
    (at,) = world.nodes["a"].core.times(inputs.UpdatesAnswered)
    assert 2.1 <= at <= 2.7


def test_a_request_waits_for_an_end_that_is_not_in_use_yet(scripted):
    early = 0
    for seed in range(20):
        world = scripted(seed=seed)
        world.link("a", "b", delay="1ms")
        a, b = world.nodes["a"], world.nodes["b"]
        world.run(1)
        world.replace("a", "b")
        while len(ups(world, "a")) < 2:
            world.run("1ms")
        is_early = len(ups(world, "b")) < 2
        update(a, "b", connection=2)
        world.run(1)
        (at,) = b.core.times(inputs.UpdatesReceived)
        assert at >= b.core.times(inputs.PeerUp)[1]
        assert [what.connection for what in b.core.of(inputs.UpdatesReceived)] == [2]
        early += is_early
    assert 3 < early < 17


def test_a_crash_is_noticed_by_the_idle_timeout(scripted):
    world = scripted("abcdefgh")
    world.full_mesh()
    world.run(1)
    world.nodes["a"].crash()
    world.run(20)
    times = [at for name in "bcdefgh" for at in world.nodes[name].core.times(inputs.PeerDown)]
    assert len(times) == 7
    assert 1.5 <= min(times) < 6
    assert 8 < max(times) <= 16


def test_a_restarted_node_replaces_its_connections_and_counts_from_one_again(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    world.nodes["a"].restart()
    world.run("200ms")
    assert ups(world, "a") == [("b", 1)]
    assert ups(world, "b") == [("a", 1), ("a", 2)]
    world.run(30)
    assert downs(world, "b") == []


def test_a_node_that_was_down_when_a_link_healed_dials_it_when_it_starts(scripted):
    world = scripted()
    world.link("a", "b")
    world.cut("a", "b")
    world.nodes["a"].crash()
    world.heal("a", "b")
    world.run(20)
    assert world.nodes["b"].peers() == []
    world.nodes["a"].restart()
    world.run(1)
    assert world.nodes["b"].peers() == ["a"]


def test_a_link_that_is_cut_stays_so_over_a_restart(scripted):
    world = scripted()
    world.link("a", "b")
    world.cut("a", "b")
    world.nodes["a"].restart()
    world.run(5)
    assert world.nodes["a"].peers() == []


def test_a_late_joiner_is_told_to_everybody_and_comes_up(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(10)
    world.node("late")
    world.link("late", "a")
    world.run(1)
    assert world.nodes["b"].core.of(inputs.MembersChanged)[-1].members == {"a", "b", "late"}
    assert ups(world, "late") == [("a", 1)]


def test_a_removed_member_loses_its_links_and_gets_them_back_with_its_membership(scripted):
    world = scripted("abc")
    world.full_mesh()
    world.run(1)
    world.remove("c")
    world.run(1)
    assert world.nodes["a"].core.of(inputs.MembersChanged)[-1].members == {"a", "b"}
    assert downs(world, "a") == [("c", 2)]
    assert world.nodes["c"].peers() == []
    world.members("abc")
    world.run(1)
    assert sorted(world.nodes["c"].peers()) == ["a", "b"]


def test_a_paused_node_handles_everything_when_it_goes_on(scripted):
    world = scripted()
    world.link("a", "b")
    world.run(1)
    b = world.nodes["b"]
    b.pause()
    update(world.nodes["a"], "b")
    world.run(10)
    assert not b.core.of(inputs.UpdatesReceived)
    assert world.pending()["b"][0].detail == "paused, with 1 inputs to handle"
    b.resume()
    world.run(1)
    assert b.core.times(inputs.UpdatesReceived) == [11.0]


def test_nodes_and_links_that_are_not_there_are_named(scripted):
    world = scripted()
    with pytest.raises(LocalError, match="'nobody'"):
        world.link("a", "nobody")
    with pytest.raises(LocalError, match="a and b have no link"):
        world.cut("a", "b")
    with pytest.raises(LocalError, match="'a' already"):
        world.node("a")
    world.nodes["a"].crash()
    with pytest.raises(LocalError, match="node a is down"):
        _ = world.nodes["a"].core
