import pytest
from tests.sim.conftest import fetch, give, update

from p2pnet.broadcast import effects, inputs
from p2pnet.model.errors import LocalError
from p2pnet.sim import HEADER_BYTES

MIB = 1 << 20


def test_a_message_takes_its_senders_uplink_and_the_links_delay(scripted):
    world = scripted(up="100Mbit")
    world.link("a", "b", delay="50ms")
    update(world.nodes["a"], "b", MIB)
    world.run("1s")
    assert world.nodes["b"].core.times(inputs.UpdatesReceived) == [
        pytest.approx(0.05 + (MIB + HEADER_BYTES) * 8 / 100e6)
    ]


def test_messages_to_different_peers_leave_one_uplink_one_after_the_other(scripted):
    world = scripted("abc", up=8_000_000)
    world.full_mesh(delay="10ms")
    update(world.nodes["a"], "b", 100_000 - HEADER_BYTES, connection=1)
    update(world.nodes["a"], "c", 100_000 - HEADER_BYTES, connection=2)
    world.run(1)
    assert world.nodes["b"].core.times(inputs.UpdatesReceived) == [pytest.approx(0.11)]
    assert world.nodes["c"].core.times(inputs.UpdatesReceived) == [pytest.approx(0.21)]


def test_messages_of_different_peers_share_one_downlink(scripted):
    world = scripted("ab")
    world.node("c", down="8Mbit")
    world.full_mesh(delay="10ms")
    update(world.nodes["a"], "c", 100_000 - HEADER_BYTES, connection=2)
    update(world.nodes["b"], "c", 100_000 - HEADER_BYTES, connection=2)
    world.run(1)
    assert world.nodes["c"].core.times(inputs.UpdatesReceived) == [pytest.approx(0.11), pytest.approx(0.21)]


def test_a_message_comes_in_while_it_is_still_leaving(scripted):
    world = scripted("a", up="8Mbit")
    world.node("b", down="8Mbit")
    world.link("a", "b", delay="10ms")
    update(world.nodes["a"], "b", 100_000 - HEADER_BYTES)
    world.run(1)
    assert world.nodes["b"].core.times(inputs.UpdatesReceived) == [pytest.approx(0.11)]


def test_an_answer_comes_a_round_trip_later(scripted):
    world = scripted()
    world.link("a", "b", delay="30ms")
    token = update(world.nodes["a"], "b")
    world.run(1)
    assert world.nodes["a"].core.of(inputs.UpdatesAnswered) == [inputs.UpdatesAnswered(token, b"ok")]
    assert world.nodes["a"].core.times(inputs.UpdatesAnswered) == [pytest.approx(0.06)]


def test_every_kind_of_request_is_answered(scripted):
    world = scripted()
    world.link("a", "b")
    a = world.nodes["a"]
    give(a, effects.SendSynced(1, "b", 1), effects.SendDigest(2, "b", 1, b"mine"), effects.Fetch(3, "b", 1, b"q", 5.0))
    world.run(1)
    assert world.nodes["b"].core.of(inputs.SyncedReceived) == [inputs.SyncedReceived("a", 1)]
    assert a.core.of(inputs.SyncedAnswered) == [inputs.SyncedAnswered(1, ok=True)]
    assert a.core.of(inputs.DigestAnswered) == [inputs.DigestAnswered(2, b"digest")]
    assert a.core.of(inputs.FetchAnswered) == [inputs.FetchAnswered(3, b"apart")]


def test_bytes_sent_counts_the_bodies_of_requests_and_answers(scripted):
    world = scripted()
    world.link("a", "b")
    update(world.nodes["a"], "b", 1000)
    world.run(1)
    assert world.bytes_sent == 1000 + len(b"ok")


def test_jitter_spreads_messages_around_the_delay_and_lets_them_overtake(scripted):
    world = scripted()
    world.link("a", "b", delay="50ms", jitter="20ms")
    for size in range(200):
        update(world.nodes["a"], "b", size)
    world.run(1)
    times = world.nodes["b"].core.times(inputs.UpdatesReceived)
    assert len(times) == 200
    assert 0.03 <= min(times) < 0.035
    assert 0.065 < max(times) <= 0.07
    sizes = [len(what.body) for what in world.nodes["b"].core.of(inputs.UpdatesReceived)]
    assert sizes != sorted(sizes)


