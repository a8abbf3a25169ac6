"""A namespace is served by one of several operators: the one that is for it alone, else the one of the whole cluster."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.kit import NOW, Api

from p2pnet.operator.kube import claims
from p2pnet.operator.kube.api import EVENT, LEASE, BusyError, ConflictError, ForbiddenError
from p2pnet.operator.kube.claims import CLAIM_S, CLUSTER, NAMESPACE, RENEW_S, TURN_S, Claims, OperatorClaim, holder_of
from p2pnet.operator.kube.events import EventRecorder
from p2pnet.operator.kube.queue import Controller, Key
from p2pnet.operator.subnet.context import SUBNET

HOLDERS = ("a/p2pnet", "b/p2pnet", "c/p2pnet")


@dataclass
class Clock:
    """Seconds that a test lets pass."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Installations:
    """Operators of one cluster, each with its claims; `pass_s` lets those that are alive take their turns."""

    api: Api = field(default_factory=lambda: Api(lambda: NOW))
    clock: Clock = field(default_factory=Clock)
    alive: dict[str, Claims] = field(default_factory=dict)

    async def install(self, me: str, *namespaces: str) -> Claims:
        """A new one, or a new process of one."""
        made = Claims(self.api, me, namespaces=namespaces, home=me.partition("/")[0], clock=self.clock)
        self.alive[me] = made
        await made.acquire()
        return made

    async def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / TURN_S)):
            self.clock.now += TURN_S
            for one in self.alive.values():
                await one.turn()

    def serving(self, namespace: str, *among: Claims) -> list[bool]:
        return [one.holder(namespace) is None for one in among]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Installations:
    made = Installations()

    class Moving(type(NOW)):  # type: ignore[misc]
        """Wall time that passes as the clock does."""

        @classmethod
        def now(cls, _: object = None) -> object:
            return NOW + timedelta(seconds=made.clock.now)

    monkeypatch.setattr(claims, "datetime", Moving)
    return made


async def test_one_operator_serves_what_it_is_for(world: Installations) -> None:
    whole, near = await world.install("sys/p2pnet"), await Installations().install("blue/p2pnet", "blue", "green")
    assert world.serving("anything", whole) == [True]
    assert [near.holder(one) for one in ("blue", "green")] == [None, None]


@pytest.mark.parametrize("nearer_first", [True, False])
async def test_who_serves_the_cluster_leaves_alone_what_another_claims(
    world: Installations, *, nearer_first: bool
) -> None:
    names: list[tuple[str, ...]] = [("blue/p2pnet", "blue"), ("sys/p2pnet",)]
    made = {one[0]: await world.install(*one) for one in (names if nearer_first else names[::-1])}
    await world.pass_s(TURN_S)
    whole, near = made["sys/p2pnet"], made["blue/p2pnet"]
    assert world.serving("blue", whole, near) == [False, True]
    assert world.serving("green", whole) == [True]


async def test_when_one_dies_the_other_follows_within_a_bound_and_gives_way_when_it_returns(
    world: Installations,
) -> None:
    whole, _ = await world.install("sys/p2pnet"), await world.install("blue/p2pnet", "blue")
    changed: list[float] = []
    whole.on_change = lambda: changed.append(world.clock.now)
    await world.pass_s(300)
    assert world.serving("blue", whole) == [False]
    del world.alive["blue/p2pnet"]
    died = world.clock.now
    changed.clear()
    await world.pass_s(CLAIM_S - 2 * RENEW_S)
    assert world.serving("blue", whole) == [False], "it may only be slow"
    await world.pass_s(2 * RENEW_S + TURN_S)
    assert world.serving("blue", whole) == [True]
    assert len(changed) == 1
    assert changed[0] - died <= CLAIM_S + TURN_S
    near = await world.install("blue/p2pnet", "blue")
    await world.pass_s(TURN_S)
    assert world.serving("blue", whole, near) == [False, True]


async def test_when_who_serves_the_cluster_dies_others_go_on(world: Installations) -> None:
    await world.install("sys/p2pnet")
    near = await world.install("blue/p2pnet", "blue")
    del world.alive["sys/p2pnet"]
    await world.pass_s(600)
    assert world.serving("blue", near) == [True]


@pytest.mark.parametrize("namespaces", [(), ("blue",)])
async def test_of_two_with_the_same_reach_the_first_serves_and_the_other_follows_it_for_good(
    world: Installations, namespaces: tuple[str, ...]
) -> None:
    first = await world.install("x/p2pnet", *namespaces)
    world.clock.now += 1
    second = await world.install("a/p2pnet", *namespaces)
    await world.pass_s(300)
    assert world.serving("blue", first, second) == [True, False]
    del world.alive["x/p2pnet"]
    await world.pass_s(CLAIM_S + 2 * TURN_S)
    assert world.serving("blue", second) == [True]
    again = await world.install("x/p2pnet", *namespaces)
    await world.pass_s(TURN_S)
    assert world.serving("blue", again, second) == [False, True], "who was away stands behind"


async def test_a_restart_changes_nothing(world: Installations) -> None:
    await world.install("x/p2pnet")
    world.clock.now += 1
    second = await world.install("a/p2pnet")
    await world.pass_s(30)
    first = await world.install("x/p2pnet")
    await world.pass_s(30)
    assert world.serving("blue", first, second) == [True, False]


