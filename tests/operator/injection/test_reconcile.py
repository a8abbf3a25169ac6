"""An Injection makes one run, whatever happens on the way, and its status says how it went."""

import asyncio
from datetime import timedelta

import pytest
from tests.operator.injection_kit import InjectionWorld
from tests.operator.kit import NAMESPACE, Killed

from p2pnet.lab_client import ProblemError
from p2pnet.model.jobs import Problem
from p2pnet.model.report import ExpectationResult, Reach, RunSummary
from p2pnet.operator.injection.context import INJECTION
from p2pnet.operator.kube.api import (
    CONFIG_MAP,
    POD,
    ApiError,
    BusyError,
    ConflictError,
    ForbiddenError,
    Object,
    ResourceKind,
    meta,
    time_text,
)
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet.context import SUBNET


async def test_an_injection_runs_and_its_status_has_verdict_and_figures() -> None:
    world = await InjectionWorld.ready()
    world.apply(size="64KiB", count=10, rate="2/s", expect=["p95 <= 800ms"])
    again = await world.reconcile()
    assert again is not None
    assert again <= 5
    assert world.status()["state"] == "Running"
    assert world.condition("Propagated") == ("Unknown", "Running")
    assert world.condition("Finished") == ("False", "Running")
    [request] = world.lab.started
    assert (request.count, request.rate, request.expect) == (10, 2.0, ["p95 <= 800ms"])
    assert [(one.name, one.size) for one in request.payloads] == [("generated-65536", 65536)]
    assert request.injection.uid == meta(world.thing())["uid"]
    world.lab.end(world.status()["run"])
    assert await world.reconcile() is None
    status = world.status()
    assert [world.condition(kind) for kind in ("Finished", "Propagated", "Failed", "Invalid")] == [
        ("True", "ExpectationsMet"), ("True", "ExpectationsMet"), ("False", "ExpectationsMet"), ("False", "ExpectationsMet")
    ]  # fmt: skip
    assert (status["state"], status["verdict"], status["shown"]) == (
        "Propagated", "pass", {"reach": "100%", "p95": "12.25 ms"},
    )  # fmt: skip
    assert world.said() == "reach 100%, p95 12.25 ms; expected: reach == 100%"
    assert status["reach"] == {"expected": 20, "delivered": 20, "ratio": 1.0}
    assert status["latencyMs"] == {"p50": 1.5, "p90": 2.0, "p95": 12.25, "p99": 30.0}, "a miss has no latency"
    assert status["expectations"] == [{"expr": "reach == 100%", "value": 100.0, "ok": True}]
    assert "progress" not in status
    assert world.events() == [("Normal", "Running"), ("Normal", "ExpectationsMet")]


async def test_a_verdict_that_meets_a_conflict_with_others_who_write_is_written_again() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    world.lab.end(world.status()["run"])
    world.api.fault = lambda *_: ConflictError(409, "Conflict", "the object has been modified")
    with pytest.raises(ConflictError):  # the queue calls again within seconds
        await world.reconcile()
    world.api.fault = lambda *_: None
    await world.reconcile()
    assert world.status()["state"] == "Propagated"


async def test_stages_of_a_rate_are_the_labs_to_read_and_to_count() -> None:
    world = await InjectionWorld.ready()
    world.apply("held", rate="2/s for 30s, then 4/s for 10s")
    await world.reconcile("held")
    world.lab.end(world.status("held")["run"])
    await world.reconcile("held")
    world.apply("counted", rate="2/s for 30s then 20/s", count=7)
    await world.reconcile("counted")
    asked = [(request.rate, request.count) for request in world.lab.started]
    assert asked == [("2/s for 30s, then 4/s for 10s", 0), ("2/s for 30s then 20/s", 7)]


