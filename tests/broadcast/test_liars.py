"""What liars, the silent and the dead cost: their own quota, for a while; nobody else's, and nothing for ever."""

import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
from tests.broadcast.kit import MS, SECOND, Made, Script, Undecided, of, serve

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.wire import decode_fetch, encode_advert, encode_empty, encode_have
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

MANY = 8 * PART_BYTES


def id_of(number: int) -> ArtifactId:
    return ArtifactId(number.to_bytes(32, "big"))


def until_quiet(script: Script, done: list[effects.Effect], *mades: Made, serving: int = 0) -> None:
    """Answer so many questions as an honest source of these does, then let all others time out."""
    open_now = of(done, effects.Fetch)
    while open_now:
        fetch = open_now.pop(0)
        if effects.Cancel(fetch.token) in script.log:
            continue
        if serving:
            serving -= 1
            done = serve(script, fetch, *mades)
        else:
            done = script.later(int(fetch.timeout_s) * SECOND) + script.answer(fetch, None)
        open_now += of(done + script.later(70 * SECOND), effects.Fetch)


# Partial holders


def test_partial_holders_whose_source_died_end_their_tasks_hold_no_bytes_and_are_silent(net: "Net") -> None:
    a, b, c = (net.node(name, full_mesh=False) for name in "abc")
    for x, y in ((a, b), (b, c), (a, c)):
        net.link(x, y)
    net.run(1)
    artifact = a.publish(bytes(100 * PART_BYTES))
    net.run(0.07)
    for node in (b, c):
        here = node.core.parts_here(artifact)
        assert here is not None
        assert 0 < here[0] < here[1]
    net.crash(a)
    net.run(25)
    assert b.core.gauges()["tasks"] == c.core.gauges()["tasks"] == 1
    net.run(70)
    said = [len(node.log) for node in (b, c)]
    for node in (b, c):
        assert node.core.gauges()["tasks"] == node.core.gauges()["slots_in_use"] == 0
        assert [node.core.quota_used(peer) for peer in "abc"] == [0, 0, 0]
        assert node.core.at_rest
    net.run(600)
    assert [len(node.log) for node in (b, c)] == said


def test_partial_holders_start_again_when_the_source_is_back(net: "Net") -> None:
    a, b, c = (net.node(name, full_mesh=False) for name in "abc")
    for x, y in ((a, b), (b, c)):
        net.link(x, y)
    net.run(1)
    artifact = a.publish(bytes(100 * PART_BYTES))
    net.run(0.15)
    net.cut(a, b)
    net.run(100)
    assert b.core.gauges()["tasks"] == c.core.gauges()["tasks"] == 0
    net.link(a, b)
    net.run(5)
    assert b.holds(artifact)
    assert c.holds(artifact)


def test_a_task_does_not_wait_for_room_that_it_takes_itself() -> None:
    script, made = Script(bytes_max=2 * PART_BYTES), Made(MANY)
    script.up("p")
    done = script.updates("p", made.advert(have=0b1_1111_1111))
    until_quiet(script, done, made, serving=20)
    assert made.id in script.core.pool.validated
    assert script.core.quota_used("p") == 0


