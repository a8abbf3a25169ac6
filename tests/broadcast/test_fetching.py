"""Fetching: parts in parallel, several sources, liars, the slow and the silent."""

from typing import TYPE_CHECKING

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.wire import FetchKind, FetchStatus, decode_fetch
from p2pnet.model.events import EventKind
from p2pnet.model.limits import FETCH_STREAMS_PER_PEER, PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

K = EventKind
BIG = 20 * PART_BYTES


def star(net: "Net", sources: int) -> tuple[list["Node"], "Node"]:
    """Sources that all hold what the first one publishes, and a node linked to none yet."""
    nodes = net.mesh(sources, full_mesh=False)
    return nodes, net.node("late", full_mesh=False)


def join(net: "Net", nodes: list["Node"], late: "Node") -> None:
    for node in nodes:
        net.link(late, node)


def test_parts_are_fetched_several_at_a_time(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(BIG))
    net.run(0.011 + 8 * 0.02)
    assert b.holds(artifact)


def test_no_peer_is_asked_on_more_than_its_streams(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    for _ in range(5):
        a.publish(bytes(BIG))
    most = 0
    for _ in range(200):
        net.run(0.005)
        lane = b.core._fetcher.lanes["n0"]
        most = max(most, len(lane.asks))
    assert most == FETCH_STREAMS_PER_PEER
    assert len(b.core.pool.ids()) == 5


def test_many_small_tasks_and_a_large_one_share_the_streams(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    a.publish(bytes(10 * BIG))
    net.run(0.04)
    small = [a.publish(bytes(2000)) for _ in range(10)]
    net.run(0.2)
    assert all(b.holds(artifact) for artifact in small)
    assert b.core.gauges()["tasks"] == 1


def test_several_sources_share_a_large_artifact(net: "Net") -> None:
    nodes, late = star(net, 4)
    artifact = nodes[0].publish(bytes(10 * BIG))
    net.run(5)
    join(net, nodes, late)
    net.run(3)
    assert late.holds(artifact)
    served = [node.core.counters["fetches_served"] for node in nodes[1:]]
    assert min(served) > 10


def test_a_lying_source_is_left_for_an_honest_one_and_not_asked_again(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(BIG))
    net.run(2)
    net.tamper["n0"] = lambda _, body: body[:-1] + bytes([body[-1] ^ 1])
    join(net, nodes, late)
    net.run(3)
    assert late.holds(artifact)
    failed = late.seen(K.FETCH_FAILED, artifact)
    assert {(e.peer, e.detail) for e in failed} == {("n0", "wrong content")}
    assert [e.peer for e in late.seen(K.RECEIVED, artifact)] == ["n1"]


def test_a_lone_liar_is_asked_once_and_nothing_is_inserted(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    net.tamper["n0"] = lambda _, body: body[:1] + bytes(len(body) - 1)
    artifact = a.publish(b"x" * 5000)
    net.run(300)
    assert len(b.sent(effects.Fetch)) == 1
    assert not b.seen(K.RECEIVED, artifact)
    assert b.core._charges.held("n0") == 0


def test_any_answer_of_a_peer_ends_in_a_failure_at_worst(net: "Net") -> None:
    a, b, c = net.mesh(3, full_mesh=False)
    net.run(1)
    answers = iter([b"", b"\xff", bytes([FetchStatus.NOT_YET]) + b"x", bytes([FetchStatus.PARTS]), b"\x01short"] * 10)
    net.tamper["n0"] = lambda _, body: next(answers, body)
    artifact = a.publish(bytes(BIG))
    net.cut(b, c)
    net.run(1)
    assert not b.holds(artifact)
    assert not c.holds(artifact)
    assert {e.peer for e in b.seen(K.FETCH_FAILED)} == {"n0"}


def test_a_source_that_lies_about_the_size_does_not_stop_the_honest_one(net: "Net") -> None:
    from p2pnet.broadcast.wire import encode_advert

    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(BIG))
    net.run(2)
    net.link(late, nodes[0])
    liar = net.node("liar")
    net.link(late, liar)
    lie = encode_advert(0, 50, 0, 100, artifact)
    late.core.handle(inputs.UpdatesReceived("liar", late.connections["liar"], 999, lie), net.now, net.wall)
    late.arm()
    net.run(3)
    assert late.holds(artifact)


def test_a_silent_source_is_hedged_long_before_its_timeout(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(5000))
    net.run(2)
    net.delays[("n0", "late")] = net.delays[("n1", "late")] = net.delay
    join(net, nodes, late)
    net.run(0.015)
    (first,) = late.sent(effects.Fetch)
    net.delays[(first.peer, "late")] = 9000 * net.delay
    net.run(0.3)
    assert late.holds(artifact)
    assert late.core.counters["fetch_hedges"] == 1
    assert effects.Cancel(first.token) in late.log


def test_after_a_failure_the_next_advertiser_is_asked_at_once(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(5000))
    net.run(2)
    gone = bytes([FetchStatus.GONE])
    net.tamper["n0"] = net.tamper["n1"] = lambda request, body: (
        gone if late.core.counters["fetch_errors"] == 0 else body
    )
    join(net, nodes, late)
    net.run(0.06)
    assert late.holds(artifact)
    assert [e.detail for e in late.seen(K.FETCH_FAILED)] == ["gone"]


def test_not_yet_is_no_failure_and_asked_again(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    net.tamper["n0"] = lambda _, body: bytes([FetchStatus.NOT_YET]) if net.now < 2_000_000_000 else body
    artifact = a.publish(bytes(5000))
    net.run(2)
    assert b.holds(artifact)
    assert not b.seen(K.FETCH_FAILED)


def test_a_source_that_fails_is_asked_again_with_growing_pauses(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    net.lose_after = 1
    net.deaf.add("n0")
    artifact = a.publish(bytes(5000))
    net.run(30)
    tries = len(b.sent(effects.Fetch))
    assert 5 <= tries <= 10
    net.deaf.clear()
    net.run(60)
    assert b.holds(artifact)


def test_a_fetch_moves_to_another_source_when_its_own_disconnects(net: "Net") -> None:
    nodes, late = star(net, 2)
    artifact = nodes[0].publish(bytes(5 * BIG))
    net.run(3)
    join(net, nodes, late)
    net.run(0.06)
    assert late.core.gauges()["tasks"] == 1
    net.cut(late, nodes[0])
    net.run(3)
    assert late.holds(artifact)


def test_a_fetch_goes_on_after_a_reconnect_with_the_parts_it_has(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    artifact = a.publish(bytes(10 * BIG))
    net.run(0.2)
    have = b.core.counters["fetched_bytes"]
    assert 0 < have < 10 * BIG
    net.cut(a, b)
    net.run(1)
    net.link(a, b)
    net.run(3)
    assert b.holds(artifact)
    assert b.core.counters["fetched_bytes"] == len(b.core.pool.validated[artifact].data)


def test_a_push_that_arrives_meanwhile_completes_the_task(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    net.tamper["n0"] = lambda _, body: bytes([FetchStatus.NOT_YET])
    artifact = a.publish(bytes(5000))
    net.run(0.5)
    assert b.core.gauges()["tasks"] == 1
    from p2pnet.broadcast.wire import encode_push

    push = b"".join(encode_push(7, 99, 0, a.core.pool.validated[artifact].data))
    connection = b.connections["n0"]
    answer = b.core.handle(inputs.UpdatesReceived("n0", connection, 12345, push), net.now, net.wall)
    assert effects.AnswerUpdates(12345, b"\x00") in answer
    b.arm()
    net.run(1)
    assert b.holds(artifact)
    assert b.core.gauges()["tasks"] == 0


def test_parts_are_offered_before_the_whole_has_arrived(net: "Net") -> None:
    a, b, c = (net.node(name, full_mesh=False) for name in "abc")
    net.link(a, b)
    net.link(b, c)
    net.run(1)
    artifact = a.publish(bytes(10 * BIG))
    net.run(0.2)
    assert not b.holds(artifact)
    assert c.core.counters["fetched_bytes"] > 0
    net.run(5)
    assert c.holds(artifact)
    assert [e.hop for e in c.seen(K.RECEIVED, artifact)] == [2]


def test_a_stranger_to_an_artifact_answers_gone_and_one_that_waits_for_it_not_yet(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    from p2pnet.broadcast.wire import encode_fetch
    from p2pnet.model.ids import ArtifactId

    def ask(artifact: ArtifactId) -> int:
        question = encode_fetch(FetchKind.PART, artifact, 0)
        (answer,) = b.core.handle(inputs.FetchReceived("n0", b.connections["n0"], 77, question), net.now, net.wall)
        assert isinstance(answer, effects.AnswerFetch)
        return answer.body[0][0]

    assert ask(ArtifactId(bytes(32))) == FetchStatus.GONE
    artifact = a.publish(bytes(BIG))
    net.run(0.02)
    assert ask(artifact) == FetchStatus.NOT_YET
    net.run(2)
    assert ask(artifact) == FetchStatus.PART


def test_a_part_beyond_the_end_is_gone(net: "Net") -> None:
    a, _ = net.mesh(2)
    net.run(1)
    from p2pnet.broadcast.wire import encode_fetch

    artifact = a.publish(b"x")
    question = encode_fetch(FetchKind.PART, artifact, 1)
    (answer,) = a.core.handle(inputs.FetchReceived("n1", a.connections["n1"], 77, question), net.now, net.wall)
    assert answer == effects.AnswerFetch(77, [bytes([FetchStatus.GONE])])


def test_the_part_list_is_asked_for_only_if_there_are_several_parts(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    a.publish(bytes(PART_BYTES - 100))
    net.run(1)
    a.publish(bytes(PART_BYTES))
    net.run(1)
    kinds = [decode_fetch(fetch.body).kind for fetch in b.sent(effects.Fetch)]
    assert kinds == [FetchKind.PART, FetchKind.PARTS, FetchKind.PART, FetchKind.PART]


def test_tasks_that_waited_for_a_stream_go_on_when_the_one_that_had_them_all_is_withdrawn(net: "Net") -> None:
    a, b = net.mesh(2)
    net.run(1)
    net.lose_after = 1000 * 1_000_000_000
    big = a.publish(bytes(10 * BIG))
    net.run(0.1)
    net.deaf.add("n0")
    stale = a.publish(bytes(2000))
    small = [a.publish(bytes(2000)) for _ in range(3)]
    net.run(0.1)
    b.withdraw(stale)
    net.deaf.clear()
    b.withdraw(big)
    net.run(1)
    assert [b.holds(artifact) for artifact in small] == [True] * 3