async def test_a_failed_expectation_is_named_with_what_was_measured() -> None:
    world = await InjectionWorld.ready()
    world.apply(expect=["p95 <= 1ms"])
    await world.reconcile()
    missed = [ExpectationResult("p95 <= 1ms", 12.25, ok=False), ExpectationResult("reach == 100%", None, ok=False)]
    world.lab.end(world.status()["run"], "fail", expectations=missed)
    await world.reconcile()
    assert world.condition("Failed") == ("True", "ExpectationsFailed")
    assert world.condition("Propagated") == ("False", "ExpectationsFailed")
    assert world.said() == "p95 <= 1ms: 12.25ms; reach == 100%: not measured"
    assert world.events()[-1] == ("Warning", "ExpectationsFailed")


async def test_an_invalid_run_says_why_and_keeps_its_figures() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    world.lab.end(world.status()["run"], "invalid", reach=Reach(20, 3, 0.15))
    await world.reconcile()
    assert world.condition("Invalid") == ("True", "RunInvalid")
    assert world.said() == "the clock went away"
    assert world.status()["reach"]["delivered"] == 3
    assert world.status()["invalid"] == ["the clock went away"]


async def test_an_injection_that_has_ended_never_runs_again() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.until_rest("smoke")
    assert world.status()["state"] == "Propagated"
    writes = len(world.api.writes)
    world.lab.restart()
    world.start()
    for _ in range(3):
        assert await world.reconcile() is None
        world.world.now += timedelta(hours=1)
    assert len(world.lab.started) == 1
    assert len(world.api.writes) == writes


async def test_a_lost_status_is_found_again_at_the_lab() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.until_rest("smoke")
    del world.thing()["status"]
    world.start()
    await world.reconcile(times_=3)
    assert world.status()["state"] == "Propagated"
    assert len(world.lab.started) == 1


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("files", [False, True])
async def test_an_operator_killed_at_every_write_never_doubles_a_run(every: int, files: bool) -> None:
    world = await InjectionWorld.ready()
    world.api.put(CONFIG_MAP, NAMESPACE, {"metadata": {"name": "photos"}, "data": {"a.txt": "a"}})
    world.apply("first", **({"filesFrom": {"configMap": "photos"}} if files else {}))
    world.apply("second")
    kills = await world.until_rest("first", "second", every=every)
    assert kills
    assert len(world.lab.started) == 2
    assert {world.status(name)["state"] for name in ("first", "second")} == {"Propagated"}
    assert len({world.status(name)["run"] for name in ("first", "second")}) == 2


async def test_an_answer_that_is_lost_doubles_nothing_also_with_files() -> None:
    world = await InjectionWorld.ready()
    world.api.put(CONFIG_MAP, NAMESPACE, {"metadata": {"name": "photos"}, "data": {"a.txt": "a"}})
    world.apply(filesFrom={"configMap": "photos"})
    world.lab.deaf = True
    await world.reconcile()
    assert world.status()["state"] == "Starting"
    assert world.condition("Finished") == ("False", "LabUnreachable")
    world.lab.deaf = False
    world.start()
    await world.reconcile()
    assert world.status()["state"] == "Running"
    assert len(world.lab.started) == 1


async def test_a_lab_that_restarts_ends_it_invalid_instead_of_running_twice() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    world.lab.restart()
    await world.reconcile(times_=3)
    assert world.condition("Invalid") == ("True", "LabRestarted")
    assert len(world.lab.started) == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_a_lab_that_restarts_while_it_is_asked_is_never_asked_twice(begun: bool) -> None:
    world = await InjectionWorld.ready()
    world.apply()
    world.lab.deaf = begun
    world.api.kill_after = None if begun else len(world.api.writes) + 1
    try:
        await world.reconcile()
    except Killed:
        world.api.kill_after = None
    assert world.status()["state"] == "Starting"
    world.lab.restart()
    world.lab.deaf = False
    world.start()
    await world.reconcile(times_=3)
    assert world.condition("Invalid") == ("True", "LabRestarted")
    assert "may have begun" in world.said()
    assert len(world.lab.started) == int(begun)