def test_tasks_that_wait_for_each_others_room_end_in_turn_and_none_keeps_a_slot() -> None:
    script, mades = Script(bytes_max=4 * PART_BYTES), [Made(MANY, nonce=n) for n in range(2)]
    script.up("relay")
    for n, made in enumerate(mades):
        (first,) = of(script.updates("relay", made.advert(n, 0, have=0b1)), effects.Fetch)
        script.answer(first, made.answer(0, first=True))
        script.later(SECOND)
    for n, made in enumerate(mades):
        assert not of(script.updates("relay", made.advert(n, 1, have=0b1111)), effects.Fetch)
    assert script.core.gauges()["tasks"] == script.core.gauges()["slots_in_use"] == 2
    done = script.later(28 * SECOND + SECOND // 2)
    assert script.core.gauges()["tasks"] == 1
    assert len(of(done, effects.Fetch)) == 3
    until_quiet(script, done, mades[1], serving=3)
    script.later(120 * SECOND)
    assert script.core.gauges()["tasks"] == script.core.gauges()["slots_in_use"] == script.core.quota_used("relay") == 0
    done = script.updates("relay", *(made.advert(n, 2) for n, made in enumerate(mades)))
    until_quiet(script, done, *mades, serving=40)
    assert set(script.core.pool.ids()) == {made.id for made in mades}


# A liar behind an honest relay


def test_a_liars_half_sent_artifacts_do_not_keep_an_honest_relays_own_from_arriving() -> None:
    script, own = Script(bytes_max=200_000), Made(70_000)
    script.up("relay")
    for number in range(50):
        junk = Made(MANY, nonce=100 + number)
        done = script.updates("relay", junk.advert(number, 0, have=0b1))
        for fetch in of(done, effects.Fetch):
            script.answer(fetch, junk.answer(0, first=True))
    assert 0 < script.core.quota_used("relay") <= 100_000
    (fetch,) = of(script.updates("relay", own.advert(60, 0)), effects.Fetch)
    while fetch is not None:
        done = serve(script, fetch, own)
        fetch = next((one for one in of(done, effects.Fetch) if decode_fetch(one.body).artifact == own.id), None)
    assert own.id in script.core.pool.validated
    assert script.core.quota_used("relay") <= 200_000


def test_an_honest_relays_own_does_not_wait_for_room_behind_a_liars_parts() -> None:
    script, first, own = Script(bytes_max=5 * PART_BYTES), Made(3 * PART_BYTES), Made(3 * PART_BYTES, nonce=1)
    script.up("relay")
    (fetch,) = of(script.updates("relay", first.advert(0, 0)), effects.Fetch)
    for number in range(20):
        junk = Made(MANY, nonce=100 + number)
        for question in of(script.updates("relay", junk.advert(10 + number, 0, have=0b1)), effects.Fetch):
            script.answer(question, junk.answer(0, first=True))
    assert not of(script.updates("relay", own.advert(1, 0)), effects.Fetch)
    done = serve(script, fetch, first)
    asked = [decode_fetch(one.body).artifact for one in of(done, effects.Fetch)]
    assert first.id in script.core.pool.validated
    assert own.id in asked


def test_a_fetch_that_a_whole_source_serves_gives_way_to_nobody_and_nobody_waits_for_ever() -> None:
    script, evicted, own = Script(bytes_max=5 * PART_BYTES), Made(3 * PART_BYTES), Made(4 * PART_BYTES, nonce=1)
    script.up("relay")
    script.up("whole")
    (first,) = of(script.updates("relay", evicted.advert(0, 0, have=0b1)), effects.Fetch)
    script.answer(first, evicted.answer(0, first=True))
    script.updates("whole", evicted.advert())
    done = script.updates("relay", own.advert(1, 1))
    assert script.core.counters["passing_bytes_evicted"] == 0
    until_quiet(script, of(script.log, effects.Fetch)[1:] + done, evicted, own, serving=100)
    assert set(script.core.pool.ids()) == {evicted.id, own.id}


def test_an_honest_relay_in_a_net_delivers_although_a_liar_sends_halves_through_it(net: "Net") -> None:
    liar, relay, end = (
        net.node(name, full_mesh=False, unvalidated_bytes_per_peer=size)
        for name, size in (("liar", 1 << 28), ("relay", 1 << 28), ("end", 200_000))
    )
    net.link(liar, relay)
    net.link(relay, end)
    net.run(1)
    answered = dict[ArtifactId, int]()

    def half(received: inputs.FetchReceived, body: bytes) -> bytes:
        artifact = decode_fetch(received.body).artifact
        answered[artifact] = answered.get(artifact, 0) + 1
        return body if answered[artifact] < 3 else b"\2" + bytes(5)

    net.tamper["liar"] = half
    for _ in range(30):
        liar.publish(bytes(100 * PART_BYTES))
    net.run(1)
    own = relay.publish(bytes(70_000))
    net.run(2)
    assert end.holds(own)
    net.run(600)
    assert end.core.gauges()["tasks"] == 0
    assert end.core.quota_used("relay") == 0


def test_a_peer_that_gives_more_parts_than_it_was_asked_for_fills_no_more_room_than_its_quota() -> None:
    script = Script(bytes_max=4 * PART_BYTES)
    script.up("liar")
    for number in range(10):
        made = Made(MANY, nonce=number)
        for fetch in of(script.updates("liar", made.advert(number, 0, have=0b11)), effects.Fetch):
            assert decode_fetch(fetch.body).most <= 2
            script.answer(fetch, made.answer(*range(9), first=True))
    assert script.core.counters["wrong_content"] > 0
    assert script.core.gauges()["slots_in_use"] == 0
    assert script.core.counters["fetched_bytes"] == 0


# Everybody who waits is woken


def test_all_tasks_that_wait_for_a_stream_wake_although_rows_are_overwritten_meanwhile() -> None:
    script, mades = Script(), [Made(5000, nonce=n) for n in range(60)]
    script.up("p")
    done = script.updates("p", *(made.advert(n, n) for n, made in enumerate(mades)))
    assert len(of(done, effects.Fetch)) == 4
    replaced = [Made(5000, nonce=100 + n) for n in range(10)]
    done += script.updates("p", *(made.advert(20 + n, 100 + n) for n, made in enumerate(replaced)))
    done += script.updates("p", *(encode_empty(40 + n, 200 + n) for n in range(10)))
    until_quiet(script, done, *mades, *replaced, serving=1000)
    live = mades[:20] + replaced + mades[30:40] + mades[50:]
    assert set(script.core.pool.ids()) == {made.id for made in live}
    assert script.core.gauges()["tasks"] == 0


def test_all_tasks_that_wait_for_room_wake_although_rows_are_overwritten_meanwhile() -> None:
    script, mades = Script(bytes_max=12_000), [Made(5000, nonce=n) for n in range(60)]
    script.up("p")
    done = script.updates("p", *(made.advert(n, n) for n, made in enumerate(mades)))
    assert len(of(done, effects.Fetch)) == 2
    replaced = [Made(5000, nonce=100 + n) for n in range(10)]
    done += script.updates("p", *(made.advert(20 + n, 100 + n) for n, made in enumerate(replaced)))
    done += script.updates("p", *(encode_empty(40 + n, 200 + n) for n in range(10)))
    until_quiet(script, done, *mades, *replaced, serving=1000)
    live = mades[:20] + replaced + mades[30:40] + mades[50:]
    assert set(script.core.pool.ids()) == {made.id for made in live}
    assert script.core.quota_used("p") == 0


def test_tasks_wake_when_streams_room_and_sources_are_all_scarce_at_once(net: "Net") -> None:
    a, b, c = (net.node(n, full_mesh=False, unvalidated_bytes_per_peer=150_000, push_below=0) for n in "abc")
    for x, y in ((a, b), (b, c), (a, c)):
        net.link(x, y)
    net.run(2)
    net.drop = 0.1
    ids = [node.publish(bytes(1000 + 2000 * n)) for n in range(60) for node in (a, b)]
    for artifact in ids[::5]:
        net.run(0.02)
        for node in (a, b, c):
            node.withdraw(artifact)
    net.run(60)
    net.drop = 0.0
    net.run(240)
    live = {artifact for n, artifact in enumerate(ids) if n % 5}
    for node in (a, b, c):
        assert set(node.core.pool.ids()) == live
        assert node.core.gauges()["tasks"] == 0


# Garbage costs the same per byte, however much there is of it


def cost_of_garbage(adverts: int, answer: bytes | None, *, have: int | None, late: bool) -> tuple[float, float]:
    """Lines run inside the core, and questions asked, per advert of 128 MiB that comes to nothing."""
    script, steps = Script(), 0
    script.up("p")
    script.up("q")

    def count(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    open_now: list[effects.Fetch] = []
    before = sys.gettrace()
    sys.settrace(count)
    try:
        for number in range(adverts):
            advert = encode_advert(number, number, 0, 128 << 20, id_of(number), have=have)
            open_now += of(script.updates("pq"[number % 2], advert), effects.Fetch)
            while open_now and not late:
                open_now += of(script.answer(open_now.pop(0), answer), effects.Fetch)
        while open_now:
            open_now += of(script.answer(open_now.pop(0), answer), effects.Fetch)
    finally:
        sys.settrace(before)
    assert len(script.log) < 10 * adverts
    return steps / adverts, script.core.counters["fetches"] / adverts


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("have", [None, 0b1])
@pytest.mark.parametrize("answer", [b"garbage", b"\2" + bytes(5), None])
def test_an_advert_of_garbage_costs_the_same_whether_few_or_many_came_before(
    answer: bytes | None, have: int | None, late: bool
) -> None:
    few, some, many = (cost_of_garbage(n, answer, have=have, late=late) for n in (250, 500, 1000))
    assert some[0] < 1.1 * few[0]
    assert many[0] < 1.1 * few[0]
    assert many[1] <= 1.0


# Nothing said, often


def test_adverts_that_are_answered_have_with_nothing_cause_no_endless_questions() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    nothing = b"".join(encode_have(0, len(made.data)))
    done = script.updates("p", made.advert())
    for _ in range(100):
        for fetch in of(done, effects.Fetch):
            script.answer(fetch, nothing)
        done = script.later(10 * SECOND)
    assert len(of(script.log, effects.Fetch)) == 1
    assert script.core.at_rest


def test_a_row_renewed_for_ever_by_a_peer_that_has_nothing_costs_one_question_each_time() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    nothing = b"".join(encode_have(0, len(made.data)))
    for commit in range(200):
        for fetch in of(script.updates("p", made.advert(0, commit)), effects.Fetch):
            script.answer(fetch, nothing)
        script.later(SECOND)
    assert len(of(script.log, effects.Fetch)) == 200
    script.later(60 * SECOND)
    assert script.core.at_rest
    assert script.core.quota_used("p") == 0


@pytest.mark.parametrize("have", [None, 0b1111])
def test_silent_liars_cost_no_slot_no_task_and_no_byte_in_the_end(have: int | None) -> None:
    script, mades = Script(), [Made(MANY, nonce=n) for n in range(5)]
    for peer in ("liar", "other", "honest"):
        script.up(peer)
    done = script.updates("liar", *(made.advert(n, n, have=have) for n, made in enumerate(mades)))
    done += script.updates("other", *(made.advert(n, n, have=have) for n, made in enumerate(mades)))
    until_quiet(script, done, *mades, serving=5)
    script.later(120 * SECOND)
    gauges = script.core.gauges()
    assert (gauges["tasks"], gauges["slots_in_use"], gauges["unvalidated"]) == (0, 0, 0)
    assert script.core.quota_used("liar") == script.core.quota_used("other") == 0
    assert gauges["rows"] == 10
    assert not script.kinds_pending() - {"timer"}


def test_a_silent_liar_delays_an_honest_source_by_one_hedge_and_the_next_time_by_a_short_one(net: "Net") -> None:
    nodes: list[Node] = net.mesh(3, full_mesh=False, push_below=0)
    ids = [nodes[0].publish(bytes(20 * PART_BYTES)) for _ in range(3)]
    net.run(5)
    late, liar = net.node("late", full_mesh=False), net.node("liar", full_mesh=False)
    net.link(late, liar)
    net.deaf.add("liar")
    net.lose_after = 15 * SECOND
    size = len(nodes[0].core.pool.validated[ids[0]].data)
    net.say(liar, late, *(encode_advert(n, n, 0, size, artifact) for n, artifact in enumerate(ids[:2])))
    for node in nodes:
        net.link(late, node)
    net.run(2.5)
    assert [late.holds(artifact) for artifact in ids] == [True] * 3
    again = nodes[0].core.client.make("f", bytes(5000), nonce=bytes(16), now=net.wall, keep_s=60)
    made = Made.of(again)
    net.say(liar, late, made.advert(7, 7))
    net.run(0.1)
    nodes[0].give(inputs.Publish(made.data, 5000))
    net.run(0.35)
    assert late.holds(made.id)


def test_a_client_that_never_decides_keeps_only_what_fits_each_deliverers_quota() -> None:
    script = Script(Undecided(), bytes_max=100_000)
    for peer in "pq":
        script.up(peer)
        for number in range(30):
            made = Made(9_000, nonce=ord(peer) * 100 + number)
            script.updates(peer, made.push(number, number))
            script.later(5 * MS)
    assert script.core.quota_used("p") <= 100_000
    assert script.core.quota_used("q") <= 100_000
    assert len(script.core.pool.unvalidated) == 22