def test_a_loss_is_a_delay_and_nothing_is_ever_missing(scripted):
    world = scripted()
    world.link("a", "b", delay="10ms", loss="50%")
    for _ in range(200):
        update(world.nodes["a"], "b")
    world.run(60)
    times = world.nodes["b"].core.times(inputs.UpdatesReceived)
    assert len(times) == 200
    late = [round((at - 0.01) / 0.2) for at in times]
    assert times == pytest.approx([0.01 + 0.2 * count for count in late])
    assert 70 < late.count(0) < 130
    assert late.count(2) > 10


def test_a_loss_costs_two_round_trips_of_a_long_link(scripted):
    world = scripted()
    world.link("a", "b", delay="200ms", loss=0.9)
    update(world.nodes["a"], "b")
    world.run(600)
    (at,) = world.nodes["b"].core.times(inputs.UpdatesReceived)
    assert (at - 0.2) / 0.8 == pytest.approx(round((at - 0.2) / 0.8))


def test_a_lost_request_fails_at_its_sender_and_never_arrives(scripted):
    world = scripted()
    world.link("a", "b", lost_requests=1.0)
    token = update(world.nodes["a"], "b")
    world.run(2)
    assert world.nodes["a"].core.of(inputs.UpdatesAnswered) == [inputs.UpdatesAnswered(token, None)]
    assert not world.nodes["b"].core.of(inputs.UpdatesReceived)


def test_a_request_whose_answer_is_lost_arrives_and_fails_once(scripted):
    world = scripted()
    world.link("a", "b", lost_answers="100%")
    token = update(world.nodes["a"], "b")
    world.run(2)
    assert len(world.nodes["b"].core.of(inputs.UpdatesReceived)) == 1
    assert world.nodes["a"].core.of(inputs.UpdatesAnswered) == [inputs.UpdatesAnswered(token, None)]


def test_a_fetch_without_an_answer_fails_when_its_time_is_up(scripted):
    world = scripted()
    world.link("a", "b")
    world.nodes["b"].core.answers.clear()
    token = fetch(world.nodes["a"], "b", timeout_s=2.5)
    world.settle()
    assert world.nodes["a"].core.of(inputs.FetchAnswered) == [inputs.FetchAnswered(token, None)]
    assert world.nodes["a"].core.times(inputs.FetchAnswered) == [2.5]


def test_an_answer_after_the_timeout_is_not_heard(scripted):
    world = scripted()
    world.link("a", "b", delay="1s")
    fetch(world.nodes["a"], "b", timeout_s=1.5)
    world.run(5)
    assert len(world.nodes["a"].core.of(inputs.FetchAnswered)) == 1


def test_what_is_reset_before_it_has_left_never_arrives(scripted):
    world = scripted(up="8Mbit")
    world.link("a", "b", delay="10ms")
    a = world.nodes["a"]
    token = update(a, "b", 1_000_000)
    world.run("500ms")
    give(a, effects.Cancel(token))
    world.run(5)
    assert not world.nodes["b"].core.of(inputs.UpdatesReceived)
    assert not a.core.of(inputs.UpdatesAnswered)


def test_what_is_reset_on_its_way_arrives_and_its_answer_is_not_heard(scripted):
    world = scripted()
    world.link("a", "b", delay="50ms")
    a = world.nodes["a"]
    token = update(a, "b")
    world.run("20ms")
    give(a, effects.Cancel(token))
    world.run(5)
    assert len(world.nodes["b"].core.of(inputs.UpdatesReceived)) == 1
    assert not a.core.of(inputs.UpdatesAnswered)


def test_a_request_on_no_connection_fails_in_the_same_instant(scripted):
    world = scripted()
    world.link("a", "b")
    token = update(world.nodes["a"], "b", connection=77)
    world.run(0)
    assert world.nodes["a"].core.of(inputs.UpdatesAnswered) == [inputs.UpdatesAnswered(token, None)]


def test_a_link_that_is_made_again_has_the_new_numbers(scripted):
    world = scripted()
    world.link("a", "b", delay="50ms")
    world.run(1)
    world.link("b", "a", delay="5ms")
    update(world.nodes["a"], "b")
    world.run(1)
    assert world.nodes["b"].core.times(inputs.UpdatesReceived) == [1.005]
    assert len(world.nodes["a"].core.of(inputs.PeerUp)) == 1


@pytest.mark.parametrize(
    "link",
    [{"delay": "fast"}, {"delay": -1}, {"loss": 1.0}, {"loss": "120%"}, {"lost_requests": 0.6, "lost_answers": 0.6}],
)
def test_a_link_that_cannot_be_is_refused(scripted, link):
    world = scripted()
    with pytest.raises(LocalError):
        world.link("a", "b", **link)
