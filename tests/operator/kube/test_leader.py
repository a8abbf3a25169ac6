"""One replica acts, another follows when it falls silent, and a holder that slept too long writes nothing."""

import pytest
from tests.operator.kit import NOW, Api

from p2pnet.operator.kube.api import LEASE, ConflictError
from p2pnet.operator.kube.leader import LEASE_S, Leadership, LeadershipLostError, LeaseAction, SeenLease, decide


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lease(holder: str | None, version: str = "1") -> dict[str, object]:
    return {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}}


def test_a_lease_is_taken_renewed_or_waited_for() -> None:
    assert decide(None, "a", None, 0) is LeaseAction.TAKE
    assert decide(lease(None), "a", None, 0) is LeaseAction.TAKE
    assert decide(lease("a"), "a", None, 0) is LeaseAction.RENEW
    assert decide(lease("b"), "a", None, 1e9) is LeaseAction.WAIT, "nobody knows yet how long it has been silent"
    assert decide(lease("b", "2"), "a", SeenLease("1", 0), 1e9) is LeaseAction.WAIT, "it has just been renewed"
    assert decide(lease("b"), "a", SeenLease("1", 0), LEASE_S - 1) is LeaseAction.WAIT
    assert decide(lease("b"), "a", SeenLease("1", 0), LEASE_S) is LeaseAction.TAKE


async def test_a_follower_takes_over_from_a_silent_leader_and_not_from_one_that_renews() -> None:
    clock, api = Clock(), Api(lambda: NOW)
    first, second = Leadership(api, "ns", "one", clock=clock), Leadership(api, "ns", "two", clock=clock)
    assert await first.step()
    for _ in range(20):
        clock.now += 2
        assert await first.step()
        assert not await second.step()
    silent_since = clock.now
    while not await second.step():
        clock.now += 2
    assert LEASE_S <= clock.now - silent_since <= 20
    with pytest.raises(LeadershipLostError):
        first.guard()
    assert not await first.step()
    second.guard()


async def test_a_leader_that_was_stopped_writes_nothing_when_it_continues() -> None:
    clock = Clock()
    leadership = Leadership(Api(lambda: NOW), "ns", "one", clock=clock)
    with pytest.raises(LeadershipLostError):
        leadership.guard()
    await leadership.step()
    leadership.guard()
    clock.now += 60
    with pytest.raises(LeadershipLostError):
        leadership.guard()


async def test_of_two_replicas_that_take_the_lease_at_once_one_gets_it() -> None:
    api = Api(lambda: NOW)
    await api.create(LEASE, "ns", {"metadata": {"name": "p2pnet-operator"}, "spec": {}})
    stale = await api.get(LEASE, "ns", "p2pnet-operator")
    assert await Leadership(api, "ns", "one").step()

    async def read_before(*_: object) -> object:
        return stale

    api.get = read_before  # type: ignore[assignment,method-assign]
    with pytest.raises(ConflictError):
        await Leadership(api, "ns", "two").step()


async def test_a_lease_given_back_is_free_at_once() -> None:
    api = Api(lambda: NOW)
    first, second = Leadership(api, "ns", "one"), Leadership(api, "ns", "two")
    await first.step()
    assert not await second.step()
    await first.release()
    assert await second.step()


async def test_a_leader_renews_without_reading_until_somebody_else_has_written() -> None:
    clock, api, read = Clock(), Api(lambda: NOW), []
    get = api.get

    async def counted(*what: object) -> object:
        read.append(what)
        return await get(*what)

    api.get = counted  # type: ignore[assignment,method-assign]
    leadership = Leadership(api, "ns", "one", clock=clock)
    for _ in range(15):
        assert await leadership.step()
        clock.now += 2
    assert len(read) == 1, "to take it"
    await api.patch(LEASE, "ns", "p2pnet-operator", {"metadata": {"labels": {"touched": "by-hand"}}})
    with pytest.raises(ConflictError):
        await leadership.step()
    assert await leadership.step(), "the next step reads it, and it is ours still"
    assert len(read) == 2
    await api.patch(LEASE, "ns", "p2pnet-operator", {"spec": {"holderIdentity": "two"}})
    clock.now += 2
    with pytest.raises(ConflictError):
        await leadership.step()
    assert not await leadership.step()
