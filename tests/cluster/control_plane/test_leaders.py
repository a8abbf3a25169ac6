"""One of several operators acts: another follows when it dies or sleeps, and two that act at once do no harm.

So it is with replicas of one installation, which share a Lease, and with two installations, which claim namespaces.
"""

import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.cluster.control import Control, Place, Twin
from tests.cluster.kit import until
from tests.cluster.process import Operator
from tests.cluster.proxy import Proxy, uid_required
from tests.cluster.witness import Witness, check_right

QUICK = {"kube.leader.LEASE_S": 8, "kube.leader.RENEW_WITHIN_S": 6, "kube.leader.RETRY_S": 0.4}
"""A lease that runs out while a test waits, but not while its holder waits for a busy machine."""
REAL = {"kube.leader.LEASE_S": 15, "kube.leader.RENEW_WITHIN_S": 10, "kube.leader.RETRY_S": 2}
FOLLOWS_S = 120.0
"""For the other to lead after the end of one, on a busy machine."""

LEASES = pytest.mark.parametrize("lease", [QUICK, pytest.param(REAL, marks=pytest.mark.soak)], ids=["quick", "real"])


CLAIMS = {"kube.claims.CLAIM_S": 10, "kube.claims.RENEW_S": 1, "kube.claims.TURN_S": 0.5, "kube.claims.LEFT_ALONE_S": 1}
"""Claims of namespaces that run out while a test waits, but not while their holder waits for a busy machine."""


def holder(place: Place) -> str:
    lease = place.get("leases", "p2pnet-operator") or {"spec": {}}
    return str(lease["spec"].get("holderIdentity") or "")


def settings(place: Place, name: str) -> dict[str, str]:
    return {
        "watch_namespaces": place.name, "pod_namespace": place.name, "pod_name": name, "leader_election": "true",
    }  # fmt: skip


def leader(place: Place) -> str:
    return until(lambda: holder(place), "somebody leads", every_s=0.1)


@LEASES
def test_when_the_leader_is_killed_the_other_follows_and_goes_on(control: Control, lease: dict[str, float]) -> None:
    with (
        control.place() as place,
        control.operator(warm=True, values=lease, **settings(place, "one")) as one,
    ):
        assert leader(place) == "one"
        with control.operator(warm=True, values=lease, **settings(place, "two")) as two:
            demo = place.subnet("demo", {"nodes": 4})
            with Witness.of(demo) as seen:
                demo.until_ready(4)
                demo.edit(nodes=9)
                until(lambda: len(demo.uids()) > 5, "it has begun", every_s=0.01)
                one.kill()
                until(lambda: holder(place) == "two", "the other follows", FOLLOWS_S, every_s=0.1)
                demo.until_ready(9)
                demo.edit(nodes=2)
                demo.until_ready(2)
            check_right(demo, 2)
            assert len(seen.authorities) == 1
            one.start()
            time.sleep(1)
            assert holder(place) == "two", "who comes back waits"
            assert one.running
            assert two.terminate() == 0
            assert holder(place) != "two", "it has given the lease back"
            until(lambda: holder(place) == "one", "the lease is taken by the other", every_s=0.1)


@LEASES
def test_a_leader_that_slept_ends_before_its_next_write(control: Control, lease: dict[str, float]) -> None:
    with (
        control.place() as place,
        control.proxy() as proxy,
        control.operator(proxy, warm=True, values=lease, **settings(place, "one")) as one,
    ):
        assert leader(place) == "one"
        with control.operator(warm=True, values=lease, **settings(place, "two")) as two:
            demo = place.subnet("demo", {"nodes": 6})
            demo.until_ready(6)
            demo.edit(nodes=12)
            until(lambda: len(demo.uids()) > 7, "it is in the middle of it", every_s=0.005)
            one.signal(signal.SIGSTOP)
            until(lambda: holder(place) == "two", "the other follows", FOLLOWS_S, every_s=0.1)
            demo.until_ready(12)
            demo.edit(nodes=3)
            demo.until_ready(3)
            asked = len(proxy.asks)
            one.signal(signal.SIGCONT)
            assert one.wait() == 1, "it ends, for somebody to start it again"
            late = [str(ask) for ask in proxy.changes(asked, besides=())]
            assert not late
            check_right(demo, 3)
            assert two.running
            assert holder(place) == "two"


