"""Injections on a real API server: what it refuses, and that each makes one run, whenever the operator is killed."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.control import Control, Place
from tests.cluster.faults import AfterChanges
from tests.cluster.kit import conditions, until
from tests.cluster.process import Operator
from tests.cluster.server import RefusedError, Thing

OVER_S = 600.0
"""For an Injection to end: one after the other, the operator killed again and again, on a busy machine."""
ENDLESS_S = 3600.0
"""Of a run that lasts until it is ended."""
QUICK = {"injection.plan.FOLLOW_S": 0.3, "injection.plan.LOOK_S": 0.3, "injection.plan.QUEUED_S": 0.3}
"""What a test of ten seconds cannot wait for, shortened."""


@pytest.fixture
def labs(control: Control) -> Iterator[Control]:
    """The control plane, whose labs are as before afterwards: a run that was left open, its Subnet gone, is over then."""
    runs = control.labs.runs
    before = runs.takes_s
    try:
        yield control
    finally:
        runs.takes_s, runs.on_begin = before, lambda: None
        runs.finish()


def over(place: Place, *names: str) -> list[Thing]:
    """Wait until these have ended, in whatever way."""

    def ended() -> list[Thing] | None:
        found = [place.get("injections", name) for name in names]
        there = [one for one in found if one is not None and conditions(one).get("Finished") == "True"]
        return there if len(there) == len(names) else None

    try:
        return until(ended, f"{', '.join(names)} are over", OVER_S, every_s=0.05)
    except AssertionError:
        print(json.dumps([(place.get("injections", name) or {}).get("status") for name in names], indent=1))
        raise


def reason(thing: Thing | None) -> str:
    """Of an Injection, as its conditions have it."""
    found = ((thing or {}).get("status") or {}).get("conditions") or [{}]
    return str(found[0].get("reason", ""))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"subnet": "Demo"}, "spec.subnet"),
    ({"subnet": None}, "spec.subnet"),
    ({"payload": {"size": "64KiB"}}, "payload"),
    ({"deadline": "60s"}, "deadline"),
    ({"size": "64"}, "spec.size"),
    ({"size": "0B"}, "0B: from 1B to 128Mi"),
    ({"size": "1Gi"}, "1Gi: from 1B to 128Mi"),
    ({"size": "1KiB", "filesFrom": {"configMap": "x"}}, "not both"),
    ({"filesFrom": {}}, "spec.filesFrom.configMap"),
    ({"filesFrom": {"configMap": "x", "keys": ["a"] * 17}}, "spec.filesFrom.keys"),
    ({"count": 0}, "spec.count"),
    ({"count": 100_001}, "spec.count"),
    ({"rate": "0/s"}, "above zero"),
    ({"rate": "2"}, "'2' is no rate: write a number per time"),
    ({"rate": "2/s, then 4/s"}, "or stages"),
    ({"rate": " 2/s"}, "' 2/s' is no rate: write a number per time"),
    ({"rate": "2/s\n"}, "no rate: write a number per time"),
    ({"rate": "2/s for 0s"}, "takes no time: write more than zero"),
    ({"rate": "2/s to 3/s over 0.0 ms, then 2/s"}, "takes no time: write more than zero"),
    ({"rate": "0/s for 10s"}, "is no rate: write a number per time above zero"),
    ({"rate": "2/s for 30s, then 0/s"}, "would go on without publishing"),
    ({"rate": "2/s for 30s then 0.0 /m"}, "would go on without publishing"),
    ({"expect": ["p95\xa0<= 8ms"]}, "is no expectation"),
    ({"expect": ["p95\v<= 8ms"]}, "is no expectation"),
    ({"within": "1\vh"}, "is no duration"),
    ({"within": "0ms"}, "above zero and at most 1d"),
    ({"within": "2d"}, "above zero and at most 1d"),
    ({"ttl": "9s"}, "9s: from 10s to 3650d"),
    ({"client": "Not a client"}, "spec.client"),
    ({"seed": -1}, "spec.seed"),
    ({"expect": "reach >= 99%"}, "spec.expect"),
    ({"expect": ["p95 <= 800"]}, "'p95 <= 800' is no expectation"),
    ({"expect": ["reach >= 101%"]}, "'reach >= 101%' is no expectation"),
    ({"expect": ["bytes <= 2 within 5s"]}, "write a metric"),
    ({"expect": ["lost_publishes == 0"]}, "write a metric"),
    ({"expect": ["p95 <= 1s"] * 33}, "spec.expect"),
]
TAKEN: list[dict[str, Any]] = [
    {}, {"size": "1MiB", "count": 3, "rate": "30/m", "from": "all", "client": "blob", "within": "1d", "seed": 0, "ttl": "10s"},
    {"expect": ["reach == 100% within 10s", " p95<=800ms ", "hops <= 3within 1s", "rate >= 0.5/s", "throughput >= 1 KiB/s"]},
    {"rate": "0/s to 0.5/s over 10s"}, {"rate": "10/s for 0.5s, then 0/s for 10s"}, {"rate": "2/s for 10s, then 10/s"},
    {"filesFrom": {"configMap": "photos", "keys": ["a.jpg"]}, "rate": "2/s for 30s, then 2/s to 20/s over 1m, then 20/s"},
]  # fmt: skip


def test_the_api_server_alone_refuses_what_cannot_be_and_every_change(control: Control) -> None:
    with control.place() as place:
        path = f"/apis/p2pnet.io/v1alpha1/namespaces/{place.name}/injections?fieldValidation=Strict"

        def create(name: str, spec: dict[str, Any]) -> None:
            body = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Injection", "metadata": {"name": name}}
            whole = {key: value for key, value in {"subnet": "demo", **spec}.items() if value is not None}
            control.inside.do(control.server.ask("POST", path, {**body, "spec": whole}))

        for number, (spec, why) in enumerate(REFUSED):
            with pytest.raises(RefusedError) as refused:
                create(f"wrong-{number}", spec)
            assert why in str(refused.value), spec
        for number, spec in enumerate(TAKEN):
            create(f"right-{number}", spec)
        for change in ({"count": 2}, {"subnet": "other"}, {"ttl": "1h"}, {"size": "1KiB"}):
            with pytest.raises(RefusedError, match="an Injection cannot be changed"):
                place.patch("injections", "right-0", {"spec": change})
        with pytest.raises(RefusedError, match=r"metadata\.name"):
            create("x" * 64, {})


def test_one_after_the_other_they_run_once_each_and_the_others_say_for_whom_they_wait(labs: Control) -> None:
    runs = labs.labs.runs
    runs.takes_s = ENDLESS_S
    with labs.place() as place, labs.operator(warm=True, values=QUICK, watch_namespaces=place.name):
        place.injection("early")
        until(
            lambda: reason(place.get("injections", "early")) == "SubnetNotFound",
            "it waits for its Subnet",
            every_s=0.05,
        )
        place.subnet("demo", {"nodes": 2})
        place.injection("second")
        place.create("configmaps", {"metadata": {"name": "photos"}, "data": {"a.txt": "a", "b.txt": "b"}})
        place.injection("third", filesFrom={"configMap": "photos"})
        until(lambda: reason(place.get("injections", "second")) == "Queued", "the second one waits", every_s=0.05)
        waiting = place.get("injections", "second") or {}
        assert waiting["status"]["conditions"][0]["message"] == "waits for Injection early"
        runs.takes_s = 0.3
        runs.finish()
        things = over(place, "early", "second", "third")
        for thing in things:
            assert conditions(thing) == {
                "Finished": "True",
                "Propagated": "True",
                "Failed": "False",
                "Invalid": "False",
            }
            assert len(runs.of(thing["metadata"]["uid"])) == 1
        [files] = runs.of(things[2]["metadata"]["uid"])
        assert [payload.name for payload in files.payloads] == ["a.txt", "b.txt"]
        begun = [thing["status"]["startedAt"] for thing in things]
        ended = [thing["status"]["finishedAt"] for thing in things]
        assert begun == sorted(begun)
        assert all(a <= b for a, b in zip(ended, begun[1:], strict=False)), "never two at a time"
        place.injection("wrong", **{"from": "nobody"})
        [wrong] = over(place, "wrong")
        assert conditions(wrong)["Invalid"] == "True"
        assert "there is no node 'nobody'" in wrong["status"]["conditions"][0]["message"]
        runs.takes_s = ENDLESS_S
        place.injection("late")
        until(lambda: reason(place.get("injections", "late")) == "Running", "the late one runs", every_s=0.05)
        place.delete("subnets", "demo")
        [late] = over(place, "late")
        assert (late["status"]["state"], reason(late)) == ("Invalid", "SubnetGone")


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_killed_after_every_few_changes_each_still_has_one_run(labs: Control, changes: int) -> None:
    """A change is a write of the API server; that of a lab has a test of its own."""
    names = ["one", "two", "three"]
    with (
        labs.place() as place,
        labs.proxy() as proxy,
        labs.operator(proxy, warm=True, values=QUICK, watch_namespaces=place.name) as operator,
        operator.supervised(),
    ):
        place.subnet("demo", {"nodes": 1}).until_ready(1)
        fault = AfterChanges(changes, lambda: os.kill(operator.pid, signal.SIGKILL))
        proxy.faults = [fault]
        place.create("configmaps", {"metadata": {"name": "photos"}, "data": {"a.txt": "a"}})
        for name in names:
            place.injection(name, **({"filesFrom": {"configMap": "photos"}} if name == "two" else {}))
        things = over(place, *names)
        assert fault.acted
    for thing in things:
        assert len(labs.labs.runs.of(thing["metadata"]["uid"])) == 1
        assert thing["status"]["state"] == "Propagated"


def kill_when_a_run_begins(control: Control, operator: Operator) -> None:
    def kill() -> None:
        control.labs.runs.on_begin = lambda: None
        os.kill(operator.pid, signal.SIGKILL)

    control.labs.runs.on_begin = kill


@pytest.mark.parametrize("lab_restarts", [False, True])
def test_killed_before_the_labs_answer_it_finds_the_run_or_says_that_it_may_have_begun(
    labs: Control, lab_restarts: bool
) -> None:
    with labs.place() as place, labs.operator(warm=True, values=QUICK, watch_namespaces=place.name) as operator:
        place.subnet("demo", {"nodes": 1}).until_ready(1)
        kill_when_a_run_begins(labs, operator)
        made = place.injection("smoke")
        until(lambda: not operator.running, "it is killed", every_s=0.05)
        assert (place.get("injections", "smoke") or {})["status"]["state"] == "Starting"
        if lab_restarts:
            labs.labs.runs.restart()
        operator.start()
        [thing] = over(place, "smoke")
        assert (thing["status"]["state"], reason(thing)) == (
            ("Invalid", "LabRestarted") if lab_restarts else ("Propagated", "ExpectationsMet")
        )
        assert len(labs.labs.runs.of(made["metadata"]["uid"])) == 1


def test_deleted_with_and_without_the_operator_its_run_ends_and_nothing_is_left(labs: Control) -> None:
    labs.labs.runs.takes_s = ENDLESS_S
    with labs.place() as place, labs.operator(warm=True, values=QUICK, watch_namespaces=place.name) as operator:
        place.subnet("demo", {"nodes": 1}).until_ready(1)
        for away in (False, True):
            made = place.injection("smoke")
            assert "finalizers" not in made["metadata"]
            until(lambda: reason(place.get("injections", "smoke")) == "Running", "it runs", every_s=0.05)
            assert len(labs.labs.runs.open()) == 1
            if away:
                operator.kill()
            place.delete("injections", "smoke")
            assert place.get("injections", "smoke") is None, "at once: nothing holds it"
            if away:
                operator.start()
            until(lambda: not labs.labs.runs.open(), "its run is ended", OVER_S, every_s=0.05)


def test_one_that_has_ended_stays_so_over_restarts_and_goes_when_its_ttl_is_over(labs: Control) -> None:
    with labs.place() as place, labs.operator(warm=True, values=QUICK, watch_namespaces=place.name) as operator:
        place.subnet("demo", {"nodes": 1}).until_ready(1)
        place.injection("kept")
        place.injection("gone", ttl="10s")
        kept, _ = over(place, "kept", "gone")
        operator.kill()
        labs.labs.runs.restart()
        operator.start()
        until(lambda: place.get("injections", "gone") is None, "its ttl is over", OVER_S, every_s=0.1)
        assert place.get("injections", "kept") == kept
        assert len(labs.labs.runs.of(kept["metadata"]["uid"])) == 1
