"""Digests: every story in which "somebody else must have it" was wrong, and silence when it is right."""

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from tests.broadcast.kit import MS, SECOND, Made, Script, of

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.digest import NEIGHBOURS, PERIOD_NS
from p2pnet.broadcast.wire import DIGEST_IDS_MAX, EntryKind, UpdateStatus, decode_digest, decode_updates, encode_digest
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

K = EventKind


def kinds(node: "Node", peer: str) -> list[int]:
    """What it wrote to one peer, in order."""
    sent = [s for s in node.sent(effects.SendUpdates) if s.peer == peer]
    return [entry.kind for s in sent for entry in decode_updates(b"".join(s.body))]


def digests(nodes: "list[Node]") -> int:
    return sum(len(node.sent(effects.SendDigest)) for node in nodes)


# Stories


@pytest.mark.parametrize("size", [1, 5000, 10 * PART_BYTES])
def test_what_a_broken_link_keeps_away_comes_through_another_peer(net: "Net", size: int) -> None:
    a, b, c = net.mesh(3)
    net.run(1)
    net.cut(a, c)
    artifact = a.publish(bytes(size))
    net.run(5)
    assert c.holds(artifact)
    assert [(e.peer, e.hop) for e in c.seen(K.VALIDATED)] == [("n1", 2)]
    assert b.core.waiting_for_slot() == []


def test_what_a_publisher_delivered_to_one_before_it_crashed_reaches_all(net: "Net") -> None:
    nodes = net.mesh(5)
    net.run(2)
    for node in nodes[2:]:
        net.cut(nodes[0], node)
    artifact = nodes[0].publish(b"x")
    net.run(0.1)
    net.crash(nodes[0])
    net.run(6)
    assert all(node.holds(artifact) for node in nodes[1:])