async def test_who_ends_in_order_is_followed_sooner_and_a_restart_is_no_end(world: Installations) -> None:
    whole, near = await world.install("sys/p2pnet"), await world.install("blue/p2pnet", "blue")
    await world.pass_s(30)
    del world.alive["blue/p2pnet"]
    await near.leave()
    await world.pass_s(TURN_S)
    assert world.serving("blue", whole) == [False]
    again = await world.install("blue/p2pnet", "blue")
    await world.pass_s(CLAIM_S)
    assert world.serving("blue", whole, again) == [False, True]
    del world.alive["blue/p2pnet"]
    await again.leave()
    await world.pass_s(3 * TURN_S)
    assert world.serving("blue", whole) == [True]


async def test_a_restart_writes_nothing_while_the_claim_is_fresh(world: Installations) -> None:
    await world.install("sys/p2pnet")
    before = len(world.api.writes)
    for _ in range(5):
        world.clock.now += 3
        await world.install("sys/p2pnet")
    assert len(world.api.writes) == before
    world.clock.now += 10
    await world.install("sys/p2pnet")
    assert len(world.api.writes) == before + 1


async def test_at_rest_a_claim_is_written_three_times_a_minute_and_others_are_read_six_times(
    world: Installations,
) -> None:
    await world.install("sys/p2pnet")
    await world.pass_s(60)
    before = (len(world.api.writes), world.api.reads)
    await world.pass_s(600)
    assert (len(world.api.writes) - before[0], world.api.reads - before[1]) == (30, 60)


async def test_who_has_not_seen_the_claims_for_long_does_nothing_until_it_has(world: Installations) -> None:
    whole = await world.install("sys/p2pnet")
    world.clock.now += CLAIM_S
    with pytest.raises(BusyError, match="not known"):
        whole.holder("blue")
    await whole.turn()
    assert whole.holder("blue") is None


async def test_without_the_right_to_claims_it_serves_as_before(world: Installations) -> None:
    world.api.fault = lambda _verb, kind, _name: ForbiddenError(403, "Forbidden", "no") if kind == LEASE else None
    whole = await world.install("sys/p2pnet")
    world.clock.now += 10 * CLAIM_S
    assert whole.holder("blue") is None


async def test_a_claim_that_another_was_quicker_to_write_is_its_own(world: Installations) -> None:
    world.api.fault = lambda _verb, kind, _name: ConflictError(409, "AlreadyExists", "no") if kind == LEASE else None
    near = await world.install("a/p2pnet", "blue")
    world.api.fault = lambda *_: None
    other = await world.install("b/p2pnet", "blue")
    await world.pass_s(TURN_S)
    assert world.serving("blue", near, other) == [False, True]


async def test_a_lease_that_names_nobody_is_taken(world: Installations) -> None:
    near = await world.install("a/p2pnet", "blue")
    world.api.one_in(LEASE, "blue", "p2pnet-operator-namespace")["spec"]["holderIdentity"] = None
    await world.pass_s(30)
    assert near.holder("blue") is None
    assert world.api.one_in(LEASE, "blue", "p2pnet-operator-namespace")["spec"]["holderIdentity"] == "a/p2pnet"


async def test_of_a_resource_that_another_serves_is_told_once_by_whom_and_nothing_else_is_done(
    world: Installations,
) -> None:
    whole = await world.install("sys/p2pnet")
    await world.install("blue/p2pnet", "blue")
    await world.pass_s(TURN_S)
    done: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        done.append(key)
        return None

    guarded = whole.exclusive(Controller(SUBNET, (), "", reconcile), EventRecorder(world.api, SUBNET))
    for namespace in ("blue", "green"):
        world.api.put(SUBNET, namespace, {"metadata": {"name": "demo"}})
    key = Key(SUBNET, "blue", "demo")
    for _ in range(3):
        assert await guarded.reconcile(key) == claims.LEFT_ALONE_S
    assert not done
    [told] = world.api.all(EVENT, "blue")
    assert (told["reason"], told["type"]) == ("LeftAlone", "Normal")
    for words in ("blue/p2pnet", "sys/p2pnet", "Lease p2pnet-operator-namespace"):
        assert words in told["message"]
    await guarded.reconcile(Key(SUBNET, "green", "demo"))
    assert done == [Key(SUBNET, "green", "demo")]
    del world.api.objects[(SUBNET, "blue", "demo")]
    assert await guarded.reconcile(key) is None


one_claim = st.builds(
    OperatorClaim, st.sampled_from([CLUSTER, NAMESPACE]), st.sampled_from(["blue", "green"]), st.sampled_from(HOLDERS),
    st.sampled_from(["1", "2", "3"]), st.none(), st.just(CLAIM_S), st.just("1"),
)  # fmt: skip


@given(st.lists(one_claim, max_size=6, unique_by=lambda one: (one.reach, one.namespace)))
def test_whoever_has_claimed_a_namespace_or_the_cluster_exactly_one_of_them_serves_it(
    found: list[OperatorClaim],
) -> None:
    near = {one.holder for one in found if one.reach == NAMESPACE and one.namespace == "blue"}
    whole = {one.holder for one in found if one.reach == CLUSTER}
    acting = {(me, NAMESPACE) for me in near if holder_of("blue", found, me, reach=NAMESPACE) is None}
    acting |= {(me, CLUSTER) for me in whole if holder_of("blue", found, me, reach=CLUSTER) is None}
    if near:
        assert {me for me, _ in acting} == near
    elif whole:
        assert len(acting) == 1
