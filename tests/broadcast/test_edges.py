"""Edges of sparse topologies: which are eager, what goes over lazy ones, and how a node that lacks something gets it."""

from itertools import combinations
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.broadcast.kit import SECOND, Made, Script, entries, of, ok

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.context import Context
from p2pnet.broadcast.digest import BUSY_MAX, LISTED_AT_ONCE, PROMISED_MAX
from p2pnet.broadcast.edges import EAGER_BELOW_BYTES, ORIGINS_PER_PEER, Edges
from p2pnet.broadcast.wire import (
    EntryKind,
    UpdateStatus,
    decode_digest,
    decode_updates,
    encode_first_fetch,
    encode_halves,
)
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

PEERS = ("a", "b", "c", "d")


def table(*peers: str) -> Edges:
    edges = Edges(Context(BroadcastSettings(full_mesh=False), Random(1)))
    for peer in peers:
        edges.connect(peer)
    return edges


# The table


def test_edges_of_a_new_publisher_are_untried_but_those_to_peers_that_have_it() -> None:
    assert table("a", "b", "c").audience(7, "a", ["a"]) == (set(), {"b", "c"})


def test_a_peer_that_took_it_has_an_eager_edge_and_one_that_had_it_a_lazy_one() -> None:
    edges = table("a", "b", "c")
    edges.audience(7, "a", ["a"])
    edges.graft(7, "b")
    edges.prune(7, "c")
    assert edges.audience(7, "a", ["a"]) == ({"b"}, set())
    assert list(edges.lazy(7)) == ["a", "c"]


def test_edges_of_one_publisher_say_nothing_about_those_of_another() -> None:
    edges = table("a", "b")
    edges.audience(7, "", [])
    edges.prune(7, "b")
    assert edges.audience(8, "", []) == (set(), {"a", "b"})


def test_a_new_connection_is_untried_for_every_publisher() -> None:
    edges = table("a", "b")
    edges.audience(7, "a", ["a"])
    edges.prune(7, "b")
    edges.connect("b")
    assert edges.audience(7, "a", ["a"]) == (set(), {"b"})


def test_whoever_makes_up_publishers_evicts_its_own() -> None:
    edges = table("a", "b", "c")
    edges.audience(1, "a", ["a"])
    for origin in range(2, ORIGINS_PER_PEER + 10):
        edges.audience(origin, "b", ["b"])
    assert len(edges) == ORIGINS_PER_PEER + 1
    assert list(edges.lazy(1)) == ["a"]
    assert not list(edges.lazy(2))


def test_the_publisher_least_recently_heard_of_makes_room() -> None:
    edges = table("a")
    for origin in range(ORIGINS_PER_PEER):
        edges.audience(origin, "a", ["a"])
    edges.audience(0, "a", ["a"])
    edges.audience(ORIGINS_PER_PEER, "a", ["a"])
    assert list(edges.lazy(0)) == ["a"]
    assert not list(edges.lazy(1))