async def test_what_the_lab_refuses_ends_invalid_in_its_words_and_a_full_queue_is_waited_for() -> None:
    world = await InjectionWorld.ready()
    world.apply("wrong", **{"from": "node-99"})
    world.lab.refusal = ProblemError(Problem("there is no node 'node-99'"), status=400)
    await world.reconcile("wrong")
    assert world.condition("Invalid", "wrong") == ("True", "Refused")
    assert world.said("wrong") == "there is no node 'node-99'"
    world.apply("later")
    world.lab.refusal = ProblemError(Problem("100 runs are waiting already"), status=429)
    await world.reconcile("later")
    assert world.condition("Finished", "later") == ("False", "LabUnreachable")
    world.lab.refusal = None
    await world.reconcile("later")
    assert world.status("later")["state"] == "Running"


async def test_a_run_that_can_never_be_asked_for_is_given_up_in_the_end() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    world.lab.refusal = ProblemError(Problem("the disk is full"), status=507)
    await world.reconcile()
    world.world.now += timedelta(minutes=11)
    await world.reconcile()
    assert world.condition("Invalid") == ("True", "NotStarted")
    assert "the disk is full" in world.said()


async def test_a_run_that_somebody_cancels_ends_invalid() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    await world.lab.cancel("", "", world.status()["run"])
    await world.reconcile()
    assert world.condition("Invalid") == ("True", "RunCancelled")


# --- waiting ---


async def test_it_waits_for_a_subnet_that_is_not_there_and_says_so() -> None:
    world = await InjectionWorld.ready()
    world.apply(subnet="later")
    assert await world.reconcile() == 2.0
    assert world.status()["state"] == "Waiting"
    assert world.condition("Propagated") == ("Unknown", "SubnetNotFound")
    assert world.said() == f"there is no Subnet later in namespace {NAMESPACE} yet"
    assert world.events() == [("Warning", "SubnetNotFound")]
    world.world.now += timedelta(minutes=10)
    writes = len(world.api.writes)
    assert await world.reconcile() == 15.0, "more rarely, when it has waited for long"
    assert len(world.api.writes) == writes


async def test_it_waits_until_the_subnet_is_ready_by_its_present_document() -> None:
    world = InjectionWorld()
    world.apply()
    await world.reconcile()
    assert world.condition("Finished") == ("False", "SubnetNotReady")
    await world.world.converge()
    world.api.edit(SUBNET, "demo", nodes=4)
    await world.reconcile()
    assert world.condition("Finished") == ("False", "SubnetNotReady"), "nothing is known of the new document yet"
    assert "edited" in world.said()
    await world.world.converge()
    await world.reconcile()
    assert world.status()["state"] == "Running"


async def test_a_paused_subnet_takes_no_new_run_and_what_is_on_goes_on() -> None:
    world = await InjectionWorld.ready()
    world.apply("before")
    await world.reconcile("before")
    world.edit_subnet(**{"p2pnet.io/paused": "true"})
    world.apply("after")
    world.lab.end(world.status("before")["run"])
    await world.reconcile("before")
    await world.reconcile("after")
    assert world.status("before")["state"] == "Propagated"
    assert world.condition("Finished", "after") == ("False", "SubnetPaused")


async def test_it_waits_while_the_lab_is_silent_before_the_run_and_gives_up_a_run_after_ten_minutes() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    world.lab.silent = True
    await world.reconcile()
    assert (world.status()["state"], world.condition("Finished")) == ("Waiting", ("False", "LabUnreachable"))
    world.lab.silent = False
    await world.reconcile()
    run = world.status()["run"]
    world.lab.silent = True
    await world.reconcile()
    assert (world.status()["state"], world.status()["run"]) == ("Running", run)
    assert world.condition("Propagated") == ("Unknown", "LabUnreachable")
    world.world.now += timedelta(minutes=9)
    world.lab.silent = False
    await world.reconcile()
    assert "silentSince" not in world.status(), "it is there again"
    world.lab.silent = True
    await world.reconcile()
    world.world.now += timedelta(minutes=11)
    await world.reconcile()
    assert world.condition("Invalid") == ("True", "LabUnreachable")
    world.lab.silent = False
    await world.subnet()
    assert not world.lab.open, "nobody waits for that run any more"