def test_what_its_publisher_dropped_alone_still_reaches_those_that_lack_it(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.run(1)
    net.cut(a, c)
    artifact = a.publish(b"x")
    net.run(0.1)
    a.give(inputs.Purge(artifact))
    net.link(a, c)
    net.run(6)
    assert c.holds(artifact)
    assert b.holds(artifact)


def test_what_a_publisher_forgot_by_a_restart_reaches_a_late_joiner(net: "Net") -> None:
    a, b, _ = net.mesh(3)
    net.run(1)
    artifact = a.publish(b"x")
    net.run(1)
    net.crash(a)
    late = net.node("late")
    net.link(late, b)
    net.run(5)
    assert late.holds(artifact)
    again = net.node("n0", seed=2)
    for node in (b, late):
        net.link(again, node)
    net.run(5)
    assert again.holds(artifact)


def test_a_held_relay_is_advertised_to_the_peer_that_lacks_it_and_to_no_other(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.run(1)
    artifact = a.publish(b"x")
    net.run(3)
    late = net.node("late")
    net.link(late, b)
    net.run(5)
    assert late.holds(artifact)
    assert not kinds(b, "n2")
    assert kinds(b, "late") == [EntryKind.ADVERT]
    assert not kinds(c, "n0")


def test_a_peer_that_lies_about_holding_it_cannot_keep_it_from_the_others(net: "Net") -> None:
    liar, a, b = net.mesh(3)
    net.run(1)
    net.cut(a, b)
    made = Made(created=net.wall)
    net.say(liar, b, made.advert(0, 0))
    net.deaf.add("n0")
    a.give(inputs.Publish(made.data, 10))
    net.run(1)
    assert not b.holds(made.id)
    c = net.node("c")
    net.link(c, a)
    net.link(c, b)
    net.run(10)
    assert b.holds(made.id)


def test_what_is_withdrawn_everywhere_does_not_come_back(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.run(1)
    net.cut(a, c)
    artifact = a.publish(b"x")
    net.run(0.5)
    for node in (a, b, c):
        node.withdraw(artifact)
    net.link(a, c)
    net.run(60)
    assert not any(node.core.pool.holds(artifact) for node in (a, b, c))


def test_a_large_mesh_is_healed_by_neighbours_although_many_links_are_down(net: "Net") -> None:
    nodes = net.mesh(12)
    net.tell_members()
    net.run(5)
    for node in nodes[3:]:
        net.cut(nodes[0], node)
    artifact = nodes[0].publish(b"x")
    net.run(10)
    assert all(node.holds(artifact) for node in nodes)


def test_in_a_large_mesh_what_one_node_lacks_is_found_by_its_neighbours_on_the_ring(net: "Net") -> None:
    nodes = net.mesh(12)
    net.tell_members()
    net.run(5)
    net.delays["n0", "n7"] = 3600 * SECOND
    artifact = nodes[0].publish(b"x")
    net.run(10)
    assert nodes[7].holds(artifact)


def test_more_than_one_message_can_list_is_found_in_the_end(net: "Net") -> None:
    a, b, _ = net.mesh(3)
    net.run(1)
    for n in range(DIGEST_IDS_MAX + 100):
        a.publish(b"%d" % n)
    net.run(5)
    late = net.node("late")
    net.link(late, b)
    net.run(30)
    assert len(late.core.pool.ids()) == DIGEST_IDS_MAX + 100


# Silence


def test_nothing_is_said_at_rest(net: "Net") -> None:
    nodes = net.mesh(4)
    net.run(1)
    for node in nodes:
        node.publish(b"x")
    net.run(20)
    before = digests(nodes)
    net.run(500)
    assert digests(nodes) == before
    assert all(node.core.at_rest for node in nodes)


def test_one_publication_in_a_healed_mesh_costs_each_pair_at_most_one_digest(net: "Net") -> None:
    nodes = net.mesh(4)
    net.run(1)
    nodes[0].publish(b"x")
    net.run(20)
    assert 0 < digests(nodes) <= 6
    assert sum(node.core.counters["digest_mismatch"] for node in nodes) == 0


def test_a_peer_is_asked_at_most_once_a_second_however_much_changes() -> None:
    script = Script()
    script.up("p")
    script.up("q")
    times: dict[str, list[int]] = {"p": [], "q": []}
    for n in range(400):
        done = script.updates("q", Made(nonce=n).push(n, n)) + script.later(25 * MS)
        for sent in of(done, effects.SendDigest):
            times[sent.peer].append(script.now)
            done += script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.OK])))
    for at in times.values():
        assert all(later - earlier >= PERIOD_NS - 30 * MS for earlier, later in pairwise(at))
    assert 5 <= len(times["p"]) <= 10


def test_in_a_large_healed_mesh_each_node_compares_with_few(net: "Net") -> None:
    nodes = net.mesh(12)
    net.tell_members()
    net.run(20)
    before = digests(nodes)
    nodes[0].publish(b"x")
    net.run(20)
    assert digests(nodes) - before <= 12 * 2 * NEIGHBOURS


def test_what_no_peer_passes_on_counts_in_no_digest(net: "Net") -> None:
    nodes = net.mesh(3, relay="none")
    net.run(1)
    nodes[0].publish(b"x")
    net.cut(nodes[0], nodes[2])
    net.run(60)
    assert digests(nodes) == 0


def test_pools_that_were_purged_unequally_come_to_rest(net: "Net") -> None:
    nodes = net.mesh(4)
    net.run(1)
    ids = [nodes[0].publish(b"%d" % n, keep_s=10_000) for n in range(20)]
    net.run(5)
    for n, artifact in enumerate(ids):
        nodes[n % 4].give(inputs.Purge(artifact))
    net.run(60)
    before = digests(nodes)
    net.run(1000)
    assert digests(nodes) == before
    assert all(node.core.at_rest for node in nodes)
    for n, artifact in enumerate(ids):
        assert [node.holds(artifact) for node in nodes] == [k != n % 4 for k in range(4)]