class EdgeTable(RuleBasedStateMachine):
    """Against a plain model: a dict of (publisher, peer)."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = table()
        self.model: dict[tuple[int, str], str] = {}
        self.known: set[int] = set()
        self.up: set[str] = set()

    origins = st.integers(1, 3)
    peers = st.sampled_from(PEERS)

    @rule(peer=peers)
    def connect(self, peer: str) -> None:
        self.edges.connect(peer)
        self.forget(peer)
        self.up.add(peer)

    @rule(peer=peers)
    def disconnect(self, peer: str) -> None:
        self.edges.disconnect(peer)
        self.forget(peer)
        self.up.discard(peer)

    def forget(self, peer: str) -> None:
        for origin in range(1, 4):
            self.model.pop((origin, peer), None)
        if peer in self.up:
            self.known = {origin for origin, _ in self.model}

    @rule(origin=origins, holders=st.lists(peers, unique=True))
    def announce(self, origin: int, holders: list[str]) -> None:
        self.known.add(origin)
        self.model.update({(origin, peer): "lazy" for peer in holders if peer in self.up})
        eager, untried = self.edges.audience(origin, "x", holders)
        assert eager == {peer for peer in self.up if self.model.get((origin, peer)) == "eager"}
        assert untried == {peer for peer in self.up if (origin, peer) not in self.model}

    @rule(origin=origins, peer=peers, turn=st.sampled_from(["eager", "lazy"]))
    def turn(self, origin: int, peer: str, turn: str) -> None:
        (self.edges.graft if turn == "eager" else self.edges.prune)(origin, peer)
        if origin in self.known and peer in self.up:
            self.model[origin, peer] = turn

    @invariant()
    def no_edge_is_both(self) -> None:
        for origin in range(1, 4):
            eager, lazy = set(self.edges.eager(origin)), set(self.edges.lazy(origin))
            assert not eager & lazy
            assert eager == {peer for (known, peer), turn in self.model.items() if known == origin and turn == "eager"}

    @invariant()
    def nothing_is_kept_when_all_are_gone(self) -> None:
        if not self.up and not self.known:
            assert not len(self.edges)


TestEdgeTable = EdgeTable.TestCase
TestEdgeTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# What goes over which


def pushed(done: list[effects.Effect]) -> list[str]:
    return [sent.peer for sent in of(done, effects.SendUpdates) if entries(sent)[0][2] == EntryKind.PUSH]


def relay(script: Script, nonce: int, size: int = 100, *, answers: dict[str, UpdateStatus] | None = None) -> list[str]:
    """An artifact of the same publisher comes from p: to whom it is pushed; each answers as given."""
    done = script.updates("p", Made(size, nonce=nonce).push(nonce, nonce, origin=9))
    for sent in of(done, effects.SendUpdates):
        script.turn(ok(sent, (answers or {}).get(sent.peer, UpdateStatus.OK)))
    return pushed(done)


def star(*peers: str, **settings: object) -> Script:
    script = Script(full_mesh=False, **settings)
    for peer in peers:
        script.up(peer)
    return script


def test_the_first_artifact_of_a_publisher_goes_over_all_edges_and_the_next_to_those_that_took_it() -> None:
    script = star("p", "q", "r", "s")
    assert relay(script, 0, answers={"r": UpdateStatus.HAVE}) == ["q", "r", "s"]
    assert relay(script, 1, answers={"q": UpdateStatus.HAVE}) == ["q", "s"]
    assert relay(script, 2) == ["s"]


def test_a_peer_that_shows_an_artifact_first_gets_no_more_of_that_publisher() -> None:
    script = star("p", "q")
    script.updates("p", Made(nonce=0).push(0, 0, origin=9))
    script.updates("q", Made(nonce=0).push(0, 0, origin=9))
    assert relay(script, 1) == []


def test_what_nobody_is_to_be_told_takes_no_slot() -> None:
    script = star("p", "q")
    relay(script, 0, answers={"q": UpdateStatus.HAVE})
    before = script.core.gauges()["slots_in_use"]
    relay(script, 1)
    assert script.core.gauges()["slots_in_use"] == before
    assert script.core.counters["relays_held"] == 1


@pytest.mark.parametrize("size", [1024, EAGER_BELOW_BYTES - 1])
def test_what_is_not_small_is_advertised_over_untried_edges_and_pushed_to_who_fetched_it(size: int) -> None:
    script = star("p", "q", "r")
    made = Made(size, nonce=0)
    assert relay(script, 0, size) == []
    script.ask("q", encode_first_fetch(made.id, 1))
    done = script.updates("p", Made(size, nonce=1).push(1, 1, origin=9))
    assert pushed(done) == ["q"]
    assert [sent.peer for sent in of(done, effects.SendUpdates)] == ["q", "r"]


def test_16_kib_and_more_are_advertised_to_all_peers() -> None:
    script = star("p", "q", "r")
    relay(script, 0, answers={"r": UpdateStatus.HAVE})
    done = script.updates("p", Made(EAGER_BELOW_BYTES, nonce=1).push(1, 1, origin=9))
    assert [sent.peer for sent in of(done, effects.SendUpdates)] == ["q", "r"]
    assert pushed(done) == []


def test_a_user_that_says_0_has_nothing_pushed() -> None:
    script = star("p", "q", push_below=0)
    assert relay(script, 0) == []
    script.ask("q", encode_first_fetch(Made(nonce=0).id, 1))
    assert relay(script, 1) == []


def test_ones_own_artifacts_are_told_a_new_connection_at_once() -> None:
    script = star("p")
    _, done = script.publish()
    script.turn(ok(of(done, effects.SendUpdates)[0], UpdateStatus.HAVE))
    assert [s.peer for s in of(script.connect("q"), effects.SendUpdates)] == ["q"]


# Over lazy edges


def lists(done: list[effects.Effect]) -> list[tuple[str, int]]:
    """(peer, halves of ids) of each."""
    return [(sent.peer, len(decode_digest(sent.body).halves)) for sent in of(done, effects.SendDigest)]


def lazy_to(*peers: str) -> Script:
    """A node that holds an artifact of which it has told nobody, with lazy edges to these peers."""
    script = star("p", *peers)
    relay(script, 0, answers=dict.fromkeys(peers, UpdateStatus.HAVE))
    script.later(5 * SECOND)
    relay(script, 1)
    return script


def test_a_second_later_one_end_lists_the_half_of_its_id_and_the_other_end_a_second_after_that() -> None:
    script = lazy_to("a", "z")  # this node is called "me"
    assert lists(script.later(SECOND)) == [("z", 1)]
    assert lists(script.later(SECOND)) == [("a", 1)]


def test_a_peer_that_has_listed_it_is_not_asked() -> None:
    script = lazy_to("a")
    script.turn(inputs.DigestReceived("a", script.connections["a"], 1, encode_halves([Made(nonce=1, size=100).id])))
    (answer,) = of(script.log, effects.AnswerDigest)
    assert answer.body == bytes([UpdateStatus.HAVE])
    assert lists(script.later(10 * SECOND)) == []
    assert script.core.at_rest


def test_what_was_listed_on_a_former_connection_counts_for_nothing() -> None:
    script = lazy_to("a")
    former = script.connections["a"]
    script.up("a")
    script.turn(inputs.DigestReceived("a", former, 1, encode_halves([Made(nonce=1, size=100).id])))
    assert [peer for peer, _ in lists(script.later(3 * SECOND))] == ["a"]


def test_only_what_another_peer_is_about_to_send_is_listed_again() -> None:
    script = lazy_to("z")
    relay(script, 2)
    script.later(SECOND)
    (sent,) = of(script.log, effects.SendDigest)
    script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.BUSY, UpdateStatus.HAVE])))
    assert lists(script.later(2 * SECOND)) == [("z", 1)]


def answer_list(script: Script, status: UpdateStatus) -> list[effects.Effect]:
    script.later(2 * SECOND)
    sent = of(script.log, effects.SendDigest)[-1]
    return script.turn(inputs.DigestAnswered(sent.token, bytes([status])))


def test_a_peer_that_lacks_it_gets_it_pushed_and_an_eager_edge() -> None:
    script = lazy_to("z")
    assert pushed(answer_list(script, UpdateStatus.ADVERTISE)) == ["z"]
    assert relay(script, 2) == ["z"]


def test_a_peer_that_has_it_by_now_stays_lazy() -> None:
    script = lazy_to("z")
    assert pushed(answer_list(script, UpdateStatus.HAVE)) == []
    assert relay(script, 2) == []
    assert script.later(3600 * SECOND) is not None


def test_a_peer_that_another_one_is_about_to_serve_is_asked_again_but_not_for_ever() -> None:
    script = lazy_to("z")
    for _ in range(BUSY_MAX):
        assert pushed(answer_list(script, UpdateStatus.BUSY)) == []
    assert lists(script.later(3600 * SECOND)) == []


def test_many_new_ids_are_listed_only_where_digests_differ() -> None:
    script = star("p", "z")
    relay(script, 0, answers={"z": UpdateStatus.HAVE})
    script.later(5 * SECOND)
    for nonce in range(1, LISTED_AT_ONCE + 2):
        relay(script, nonce)
    (sent,) = of(script.later(SECOND), effects.SendDigest)
    assert decode_digest(sent.body).halves == []
    done = script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.ADVERTISE])))
    assert lists(done) == [("z", LISTED_AT_ONCE + 1)]


# Whom a node lets send what it lacks


def offer(script: Script, peer: str, *ids: ArtifactId) -> list[int]:
    done = script.turn(inputs.DigestReceived(peer, script.connections[peer], 1, encode_halves(list(ids))))
    (answer,) = of(done, effects.AnswerDigest)
    return list(answer.body)


def test_of_several_peers_that_offer_it_one_is_let_to_send_it() -> None:
    script, made = star("p", "q", "r"), Made()
    assert offer(script, "p", made.id) == [UpdateStatus.ADVERTISE]
    assert offer(script, "q", made.id) == [UpdateStatus.BUSY]
    assert offer(script, "p", made.id) == [UpdateStatus.ADVERTISE]


def test_a_peer_that_does_not_send_it_loses_two_seconds_and_is_not_waited_for_again() -> None:
    script, made, other = star("p", "q", "r"), Made(), Made(nonce=1)
    offer(script, "p", made.id)
    script.later(2 * SECOND)
    assert offer(script, "q", made.id) == [UpdateStatus.ADVERTISE]
    assert offer(script, "r", made.id) == [UpdateStatus.ADVERTISE]
    assert offer(script, "p", other.id) == [UpdateStatus.ADVERTISE]
    assert offer(script, "q", other.id) == [UpdateStatus.ADVERTISE]
    assert script.core.counters["promise_broken"] > 0


def test_a_flood_of_offers_keeps_nobody_else_waiting() -> None:
    script, made = star("p", "q"), Made()
    for batch in range(3):
        ids = [ArtifactId((1000 * batch + number).to_bytes(32, "little")) for number in range(PROMISED_MAX)]
        offer(script, "p", *ids)
    assert offer(script, "p", made.id) == [UpdateStatus.ADVERTISE]
    assert offer(script, "q", made.id) == [UpdateStatus.ADVERTISE]


def test_what_a_peer_that_left_was_let_to_send_another_may() -> None:
    script, made = star("p", "q"), Made()
    offer(script, "p", made.id)
    script.down("p")
    assert offer(script, "q", made.id) == [UpdateStatus.ADVERTISE]


# In a network


def grid(net: "Net", size: int = 9) -> "list[Node]":
    """A ring with chords."""
    nodes = [net.node(f"n{i}", full_mesh=False) for i in range(size)]
    for a, b in combinations(range(size), 2):
        if b - a in {1, size - 1, 3}:
            net.link(nodes[a], nodes[b])
    net.run(1)
    return nodes


def duplicates(nodes: "list[Node]") -> int:
    return sum(len(node.seen(EventKind.DUPLICATE)) for node in nodes)


def test_the_second_artifact_of_a_publisher_reaches_each_node_once_and_as_fast(net: "Net") -> None:
    nodes = grid(net)
    first = nodes[0].publish(b"first")
    net.run(5)
    assert duplicates(nodes) > 0
    before = duplicates(nodes)
    second = nodes[0].publish(b"second")
    net.run(5)
    assert duplicates(nodes) == before
    hops = [[node.core.pool.validated[artifact].hop for node in nodes] for artifact in (first, second)]
    assert hops[0] == hops[1]


def test_when_an_eager_link_is_cut_who_stood_behind_it_has_the_next_one_after_at_most_two_seconds(net: "Net") -> None:
    nodes = grid(net)
    nodes[0].publish(b"first")
    net.run(5)
    behind = next(node for node in nodes[1:] if node.seen(EventKind.VALIDATED)[0].hop == 2)
    net.cut(net.nodes[behind.seen(EventKind.VALIDATED)[0].peer], behind)
    net.run(2)
    second = nodes[0].publish(b"second")
    net.run(0.5)
    assert not behind.holds(second)
    net.run(2)
    assert behind.holds(second)
    third = nodes[0].publish(b"third")
    net.run(0.5)
    assert all(node.holds(third) for node in nodes)


def test_a_network_whose_edges_are_lazy_is_silent_at_rest(net: "Net") -> None:
    nodes = grid(net)
    for number in range(3):
        nodes[number].publish(bytes([number]))
        net.run(5)
    sent = sum(len(node.log) for node in nodes)
    net.run(300)
    assert sum(len(node.log) for node in nodes) == sent
    assert all(node.core.at_rest for node in nodes)


def test_an_entry_carries_the_number_of_its_publisher_over_every_hop(net: "Net") -> None:
    nodes = net.chain(4)
    nodes[0].publish(b"x")
    net.run(1)
    sent = [s for node in nodes for s in node.sent(effects.SendUpdates)]
    numbers = {entry.origin for s in sent for entry in decode_updates(b"".join(s.body))}
    assert len(sent) == 3
    assert len(numbers) == 1
    assert numbers != {0}