async def test_a_lab_whose_pod_is_gone_is_silent() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    world.api.remove(POD, "demo-lab")
    await world.reconcile()
    assert world.said() == "the lab's pod is not ready"


@pytest.mark.parametrize("started", [False, True])
async def test_the_end_of_the_subnet_is_its_end_too(started: bool) -> None:
    world = await InjectionWorld.ready()
    if not started:
        world.edit_subnet(**{"p2pnet.io/paused": "true"})
    world.apply()
    await world.reconcile()
    world.api.remove(SUBNET, "demo")
    await world.reconcile()
    assert world.condition("Invalid") == ("True", "SubnetGone")


async def test_another_subnet_of_the_same_name_is_another_one() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    world.api.remove(SUBNET, "demo")
    world.api.put(SUBNET, NAMESPACE, {"metadata": {"name": "demo"}, "spec": {}})
    await world.reconcile()
    assert world.condition("Invalid") == ("True", "SubnetGone")


async def test_one_runs_at_a_time_by_age_and_the_others_say_for_whom_they_wait() -> None:
    world = await InjectionWorld.ready()
    for name in ("c", "a", "b"):
        world.apply(name)
        world.world.now += timedelta(seconds=1)
    for _ in range(2):
        for name in ("a", "b", "c"):
            await world.reconcile(name)
    assert [world.status(name)["state"] for name in ("c", "a", "b")] == ["Running", "Waiting", "Waiting"]
    assert world.condition("Finished", "a") == ("False", "Queued")
    assert world.said("a") == "waits for Injection c"
    assert world.said("b") == "waits for Injections c, a"
    asked, reads = len(world.lab.asked), world.api.reads
    await world.reconcile("b")
    assert (len(world.lab.asked), world.api.reads - reads) == (asked, 3), "a look of one that waits costs little"
    world.lab.end(world.status("c")["run"])
    await world.reconcile("c")
    assert Key(INJECTION, NAMESPACE, "a") in world.woken, "whoever waits is looked at at once"
    for name in ("b", "a"):
        await world.reconcile(name)
    assert [world.status(name)["state"] for name in ("c", "a", "b")] == ["Propagated", "Running", "Waiting"]
    assert len(world.lab.started) == 2


async def test_looked_at_at_the_same_time_only_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await InjectionWorld.ready()
    names = [f"n{number}" for number in range(5)]
    find = world.api.find

    async def slowly(kind: ResourceKind, namespace: str = "", selector: str = "") -> list[Object]:
        found = await find(kind, namespace, selector)
        await asyncio.sleep(0)
        return found

    monkeypatch.setattr(world.api, "find", slowly)
    for name in reversed(names):
        world.apply(name)  # of the same second: by name
    for _ in range(2):
        await asyncio.gather(*(world.reconcile(name) for name in names))
    assert [world.status(name)["state"] for name in names] == ["Running", *["Waiting"] * 4]
    assert len(world.lab.started) == 1


