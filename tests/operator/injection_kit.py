"""Injections in a world with one Subnet: a lab that remembers what it was asked for, and an operator that can be killed."""

import itertools
from datetime import timedelta
from typing import Any

import msgspec
from tests.operator.kit import NAMESPACE, Killed, World

from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import Problem, Progress, RunRequest, RunState
from p2pnet.model.report import ByteCost, ExpectationResult, Hops, Latency, Reach, Report, RunSummary, Verdict
from p2pnet.operator.injection.context import INJECTION
from p2pnet.operator.injection.reconcile import InjectionReconciler
from p2pnet.operator.kube.api import EVENT, BusyError, ConflictError, Object, meta
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet.context import SUBNET


def report(verdict: Verdict = "pass", run: str = "r-1", **more: Any) -> Report:
    """A report of ten artifacts in a subnet of three."""
    fields: dict[str, Any] = {
        "reach": Reach(20, 20, 1.0), "latency_ms": Latency(1.5, 2.0, 12.25, 30.0, None), "hops": Hops(1, 2),
        "duplicates_per_delivery": 0.1, "bytes": ByteCost(1000, 1100, 1.1), "clock_bound_ms": 0.0,
        "expectations": [ExpectationResult("reach == 100%", 100.0, verdict == "pass")],
        "invalid": ["the clock went away"] if verdict == "invalid" else [],
    }  # fmt: skip
    return Report(
        run=run, subnet="demo", target="cluster", seed=42, nodes=3, artifacts=10, verdict=verdict, **{**fields, **more}
    )


class FakeRunLab:
    """`RunLabs` in memory. `restart` forgets everything, as a lab's process does."""

    def __init__(self) -> None:
        self._number = itertools.count(1)
        self.name = "lab-1"
        self.runs: dict[str, RunState] = {}
        self.keys: dict[str, str] = {}
        self.started: list[RunRequest] = []
        """Runs that were really begun, by all processes."""
        self.asked: list[str] = []
        self.uploads: dict[str, bytes] = {}
        self.silent = False
        self.deaf = False
        """Whether it does what it is asked to, but the answer is lost."""
        self.refusal: ProblemError | None = None

    def restart(self) -> None:
        self.name = f"lab-{next(self._number) + 1}"
        self.runs, self.keys, self.uploads = {}, {}, {}

    def end(self, run: str, verdict: Verdict = "pass", **more: Any) -> None:
        self._change(run, state="finished", report=report(verdict, run, **more))

    def progress(self, run: str, **progress: Any) -> None:
        self._change(run, progress=Progress(**progress))

    def _change(self, run: str, **changes: Any) -> None:
        self.runs[run] = msgspec.structs.replace(self.runs[run], **changes)

    @property
    def open(self) -> list[str]:
        return [run for run, state in self.runs.items() if state.state in ("queued", "running")]

    def summaries(self) -> list[RunSummary]:
        return [RunSummary(run, one.state, injection=one.request.injection) for run, one in self.runs.items()]

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.silent:
            raise TargetError("the lab is silent")

    async def process(self, address: str, token: str) -> str:
        self._ask("process")
        return self.name

    async def run(self, address: str, token: str, run: str) -> RunState | None:
        self._ask("run")
        return self.runs.get(run)

    async def run_of(self, address: str, token: str, uid: str) -> RunState | None:
        self._ask("run_of")
        return self.runs.get(self.keys.get(uid, ""))

    async def upload(self, address: str, token: str, name: str, data: bytes) -> str:
        self._ask("upload")
        upload = f"u-{next(self._number)}"
        self.uploads[upload] = data
        return upload

    async def start(self, address: str, token: str, request: RunRequest, *, process: str) -> RunState:
        self._ask("start")
        if self.refusal is not None:
            raise self.refusal
        if process != self.name:
            raise ProblemError(Problem("another lab"), status=412)
        key = request.injection.uid
        if key not in self.keys:
            run = f"r-{next(self._number)}"
            self.started.append(request)
            self.keys[key] = run
            self.runs[run] = RunState(run, "running", request, 0.0, Progress(artifacts=10, expected=20))
        elif self.runs[self.keys[key]].request != request:
            raise ProblemError(Problem("the key is another request's"), status=409)
        if self.deaf:
            raise TargetError("the connection was lost")
        return self.runs[self.keys[key]]

    async def cancel(self, address: str, token: str, run: str) -> None:
        self._ask("cancel")
        if self.runs[run].state != "finished":
            self._change(run, state="cancelled", report=report("invalid", run))


class InjectionWorld:
    """A Subnet `demo` that is Ready, and Injections."""

    def __init__(self) -> None:
        self.world = World(nodes=3)
        self.api = self.world.api
        self.lab = FakeRunLab()
        self.start()

    @classmethod
    async def ready(cls) -> "InjectionWorld":
        made = cls()
        await made.world.converge()
        return made

    def start(self) -> None:
        """A new operator process, for Subnets and Injections."""
        self.world.start()
        self.operator = InjectionReconciler(self.api, self.lab, now=lambda: self.world.now)
        self.world.operator.on_lab = self.operator.sweep
        self.woken: list[Key] = []
        self.operator.wake = self.woken.append

    def apply(self, name: str = "smoke", **spec: Any) -> Object:
        body = {"apiVersion": INJECTION.api, "kind": "Injection", "metadata": {"name": name}}
        return self.api.put(INJECTION, NAMESPACE, {**body, "spec": {"subnet": "demo", **spec}})

    async def reconcile(self, name: str = "smoke", times_: int = 1) -> float | None:
        again = None
        for _ in range(times_):
            again = await self.operator.reconcile(Key(INJECTION, NAMESPACE, name))
        return again

    async def subnet(self) -> None:
        """The Subnet is reconciled, its lab showing the runs it has."""
        self.world.lab.runs = self.lab.summaries()
        await self.world.operator.reconcile(self.world.key)

    async def until_rest(self, *names: str, every: int | None = None) -> int:
        """Reconcile all until nothing is written any more, runs ending meanwhile; how often the operator was killed.

        `every`: it is killed right after so many writes, again and again.
        """
        kills = 0
        for turn in range(200):
            before, were_open = len(self.api.writes), self.lab.open
            for name in names:
                if every is not None:
                    self.api.kill_after = len(self.api.writes) + every
                try:
                    await self.reconcile(name)
                except Killed:
                    kills += 1
                    self.start()
                except (ConflictError, BusyError):
                    pass
                self.api.kill_after = None
            self.world.now += timedelta(seconds=6)
            if turn % 3 == 2:
                for run in self.lab.open:
                    self.lab.end(run)
            if len(self.api.writes) == before and not were_open and turn > 3:
                return kills
        raise AssertionError("never at rest")

    def thing(self, name: str = "smoke") -> Object:
        return self.api.one(INJECTION, name)

    def status(self, name: str = "smoke") -> Object:
        return self.thing(name).get("status") or {}

    def condition(self, kind: str, name: str = "smoke") -> tuple[str, str]:
        found = next(one for one in self.status(name)["conditions"] if one["type"] == kind)
        return found["status"], found["reason"]

    def said(self, name: str = "smoke") -> str:
        """The message of its conditions."""
        return str(self.status(name)["conditions"][0]["message"])

    def events(self) -> list[tuple[str, str]]:
        found = [one for one in self.api.all(EVENT) if one["involvedObject"]["kind"] == "Injection"]
        return [(one["type"], one["reason"]) for one in found]

    def edit_subnet(self, **annotations: str) -> None:
        meta(self.api.one(SUBNET, "demo")).setdefault("annotations", {}).update(annotations)
