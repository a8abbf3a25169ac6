"""An API server that misbehaves: whatever it does to the operator, Subnets become what they should be, once."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.control import Control, Twin
from tests.cluster.faults import Busy, Conflicts, Gone, Hangs, Jumbled, Lost, MidLine, Refuses, Silent
from tests.cluster.kit import until
from tests.cluster.process import Operator
from tests.cluster.proxy import Fault, Proxy, uid_required
from tests.cluster.witness import Witness, until_right

WITHIN_S = 300.0

FAULTS: dict[str, Callable[[random.Random], Fault]] = {
    "watches that end with 410": lambda chance: Gone(0.3, chance),
    "watches cut in the middle of a line": lambda chance: MidLine(0.3, chance),
    "events twice and in any order": Jumbled,
    "429 with Retry-After": lambda chance: Busy(0.05, 1, chance),
    "409 on every third write": lambda _: Conflicts(3),
    "a third of the writes unanswered": lambda chance: Lost(0.3, chance, silent=0.3),
}


@contextlib.contextmanager
def served(
    control: Control, *faults: Fault, answer_s: float = 2.0, **settings: str
) -> Iterator[tuple[Proxy, Operator, Twin, Witness]]:
    """A Subnet, about to be made through a proxy with these faults; everything about it is checked at the end.

    An answer that never comes is missed after `answer_s`, sooner than users' operators miss it.
    """
    values = {"kube.client.ANSWER_S": answer_s}
    with (
        control.place() as place,
        control.proxy(*faults) as proxy,
        control.operator(proxy, warm=True, values=values, watch_namespaces=place.name, **settings) as operator,
    ):
        demo = place.subnet("demo", {"nodes": 3})
        with Witness.of(demo) as seen:
            yield proxy, operator, demo, seen
        assert operator.running, "it lives on"
        assert operator.starts == 1
        assert all(uid_required(ask) for ask in proxy.asks if ask.verb == "delete")
        assert len(seen.authorities) == 1
        assert not seen.strangers


def up_and_down(demo: Twin, seen: Witness) -> None:
    demo.until_ready(3, WITHIN_S)
    first = demo.uids()
    demo.edit(nodes=6)
    demo.until_ready(6, WITHIN_S)
    demo.edit(nodes=4)
    demo.until_ready(4, WITHIN_S)
    until_right(demo, 4)
    assert first.items() <= demo.uids().items()
    assert {name for name, uids in seen.made.items() if len(uids) > 1} == set(), "nobody was made twice"


def test_it_converges_with_two_faults_of_many(control: Control, chance: random.Random) -> None:
    names = [chance.choice(list(FAULTS)[:3]), chance.choice(list(FAULTS)[3:])]
    print(f"faults: {names}")
    with served(control, *(FAULTS[name](chance) for name in names)) as (_, _, demo, _):
        demo.until_ready(3, WITHIN_S)
        until_right(demo, 3)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_it_converges_with(control: Control, chance: random.Random, fault: str) -> None:
    with served(control, FAULTS[fault](chance)) as (_, _, demo, seen):
        up_and_down(demo, seen)


@pytest.mark.soak
def test_it_converges_with_all_of_them_at_once(control: Control, chance: random.Random) -> None:
    for _ in range(20):
        faults = [make(chance) for make in FAULTS.values()]
        with served(control, *faults) as (_, _, demo, seen):
            up_and_down(demo, seen)


def test_who_is_told_to_wait_waits(control: Control, chance: random.Random) -> None:
    busy = Busy(0.1, 2, chance, times=4)
    with served(control, busy) as (proxy, _, demo, _):
        demo.until_ready(3, WITHIN_S)
        looks = [ask.at for ask in proxy.asks if (ask.plural, ask.verb, ask.name) == ("subnets", "get", "demo")]
        told = [ask.at for ask in busy.told if ask.name == "demo" or (ask.changes and ask.plural != "events")]
        assert not [(at, look) for at in told for look in looks if at < look < at + 1.9], (
            "nothing is begun before its time"
        )


@pytest.mark.parametrize("inactivity", ["2", pytest.param("", marks=pytest.mark.soak)])
def test_a_watch_that_fell_silent_is_noticed(control: Control, inactivity: str) -> None:
    silent = Silent(on=False)
    values = {"handlers.SILENCE_S": float(inactivity)} if inactivity else {}
    with (
        control.place() as place,
        control.proxy(silent) as proxy,
        control.operator(proxy, warm=True, values=values, watch_namespaces=place.name) as operator,
    ):
        demo = place.subnet("demo", {"nodes": 2})
        demo.until_ready(2)
        silent.on = True
        demo.edit(nodes=3)
        time.sleep(0.5)
        silent.on = False  # streams that have lost something stay silent
        demo.until_ready(3, WITHIN_S)
        until_right(demo, 3)
        assert operator.starts == 1


@pytest.mark.parametrize("seconds", [3.0, pytest.param(120.0, marks=pytest.mark.soak)])
@pytest.mark.parametrize("how", ["refused", "500"])
def test_what_was_asked_during_an_outage_is_done_soon_after_it(control: Control, how: str, seconds: float) -> None:
    with served(control) as (proxy, _, demo, _):
        demo.until_ready(3)
        broken = Refuses(500, "InternalError")
        demo.edit(nodes=5)  # it has just begun when it happens
        if how == "refused":
            control.inside.do(proxy.refuse())
        else:
            proxy.faults = [broken]
        time.sleep(seconds / 2)
        demo.place.delete("pods", "demo-node-1")
        demo.annotate("seen", "later")
        time.sleep(seconds / 2)
        if how == "refused":
            control.inside.do(proxy.listen())
        else:
            proxy.faults = []
        demo.until_ready(5, WITHIN_S)
        until_right(demo, 5)


def test_an_api_server_that_dies_and_comes_back_finds_nothing_lost(control: Control) -> None:
    with served(control) as (_, _, demo, _):
        demo.until_ready(3)
        demo.edit(nodes=7)
        control.cluster.script("api", "down")
        time.sleep(2)
        control.cluster.script("api", "up")
        demo.until_ready(7, WITHIN_S)
        until_right(demo, 7)


@pytest.mark.soak
@pytest.mark.parametrize("status", [410, 404])
def test_it_is_never_alive_and_deaf(control: Control, status: int) -> None:
    """What kopf takes for the end must be the end of the process, for somebody to start another."""
    refuses = Refuses(status, "Expired", lambda ask: (ask.verb, ask.plural) == ("watch", "pods"))
    refuses.on = False
    gone = Gone(0.1, random.Random(1))
    with (
        control.place() as place,
        control.proxy(refuses, gone) as proxy,
        control.operator(proxy, warm=True, watch_namespaces=place.name) as operator,
    ):
        demo = place.subnet("demo", {"nodes": 3})
        demo.until_ready(3)
        refuses.on = True
        assert operator.wait() != 0
        refuses.on = False
        demo.edit(nodes=5)
        with operator.supervised():
            demo.until_ready(5)
        until_right(demo, 5)


RIGHTS = [
    ("create", "pods"), ("patch", "subnets"), ("list", "secrets"), ("delete", "pods"), ("get", "subnets"), ("list", "pods"),
    ("create", "secrets"), ("patch", "secrets"), ("patch", "configmaps"), ("list", "configmaps"), ("list", "services"),
    ("patch", "services"), ("list", "networkpolicies"), ("patch", "networkpolicies"), ("list", "poddisruptionbudgets"),
    ("patch", "poddisruptionbudgets"), ("create", "events"), ("delete", "secrets"), ("watch", "pods"), ("watch", "subnets"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "plural"),
    [pytest.param(*right, marks=[pytest.mark.soak] if place > 2 else []) for place, right in enumerate(RIGHTS)],
)
def test_a_right_that_is_missing_for_a_while_is_told_and_ends_nothing(control: Control, verb: str, plural: str) -> None:
    message = f'{plural} is forbidden: User "p2pnet" cannot {verb} resource "{plural}"'
    refuses = Refuses(403, "Forbidden", lambda ask: (ask.verb, ask.plural) == (verb, plural), message)
    refuses.on = False
    with served(control, refuses, metrics_port="18081") as (_, operator, demo, _):
        demo.until_ready(3)
        refuses.on = True
        demo.edit(nodes=2 if verb == "delete" else 5)
        demo.place.delete("networkpolicies", "demo")
        if refused_writes(verb, plural):
            until(lambda: told(demo) == ("Forbidden", verb), "the condition names it", every_s=0.1)
        if verb != "watch":
            until(lambda: metric(control, verb, plural), "the metric names it", every_s=0.2)
        demo.edit(nodes=4)
        time.sleep(1)
        refuses.on = False
        demo.until_ready(4, WITHIN_S)
        until_right(demo, 4)
        assert refuses.refused
        assert operator.starts == 1


def refused_writes(verb: str, plural: str) -> bool:
    """What stops a write can be told; what stops a look or the telling itself cannot."""
    return verb in ("create", "delete") and plural == "pods"


def told(demo: Twin) -> tuple[str, str]:
    for one in (demo.thing().get("status") or {}).get("conditions", []):
        if one["type"] == "Degraded" and one["status"] == "True":
            return one["reason"], one["message"].partition("cannot ")[2].partition(" ")[0]
    return "", ""


def metric(control: Control, verb: str, plural: str) -> bool:
    method = {"create": "post", "list": "get"}.get(verb, verb)
    page = control.inside.do(control.server.text("http://127.0.0.1:18081/metrics"))
    wanted = [f'verb="{method}"', f'resource="{plural}"', 'code="403"']
    return any(
        line.startswith("p2pnet_api_requests_total") and all(part in line for part in wanted)
        for line in page.split("\n")
    )


def test_a_look_that_hangs_shows_and_holds_up_nothing_else(control: Control) -> None:
    hangs = Hangs(lambda ask: (ask.verb, ask.name) == ("get", "demo"))
    hangs.on = False
    ports = {"health_port": "18080", "metrics_port": "18082"}
    with served(control, hangs, answer_s=4 * WITHIN_S, **ports) as (_, _, demo, _):
        demo.until_ready(3)
        other = demo.place.subnet("other", {"nodes": 1})
        other.until_ready(1)
        hangs.on = True
        demo.edit(nodes=4)
        until(lambda: hangs.waiting, "it hangs", every_s=0.02)
        for _ in range(3):
            control.inside.do(control.server.text("http://127.0.0.1:18080/healthz"))
            page = control.inside.do(control.server.text("http://127.0.0.1:18082/metrics"))
            begun = f'p2pnet_reconcile_in_progress_start_time_seconds{{kind="Subnet",name="demo",namespace="{demo.place.name}"}}'
            assert begun in page
        other.edit(nodes=2)
        other.until_ready(2)
        assert hangs.waiting, "it has hung all the time"
        hangs.on = False
        demo.until_ready(4)