async def test_one_that_waits_for_files_holds_up_nobody() -> None:
    world = await InjectionWorld.ready()
    world.apply("first", filesFrom={"configMap": "photos"})
    world.world.now += timedelta(seconds=1)
    world.apply("second")
    await world.reconcile("first")
    await world.reconcile("second")
    assert world.condition("Finished", "first") == ("False", "FilesMissing")
    assert world.said("first") == "there is no ConfigMap photos yet"
    assert world.status("second")["state"] == "Running"
    world.api.put(
        CONFIG_MAP, NAMESPACE, {"metadata": {"name": "photos"}, "data": {"a.txt": "ä"}, "binaryData": {"b": "AAE="}}
    )
    await world.reconcile("first")
    assert world.condition("Finished", "first") == ("False", "Queued")
    world.lab.end(world.status("second")["run"])
    await world.reconcile("second")
    await world.reconcile("first")
    assert world.status("first")["state"] == "Running"
    assert [one.name for one in world.lab.started[-1].payloads] == ["a.txt", "b"]
    assert list(world.lab.uploads.values()) == ["ä".encode(), b"\x00\x01"]


async def test_files_that_the_operator_may_not_read_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await InjectionWorld.ready()
    world.apply(filesFrom={"configMap": "photos"})
    get = world.api.get

    async def forbidden(kind: ResourceKind, namespace: str, name: str) -> Object | None:
        if kind == CONFIG_MAP:
            raise ForbiddenError(403, "Forbidden", "cannot get configmaps")
        return await get(kind, namespace, name)

    monkeypatch.setattr(world.api, "get", forbidden)
    await world.reconcile()
    assert world.condition("Finished") == ("False", "FilesMissing")
    assert (world.said(), world.status()["blocked"]) == ("cannot get configmaps", True)


async def test_keys_choose_files_and_too_many_are_refused() -> None:
    world = await InjectionWorld.ready()
    world.api.put(CONFIG_MAP, NAMESPACE, {"metadata": {"name": "photos"}, "data": {f"{i:02}": "x" for i in range(17)}})
    world.apply("many", filesFrom={"configMap": "photos"})
    world.apply("some", filesFrom={"configMap": "photos", "keys": ["03", "00"]})
    world.apply("none", filesFrom={"configMap": "photos", "keys": ["99"]})
    for name in ("many", "none", "some"):
        await world.reconcile(name)
    assert world.condition("Finished", "many") == ("False", "TooManyFiles")
    assert world.said("none") == "ConfigMap photos has no 99 yet"
    assert [one.name for one in world.lab.started[0].payloads] == ["03", "00"]


# --- deletion ---


async def test_a_deleted_injection_takes_its_run_with_it() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    await world.subnet()
    assert world.lab.open, "while it is there its run goes on"
    world.api.remove(INJECTION, "smoke")
    assert await world.reconcile() is None
    assert world.woken == [world.world.key], "its Subnet's lab is looked at at once"
    await world.subnet()
    assert not world.lab.open


async def test_an_injection_deleted_while_the_operator_is_away_takes_its_run_with_it_too() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    world.api.remove(INJECTION, "smoke")
    world.start()
    await world.subnet()
    assert not world.lab.open


async def test_a_namesake_made_anew_has_a_run_of_its_own() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    first = world.status()["run"]
    world.api.remove(INJECTION, "smoke")
    world.apply()
    await world.subnet()
    assert first not in world.lab.open
    await world.reconcile()
    await world.subnet()
    assert world.lab.open == [world.status()["run"]]
    assert len(world.lab.started) == 2


async def test_runs_of_people_are_left_alone() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    run = world.status()["run"]
    mine = RunSummary(run, "running", injection=world.lab.started[0].injection)
    world.world.lab.runs = [RunSummary("r-person", "running"), mine]
    await world.world.operator.reconcile(world.world.key)
    assert world.lab.runs[run].state == "running"
    assert "cancel" not in world.lab.asked


async def test_a_run_that_cannot_be_ended_now_is_ended_later_and_the_subnet_does_not_suffer() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    world.api.remove(INJECTION, "smoke")
    world.lab.silent = True
    await world.subnet()
    assert world.lab.open
    assert world.world.condition("Ready") == ("True", "Connected")
    world.lab.silent = False
    await world.subnet()
    assert not world.lab.open


