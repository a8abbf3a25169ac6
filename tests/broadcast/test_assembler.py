"""Fetching: parts of several sources at a time, liars, the slow and the silent; what nobody can complete ends."""

from typing import TYPE_CHECKING

import pytest
from tests.broadcast.kit import MS, SECOND, Made, Script, of, serve

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.artifact import part_count
from p2pnet.broadcast.task import Supplier
from p2pnet.broadcast.wire import (
    decode_fetch,
    encode_advert,
    encode_empty,
    encode_gone,
)
from p2pnet.model.events import EventKind
from p2pnet.model.limits import FETCH_STREAMS_PER_PEER, PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

K = EventKind
BIG = 20 * PART_BYTES
GONE = b"".join(encode_gone())


def star(net: "Net", sources: int) -> tuple[list["Node"], "Node"]:
    """Sources that all hold what the first one publishes, and advertise it, and a node linked to none yet."""
    nodes = net.mesh(sources, full_mesh=False, relay="advert")
    net.run(2)
    return nodes, net.node("late", full_mesh=False, relay="advert")


def join(net: "Net", nodes: list["Node"], late: "Node") -> None:
    for node in nodes:
        net.link(late, node)


def asked(fetch: effects.Fetch) -> list[int]:
    """The parts a question names; none: the part list."""
    return decode_fetch(fetch.body).parts


# Several parts, several sources


def test_the_part_list_comes_with_the_first_parts_so_that_a_small_artifact_takes_one_question(net: "Net") -> None:
    a, b = net.mesh(2, push_below=0)
    net.run(1)
    ids = [a.publish(bytes(size)) for size in (0, 1, PART_BYTES, 10 * PART_BYTES)]
    net.run(1)
    assert all(b.holds(artifact) for artifact in ids)
    assert len(b.sent(effects.Fetch)) == 4


def test_parts_are_fetched_several_at_a_time(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(2 * BIG))
    net.run(0.011 + 8 * 0.02)
    assert b.holds(artifact)


def test_no_peer_is_asked_on_more_than_its_streams_and_a_new_one_on_a_few() -> None:
    script, mades = Script(bytes_max=1 << 30), [Made(4 * BIG, nonce=n) for n in range(3)]
    script.up("p")
    rounds = [of(script.updates("p", *(made.advert(n, n) for n, made in enumerate(mades))), effects.Fetch)]
    while rounds[-1]:
        script.later(20 * MS)
        rounds.append([again for fetch in rounds[-1] for again in of(serve(script, fetch, *mades), effects.Fetch)])
    assert len(script.core.pool.ids()) == 3
    assert len(rounds[0]) <= 4
    assert max(map(len, rounds)) == FETCH_STREAMS_PER_PEER
    assert sum(map(len, rounds)) <= 3 * (part_count(4 * BIG) + 1)


def test_a_peer_whose_answers_are_lost_is_asked_for_less_at_a_time() -> None:
    supplier = Supplier("p", 1)
    for _ in range(20):
        supplier.succeeded(10 * MS)
    assert supplier.window == FETCH_STREAMS_PER_PEER
    for _ in range(10):
        supplier.failed(lost=True)
    assert (supplier.window, supplier.failures) == (1, 10)
    assert supplier.timeout_s == 120.0
    supplier.succeeded(10 * MS)
    assert (supplier.timeout_s, supplier.failures) == (60.0, 5)


def test_many_small_tasks_and_a_large_one_share_the_streams(net: "Net") -> None:
    a, b = net.mesh(2, push_below=0)
    net.run(1)
    a.publish(bytes(20 * BIG))
    net.run(0.04)
    small = [a.publish(bytes(2000)) for _ in range(10)]
    net.run(0.3)
    assert all(b.holds(artifact) for artifact in small)
    assert b.core.gauges()["tasks"] == 1


def test_several_sources_share_a_large_artifact(net: "Net") -> None:
    nodes, late = star(net, 4)
    artifact = nodes[0].publish(bytes(10 * BIG))
    net.run(5)
    before = [node.core.counters["parts_served"] for node in nodes]
    join(net, nodes, late)
    net.run(3)
    assert late.holds(artifact)
    served = [node.core.counters["parts_served"] - n for node, n in zip(nodes, before, strict=True)]
    assert min(served) > 10
    assert late.core.counters["parts_from_several_peers"] == 1