def serve_twice(
    control: Control, place: Place, few: int, many: int
) -> tuple[Twin, Witness, list[Proxy], list[Operator]]:
    """Two operators that both think they lead bring a Subnet about, up, down, and to another authority."""
    with (
        control.proxy() as left,
        control.proxy() as right,
        control.operator(left, warm=True, watch_namespaces=place.name) as one,
        control.operator(right, warm=True, watch_namespaces=place.name) as two,
    ):
        demo = place.subnet("demo", {"nodes": few})
        with Witness.of(demo) as seen:
            for nodes in (few, many, few):
                demo.edit(nodes=nodes)
                demo.until_ready(nodes)
            demo.annotate("force-replace", "once")

            def replaced() -> bool:
                authority = (demo.thing().get("status") or {}).get("authority") or {}
                return bool((authority.get("replaced"), authority.get("phase")) == ("once", "Steady"))

            until(replaced, "the authority is replaced", every_s=0.1)
            demo.until_ready(few)
            changed = [proxy.changes() for proxy in (left, right)]
            assert all(changed), "both have written"
            until(lambda: _quiet([left, right]), "they come to rest", every_s=0.1)
        return demo, seen, [left, right], [one, two]


def _quiet(proxies: list[Proxy]) -> bool:
    return time.monotonic() - max(proxy.changes()[-1].at for proxy in proxies) > 2


@pytest.mark.parametrize(("few", "many"), [(3, 8), pytest.param(10, 30, marks=pytest.mark.soak)])
def test_two_that_act_at_once_make_exactly_one_of_everything(control: Control, few: int, many: int) -> None:
    with control.place() as place:
        demo, seen, proxies, operators = serve_twice(control, place, few, many)
        check_right(demo, few)
        assert len(seen.authorities) == 2, "one before, one after"
        assert not seen.strangers
        for name, uids in seen.made.items():
            assert len(uids) == 1, f"{name} was made twice in vain"
        assert all(uid_required(ask) for proxy in proxies for ask in proxy.asks if ask.verb == "delete")
        assert all(operator.codes == [-signal.SIGKILL] for operator in operators), "neither ended by itself"


def test_of_two_installations_the_nearer_serves_a_namespace_and_when_it_dies_the_other_until_it_returns(
    control: Control,
) -> None:
    with (
        control.place("claimed") as place, control.place("free") as free, control.proxy() as left, control.proxy() as right,
        control.operator(left, warm=True, values=CLAIMS, start=False, installation="sys/p2pnet",
                         pod_namespace=free.name) as whole,
        control.operator(right, warm=True, values=CLAIMS, start=False, installation=f"{place.name}/p2pnet",
                         watch_namespaces=place.name) as near,
    ):  # fmt: skip
        control.inside.do(control.server.delete("leases", "default", "p2pnet-operator-cluster"))  # of an earlier test
        whole.start()
        demo = place.subnet("demo", {"nodes": 2})
        demo.until_ready(2)
        with Witness.of(demo) as seen:
            for number, nodes in enumerate((4, 3), 1):
                near.start()
                until_told(place, times=number)
                begun = len(left.asks)
                demo.edit(nodes=nodes)
                demo.until_ready(nodes)
                mine = [
                    str(ask) for ask in left.changes(begun) if f"/{place.name}/" in ask.path and ask.plural != "events"
                ]
                assert not mine, "who serves the cluster leaves it alone"
                free.subnet(f"demo-{nodes}", {"nodes": 1}).until_ready(1)
                near.kill()
                begun, until_then = len(left.asks), claimed_until(place)
                demo.edit(nodes=nodes + 1)
                demo.until_ready(nodes + 1)
                assert datetime.now(UTC) >= until_then, "not before the claim had run out"
                assert left.changes(begun), "who serves the cluster follows"
        check_right(demo, 4)
        assert len(seen.authorities) <= 1, "nobody makes another"
        assert not seen.strangers
        assert whole.running
        assert not [ask for ask in right.changes() if f"/{place.name}/" not in ask.path]


def claimed_until(place: Place) -> datetime:
    """When the claim of the namespace runs out, if nobody renews it."""
    lease = place.get("leases", "p2pnet-operator-namespace")
    assert lease is not None
    return datetime.fromisoformat(lease["spec"]["renewTime"]) + timedelta(seconds=CLAIMS["kube.claims.CLAIM_S"])


def until_told(place: Place, *, times: int) -> None:
    """Wait until as many events say by whom its Subnet is served."""

    def told() -> bool:
        return len([one for one in place.find("events") if one["reason"] == "LeftAlone"]) == times

    until(told, f"it is told {times} times", every_s=0.1)
    by = f"served by the operator {place.name}/p2pnet, which claims this namespace"
    assert all(by in one["message"] for one in place.find("events") if one["reason"] == "LeftAlone")