async def test_one_that_is_being_deleted_begins_nothing() -> None:
    world = await InjectionWorld.ready()
    meta(world.apply())["deletionTimestamp"] = time_text(world.world.now)
    assert await world.reconcile() is None
    assert not world.lab.started


async def test_one_deleted_between_the_look_and_the_run_begins_nothing() -> None:
    world = await InjectionWorld.ready()
    world.apply()

    def gone(verb: str, kind: object, name: str) -> Exception | None:
        return ApiError(404, "NotFound", "gone") if name == "smoke/status" else None

    world.api.fault = gone
    await world.reconcile()
    assert not world.lab.started


async def test_a_ttl_counts_from_the_end() -> None:
    world = await InjectionWorld.ready()
    world.apply(ttl="10m")
    await world.reconcile()
    world.world.now += timedelta(hours=1)
    assert "expiresAt" not in world.status()
    world.lab.end(world.status()["run"])
    assert await world.reconcile() is not None
    assert world.status()["expiresAt"] == time_text(world.world.now + timedelta(minutes=10))
    again = await world.reconcile()
    assert again is not None
    assert 599 < again < 601
    world.world.now += timedelta(minutes=10, seconds=1)
    assert await world.reconcile() is None
    assert (INJECTION, NAMESPACE, "smoke") not in world.api.objects


# --- writes ---


async def test_progress_is_written_now_and_then_and_a_verdict_at_once() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    run = world.status()["run"]
    writes = len(world.api.writes)
    for delivered in range(1, 5):
        world.lab.progress(run, published=10, artifacts=10, delivered=delivered, expected=20)
        await world.reconcile()
        world.world.now += timedelta(seconds=2)
    assert len(world.api.writes) - writes == 1, "every five seconds at most"
    assert world.status()["progress"]["delivered"] in (3, 4)
    assert world.status()["shown"]["reach"].endswith("%")
    world.lab.end(run)
    await world.reconcile()
    assert world.status()["state"] == "Propagated"


async def test_a_run_that_waits_in_the_lab_says_for_which() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    await world.reconcile()
    run = world.status()["run"]
    world.lab._change(run, state="queued")
    await world.reconcile()
    assert world.condition("Finished") == ("False", "Running"), "it begins this moment"
    world.lab.progress(run, waiting_for="run r-person", queue_position=1)
    await world.reconcile()
    assert world.condition("Propagated") == ("Unknown", "QueuedInLab")
    assert world.said() == f"run {run} waits for run r-person"


async def test_a_status_that_cannot_be_written_begins_no_run() -> None:
    world = await InjectionWorld.ready()
    world.apply()
    world.api.fault = lambda *_: BusyError(503, "Busy", "later")
    with pytest.raises(BusyError):
        await world.reconcile()
    assert not world.lab.started


async def test_a_document_that_the_definition_let_pass_ends_invalid() -> None:
    world = await InjectionWorld.ready()
    world.apply(expect=["p95 <= fast"])
    assert await world.reconcile() is None
    assert world.condition("Invalid") == ("True", "InvalidSpec")
    assert "spec.expect[0]" in world.said()


async def test_stages_that_only_a_sum_tells_wrong_end_an_injection_at_once_and_no_lab_is_asked() -> None:
    world = InjectionWorld()
    world.apply(rate="2/s for 13h, then 3/s for 13h")
    assert await world.reconcile() is None
    assert world.condition("Invalid") == ("True", "InvalidSpec")
    assert "spec.rate: the stages of" in world.said()
    assert "at most a day" in world.said()
    assert not world.lab.started


async def test_a_bug_met_with_an_injection_is_an_event_and_changes_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await InjectionWorld.ready()
    world.apply()
    with monkeypatch.context() as broken:
        broken.setattr("p2pnet.operator.injection.reconcile.decide", lambda *_: 1 // 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await world.reconcile()
    assert world.events() == [("Warning", "InternalError")]
    await world.reconcile()
    assert world.status()["state"] == "Running"