def test_ten_announcing_peers_cost_one_fetch_and_one_insert(net: "Net") -> None:
    nodes, late = star(net, 10)
    artifact = nodes[0].publish(bytes(5000))
    net.run(2)
    join(net, nodes, late)
    net.run(2)
    assert len(late.seen(K.RECEIVED, artifact)) == 1
    assert len(late.sent(effects.Fetch)) == 1


def test_the_rarest_part_is_asked_for_first() -> None:
    script, made = Script(), Made(BIG)
    for peer in "pqrs":
        script.up(peer)
    for slot, peer in enumerate("qr"):
        script.updates(peer, made.advert(slot, 0, have=0b1111))
    (first,) = of(script.updates("s", made.advert(0, 0, have=0b1_0000_1111)), effects.Fetch) or of(
        script.log, effects.Fetch
    )
    done = script.answer(first, made.answer(0, first=True))
    to_s = [asked(fetch) for fetch in of(done, effects.Fetch) if fetch.peer == "s"]
    assert to_s[0] == [8]


def test_a_source_is_asked_only_for_what_it_said_it_has() -> None:
    script, made = Script(), Made(BIG)
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert(have=0b0101)), effects.Fetch)
    script.answer(first, made.answer(0, first=True))
    script.updates("q", made.advert(have=0b1010))
    script.later(20 * SECOND)
    for fetch in of(script.log, effects.Fetch)[1:]:
        (number,) = asked(fetch)
        assert number in ({0, 2} if fetch.peer == "p" else {1, 3})


def test_a_source_that_holds_everything_is_spared_while_others_hold_the_same_parts() -> None:
    script, made = Script(), Made(3 * PART_BYTES)
    script.up("whole")
    script.up("part")
    (first,) = of(script.updates("whole", made.advert()), effects.Fetch)
    script.later(10 * MS)
    script.updates("part", made.advert(have=0b0110))
    fetches = of(script.answer(first, made.answer(0, first=True)), effects.Fetch)
    assert {fetch.peer for fetch in fetches if asked(fetch)[0] in {1, 2}} == {"part"}


def test_parts_are_offered_before_the_whole_has_arrived(net: "Net") -> None:
    a, b, c = net.chain(3)
    artifact = a.publish(bytes(10 * BIG))
    net.run(0.2)
    assert not b.holds(artifact)
    assert c.core.counters["fetched_bytes"] > 0
    net.run(5)
    assert c.holds(artifact)
    assert [emit.hop for emit in c.seen(K.RECEIVED, artifact)] == [2]


def test_nobody_polls_for_parts_that_are_not_there_yet(net: "Net") -> None:
    a, b, c = net.chain(3)
    net.delays["n0", "n1"] = net.delays["n1", "n0"] = 500 * MS
    artifact = a.publish(bytes(4 * BIG))
    net.run(60)
    assert c.holds(artifact)
    assert c.core.counters["source_answered_have"] == c.core.counters["source_gone"] == 0
    assert len(c.sent(effects.Fetch)) <= part_count(4 * BIG) + 1
    assert b.core.counters["progress"] <= part_count(4 * BIG)


# Liars


def test_a_lying_source_is_left_for_an_honest_one_and_not_asked_again(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(BIG))
    net.run(2)
    net.tamper["n0"] = lambda _, body: body[:-1] + bytes([body[-1] ^ 1])
    net.delays["n1", "late"] = 50 * MS
    join(net, nodes, late)
    net.run(3)
    assert late.holds(artifact)
    failed = late.seen(K.FETCH_FAILED, artifact)
    assert {(emit.peer, emit.detail) for emit in failed} == {("n0", "wrong content")}
    assert [emit.peer for emit in late.seen(K.RECEIVED, artifact)] == ["n1"]


def test_a_lone_liar_is_asked_once_and_nothing_is_inserted() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    lie = made.answer(0, first=True)
    script.answer(fetch, lie[:-1] + bytes([lie[-1] ^ 1]))
    script.later(300 * SECOND)
    assert len(of(script.log, effects.Fetch)) == 1
    assert not script.events(K.RECEIVED)
    assert script.core.quota_used("p") == 0
    assert script.core.at_rest


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"\0", b"\1short", GONE, GONE + b"x", Made(9).answer(0), Made(9).answer(first=True), bytes(100_000)],
)
def test_any_answer_of_a_peer_ends_in_a_failure_at_worst(body: bytes) -> None:
    script, made = Script(), Made(BIG)
    script.up("p")
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    script.answer(fetch, body)
    script.later(300 * SECOND)
    assert {emit.peer for emit in script.events(K.FETCH_FAILED)} == {"p"}
    assert script.core.at_rest