def test_an_artifact_a_peer_calls_unwanted_is_not_offered_to_it_again(net: "Net") -> None:
    a, b, c = net.mesh(3)
    net.run(1)
    net.cut(a, c)
    artifact = a.publish(b"x")
    c.withdraw(artifact)
    net.run(120)
    assert not c.holds(artifact)
    assert not kinds(b, "n2")
    assert digests([a, b, c]) <= 8


# Messages


def holding(script: Script, made: Made) -> effects.SendDigest:
    """The core holds one artifact of p's, and asks q."""
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    done = script.later(3 * SECOND)
    (sent,) = [s for s in of(done, effects.SendDigest) if s.peer == "q"]
    return sent


def test_after_a_mismatch_the_ids_are_listed_and_what_is_unknown_there_is_advertised() -> None:
    script, made = Script(), Made()
    sent = holding(script, made)
    assert decode_digest(sent.body).ids == []
    (listed,) = of(script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.ADVERTISE]))), effects.SendDigest)
    assert decode_digest(listed.body).ids == [made.id]
    done = script.turn(inputs.DigestAnswered(listed.token, bytes([UpdateStatus.ADVERTISE])))
    (update,) = of(done, effects.SendUpdates)
    assert update.peer == "q"
    assert script.core.counters["listed_id_unknown_there"] == 1


@pytest.mark.parametrize("status", [UpdateStatus.HAVE, UpdateStatus.UNWANTED])
def test_what_is_known_or_unwanted_there_is_not_advertised(status: UpdateStatus) -> None:
    script, made = Script(), Made()
    sent = holding(script, made)
    (listed,) = of(script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.ADVERTISE]))), effects.SendDigest)
    assert not of(script.turn(inputs.DigestAnswered(listed.token, bytes([status]))), effects.SendUpdates)
    assert not [s for s in of(script.later(60 * SECOND), effects.SendDigest) if s.peer == "q"]


def test_what_several_peers_lack_while_no_slot_is_free_goes_to_all_of_them_when_one_is() -> None:
    script, made = Script(slots_per_peer=4), Made()
    own = [script.publish()[0] for _ in range(4)]
    sent = holding(script, made)
    script.up("r")
    asked = {sent.peer: sent}
    for again in of(script.later(5 * SECOND), effects.SendDigest):
        asked[again.peer] = again
    for peer in "qr":
        (listed,) = of(
            script.turn(inputs.DigestAnswered(asked[peer].token, bytes([UpdateStatus.ADVERTISE]))), effects.SendDigest
        )
        listed_ids = decode_digest(listed.body).ids
        answer = bytes([UpdateStatus.ADVERTISE if one == made.id else UpdateStatus.HAVE for one in listed_ids])
        script.turn(inputs.DigestAnswered(listed.token, answer))
    assert script.core.waiting_for_slot() == [made.id]
    done = [effect for artifact in own[:2] for effect in script.turn(inputs.Withdraw(artifact))]
    offered = {s.peer for s in of(done, effects.SendUpdates) if bytes(made.id) in b"".join(s.body)}
    assert offered >= {"q", "r"}


def test_an_artifact_that_came_a_moment_ago_is_not_listed_yet() -> None:
    script, old, new = Script(), Made(nonce=1), Made(nonce=2)
    sent = holding(script, old)
    script.updates("p", new.push(1, 1))
    (listed,) = of(script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.ADVERTISE]))), effects.SendDigest)
    assert decode_digest(listed.body).ids == [old.id]


def test_a_listed_artifact_that_left_meanwhile_is_not_advertised() -> None:
    script, made = Script(), Made()
    sent = holding(script, made)
    (listed,) = of(script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.ADVERTISE]))), effects.SendDigest)
    script.turn(inputs.Withdraw(made.id))
    assert not of(
        script.turn(inputs.DigestAnswered(listed.token, bytes([UpdateStatus.ADVERTISE]))), effects.SendUpdates
    )


