"""What the reference's own tests check and no other test of ours does (docs/broadcast.md has them all, side by side)."""

from tests.broadcast.kit import SECOND, Made, Moody, Script, Undecided, of

from p2pnet.broadcast import Bounce, effects, inputs
from p2pnet.broadcast.wire import UpdateStatus, encode_empty
from p2pnet.sim import World


def test_an_id_that_moves_into_an_occupied_slot_ends_only_what_stood_there() -> None:
    script, staying, displaced = Script(Undecided()), Made(nonce=1), Made(nonce=2)
    script.up("p")
    script.updates("p", staying.push(0, 0), displaced.push(1, 1))
    script.updates("p", staying.advert(1, 2))
    assert list(script.core.pool.unvalidated) == [staying.id]
    script.updates("p", encode_empty(0, 3))
    assert list(script.core.pool.unvalidated) == [staying.id]


def test_a_fetch_ends_when_its_only_source_is_no_member_any_more() -> None:
    script, made = Script(), Made(5000)
    script.turn(inputs.MembersChanged(frozenset({"me", "p"})))
    script.up("p")
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    done = script.turn(inputs.MembersChanged(frozenset({"me"})))
    assert [cancel.token for cancel in of(done, effects.Cancel)] == [fetch.token]
    assert script.core.gauges()["tasks"] == script.core.quota_used("p") == 0


def test_a_push_of_100_mb_is_taken() -> None:
    script = Script()
    made = Made(100_000_000)
    script.up("p")
    assert script.statuses("p", made.push()) == [UpdateStatus.OK]
    assert made.id in script.core.pool.validated


def test_a_bouncer_is_not_asked_again_once_a_fetch_has_begun() -> None:
    client, made = Moody(Bounce.WANTS), Made(5000)
    script = Script(client)
    script.up("p")
    (fetch,) = of(script.updates("p", made.advert()), effects.Fetch)
    client.says = Bounce.UNWANTED
    script.later(SECOND)
    script.answer(fetch, made.answer(0, first=True))
    assert made.id in script.core.pool.validated


def test_50_mib_one_way_and_10_mib_back_arrive() -> None:
    world = World(seed=1)
    a, b = world.node("a", up="1Gbit"), world.node("b", up="1Gbit")
    world.link("a", "b", delay="10ms")
    for size in (50 << 20, 10 << 20):
        there, back = a.publish(bytes(size)), b.publish(bytes(size))
        world.settle()
        assert b.holds(there)
        assert a.holds(back)
    assert world.broken() == []