@pytest.mark.parametrize("body", [GONE, b"\xff", Made(BIG).answer(1), Made(BIG, nonce=1).answer(2)])
def test_a_wrong_part_is_asked_of_another_source_at_once(body: bytes) -> None:
    script, made = Script(), Made(BIG)
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert(have=0b0101)), effects.Fetch)
    script.updates("q", made.advert(have=0b0100))
    fetches = of(script.answer(first, made.answer(0, first=True)), effects.Fetch)
    (open_fetch,) = [fetch for fetch in fetches if asked(fetch) == [2]]
    (other,) = of(script.answer(open_fetch, body), effects.Fetch)
    assert (other.peer, asked(other)) == ("q" if open_fetch.peer == "p" else "p", [2])


def test_a_source_that_lies_about_the_size_does_not_stop_the_honest_one(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(BIG))
    net.run(2)
    liar = net.node("liar")
    net.link(late, liar)
    net.say(liar, late, encode_advert(0, 50, 0, 100, artifact))
    net.link(late, nodes[0])
    net.run(3)
    assert late.holds(artifact)


def test_a_liar_that_announces_the_wrong_size_first_costs_one_question() -> None:
    script, made = Script(), Made(5000)
    script.up("liar")
    script.up("p")
    (fetch,) = of(script.updates("liar", encode_advert(0, 0, 0, 900, made.id)), effects.Fetch)
    script.updates("p", made.advert())
    (honest,) = of(script.answer(fetch, Made(700).answer(0, first=True)), effects.Fetch)
    assert honest.peer == "p"
    script.answer(honest, made.answer(0, first=True))
    assert made.id in script.core.pool.validated


# Failures


def test_a_silent_source_is_hedged_long_before_its_timeout(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(5000))
    net.run(2)
    join(net, nodes, late)
    net.run(0.015)
    (first,) = late.sent(effects.Fetch)
    net.delays[first.peer, "late"] = 9000 * net.delay
    net.run(2.1)
    assert late.holds(artifact)
    assert late.core.counters["fetch_hedges"] == late.core.counters["hedge_won"] == 1
    assert effects.Cancel(first.token) in late.log


def test_a_hedge_that_loses_is_cancelled() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    script.updates("q", made.advert())
    (hedge,) = of(script.later(3 * SECOND), effects.Fetch)
    assert hedge.peer == "q"
    assert effects.Cancel(hedge.token) in script.answer(first, made.answer(0, first=True))
    assert script.core.counters["hedge_won"] == 0


def test_after_a_failure_the_next_source_is_asked_at_once() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    script.updates("q", made.advert())
    (second,) = of(script.answer(first, GONE), effects.Fetch)
    assert (second.peer, [emit.detail for emit in script.events(K.FETCH_FAILED)]) == ("q", ["gone"])