@pytest.mark.parametrize("body", [b"", b"\xff", bytes([UpdateStatus.OK, UpdateStatus.OK])])
def test_a_peer_that_answers_a_digest_by_nonsense_is_asked_again_after_the_next_change(body: bytes) -> None:
    script = Script()
    sent = holding(script, Made())
    script.turn(inputs.DigestAnswered(sent.token, body))
    assert not [one for one in of(script.later(300 * SECOND), effects.SendDigest) if one.peer == "q"]
    script.updates("p", Made(nonce=7).push(9, 9))
    assert [one for one in of(script.later(3 * SECOND), effects.SendDigest) if one.peer == "q"]


def test_a_digest_that_is_lost_is_said_again_ever_later() -> None:
    script = Script()
    sent = holding(script, Made())
    times = [script.now]
    for _ in range(9):
        script.turn(inputs.DigestAnswered(sent.token, None))
        while not (again := [s for s in of(script.later(500 * MS), effects.SendDigest) if s.peer == "q"]):
            pass
        sent = again[0]
        times.append(script.now)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[0] < 2 * SECOND
    assert 40 * SECOND < gaps[-1] < 80 * SECOND
    assert script.core.counters["digest_lost"] == 9


def test_an_answer_of_an_ended_connection_says_nothing() -> None:
    script, made = Script(), Made()
    sent = holding(script, made)
    script.down("q")
    assert not of(script.turn(inputs.DigestAnswered(sent.token, bytes([UpdateStatus.ADVERTISE]))), effects.SendDigest)


def test_a_message_is_answered_by_a_word_per_id() -> None:
    script, held, withdrawn, new = Script(), Made(nonce=1), Made(nonce=2), Made(nonce=3)
    script.up("p")
    script.updates("p", held.push())
    script.turn(inputs.Withdraw(withdrawn.id))
    body = encode_digest(bytes(16), [held.id, withdrawn.id, new.id], lacks_links=False)
    (answer,) = of(script.turn(inputs.DigestReceived("p", 1, 5, body)), effects.AnswerDigest)
    assert list(answer.body) == [UpdateStatus.HAVE, UpdateStatus.UNWANTED, UpdateStatus.ADVERTISE]


def test_equal_pools_have_equal_digests_in_whatever_order_they_came_and_unequal_ones_not() -> None:
    one, other, mades = Script(), Script(), [Made(nonce=n) for n in range(3)]
    for script, order in ((one, mades), (other, mades[::-1])):
        script.up("p")
        script.up("q")
        for n, made in enumerate(order):
            script.updates("p", made.push(n, n))
    (sent,) = [s for s in of(one.later(3 * SECOND), effects.SendDigest) if s.peer == "q"]
    (same,) = of(other.turn(inputs.DigestReceived("p", 1, 5, sent.body)), effects.AnswerDigest)
    other.turn(inputs.Withdraw(mades[0].id))
    (differs,) = of(other.turn(inputs.DigestReceived("p", 1, 6, sent.body)), effects.AnswerDigest)
    assert (list(same.body), list(differs.body)) == ([UpdateStatus.OK], [UpdateStatus.ADVERTISE])


@pytest.mark.parametrize("body", [b"", b"nonsense", bytes(18)])
def test_a_malformed_message_is_answered_so(body: bytes) -> None:
    script = Script()
    script.up("p")
    (answer,) = of(script.turn(inputs.DigestReceived("p", 1, 5, body)), effects.AnswerDigest)
    assert list(answer.body) == [UpdateStatus.MALFORMED]


def test_a_stranger_may_ask_and_changes_nothing() -> None:
    script = Script()
    body = encode_digest(bytes(16), [ArtifactId(bytes(32))], lacks_links=True)
    (answer,) = of(script.turn(inputs.DigestReceived("stranger", 9, 5, body)), effects.AnswerDigest)
    assert list(answer.body) == [UpdateStatus.ADVERTISE]
    assert script.core.at_rest