def test_a_source_that_fails_is_asked_again_with_growing_pauses(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    net.lose_after = 1
    net.deaf.add("n0")
    artifact = a.publish(bytes(BIG))
    net.run(10)
    tries = len(b.sent(effects.Fetch))
    assert 4 <= tries <= 7
    net.deaf.clear()
    net.run(30)
    assert b.holds(artifact)


def test_a_source_that_never_serves_loses_the_task_not_only_time() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    done = script.updates("p", made.advert())
    while fetches := of(done, effects.Fetch):
        script.later(int(fetches[0].timeout_s) * SECOND)
        done = script.answer(fetches[0], None) + script.later(100 * SECOND)
    assert len(of(script.log, effects.Fetch)) == 6
    assert script.core.at_rest
    assert script.core.counters["silent_peer_given_up"] == 1


def test_a_fetch_moves_to_another_source_when_its_own_disconnects(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(20 * BIG))
    net.run(5)
    join(net, nodes, late)
    net.run(0.06)
    assert late.core.gauges()["tasks"] == 1
    net.cut(late, nodes[0])
    net.run(3)
    assert late.holds(artifact)


def test_a_fetch_goes_on_after_a_reconnect_with_the_parts_it_has(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(20 * BIG))
    net.run(0.15)
    have = b.core.parts_here(artifact)
    assert have is not None
    assert 0 < have[0] < have[1]
    net.cut(a, b)
    net.run(1)
    net.link(a, b)
    net.run(5)
    assert b.holds(artifact)
    assert b.core.counters["fetched_bytes"] == len(b.core.pool.validated[artifact].data)


def test_tasks_that_waited_for_a_stream_go_on_when_the_one_that_had_them_all_is_withdrawn() -> None:
    script, large = Script(bytes_max=1 << 30), Made(BIG)
    script.up("p")
    (first,) = of(script.updates("p", large.advert()), effects.Fetch)
    script.answer(first, large.answer(0, first=True))
    small = [Made(2000, nonce=n) for n in range(2, 6)]
    assert not of(script.updates("p", *(made.advert(n, n) for n, made in enumerate(small, start=1))), effects.Fetch)
    fetches = of(script.turn(inputs.Withdraw(large.id)), effects.Fetch)
    assert [decode_fetch(fetch.body).artifact for fetch in fetches] == [made.id for made in small]


def test_a_task_ends_when_only_sources_that_gave_wrong_content_still_announce_it() -> None:
    script, made = Script(), Made(5000)
    script.up("liar")
    script.up("p")
    (first,) = of(script.updates("liar", made.advert()), effects.Fetch)
    script.updates("p", made.advert())
    (second,) = of(script.answer(first, b"garbage"), effects.Fetch)
    script.answer(second, GONE)
    assert script.core.gauges()["tasks"] == 0
    assert of(script.updates("p", made.advert(0, 1)), effects.Fetch)


# Without a path


def test_a_task_whose_partial_sources_have_no_more_ends_after_30_s_and_starts_again_when_one_has() -> None:
    script, made = Script(), Made(3 * PART_BYTES)
    script.up("p")
    (first,) = of(script.updates("p", made.advert(have=0b001)), effects.Fetch)
    script.answer(first, made.answer(0, first=True))
    assert script.core.parts_here(made.id) == (1, 4)
    script.later(29 * SECOND)
    assert script.core.gauges()["tasks"] == 1
    script.later(2 * SECOND)
    assert script.core.gauges()["tasks"] == script.core.gauges()["slots_in_use"] == script.core.quota_used("p") == 0
    assert not of(script.updates("p", made.advert(0, 1, have=0b001)), effects.Fetch)
    assert of(script.updates("p", made.advert(0, 2, have=0b011)), effects.Fetch)
    assert script.core.counters["restarted_by_new_row"] == 1


def test_a_task_whose_sources_are_all_away_waits_30_s_for_them_with_what_has_arrived() -> None:
    script, made, other = Script(), Made(3 * PART_BYTES), Made(5000, nonce=1)
    script.up("p")
    (first,) = of(script.updates("p", made.advert(have=0b001)), effects.Fetch)
    script.answer(first, made.answer(0, first=True))
    script.updates("p", other.advert(1, 1))
    script.down("p")
    script.later(29 * SECOND)
    assert script.core.gauges()["tasks"] == 1
    script.later(2 * SECOND)
    assert script.core.gauges()["tasks"] == 0
    script.later(60 * SECOND)
    assert script.core.at_rest


def test_a_task_ends_with_its_last_row_and_what_it_asked_is_cancelled() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    assert effects.Cancel(fetch.token) in script.updates("p", encode_empty(0, 1))
    assert script.core.gauges()["tasks"] == script.core.quota_used("p") == 0
    assert not script.answer(fetch, made.answer(0, first=True))


def test_what_a_peer_owes_may_still_come_while_another_announces_it() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    script.up("q")
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    script.updates("q", made.advert())
    script.updates("p", encode_empty(0, 1))
    script.answer(fetch, made.answer(0, first=True))
    assert made.id in script.core.pool.validated


def test_an_artifact_advertised_again_as_its_last_row_ends_is_still_delivered() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    script.updates("p", made.advert(0, 0))
    (fetch,) = of(script.updates("p", encode_empty(0, 1), made.advert(0, 2)), effects.Fetch)
    script.answer(fetch, made.answer(0, first=True))
    assert made.id in script.core.pool.validated


# Quotas


def test_a_fetch_waits_for_room_and_goes_on_when_there_is_some(net: "Net") -> None:
    a, b = net.node("a"), net.node("b", unvalidated_bytes_per_peer=150_000)
    net.link(a, b)
    net.run(1)
    ids = [a.publish(bytes(100_000)) for _ in range(4)]
    most = 0
    for _ in range(300):
        net.run(0.005)
        most = max(most, b.core.quota_used("a"))
    assert all(b.holds(artifact) for artifact in ids)
    assert most <= 150_000
    assert b.core.counters["task_waited_for_quota"] > 0
