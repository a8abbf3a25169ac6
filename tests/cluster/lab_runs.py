"""Runs of labs without nodes: asked for by idempotency key, over after a while, and all forgotten by a restart."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from aiohttp import web
from tests.cluster.server import Thing

from p2pnet.model.jobs import LAB_HEADER, Progress, Revision, RunList, RunRequest, RunState, Upload, UploadRequest
from p2pnet.model.report import (
    ByteCost,
    ExpectationResult,
    Hops,
    Latency,
    Reach,
    Report,
    RunStateName,
    RunSummary,
)

Asked = Callable[[web.Request], Awaitable[tuple[Thing, str]]]
"""The lab's pod and its Subnet, of a request. Raises 404 and 401."""


@dataclass
class LabProcess:
    """What one process of a lab knows."""

    name: str
    keys: dict[str, str] = field(default_factory=dict)
    requests: dict[str, RunRequest] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    """Monotonic time, by run."""
    cancelled: set[str] = field(default_factory=set)
    uploads: dict[str, Upload] = field(default_factory=dict)


class LabRuns:
    """The runs of all labs. `takes_s` is how long each lasts; `on_begin` is told of each that begins, before it is answered."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._processes: dict[str, LabProcess] = {}
        """By uid of the lab's pod."""
        self._numbers = itertools.count(1)
        self.takes_s = 0.3
        self.begun: list[RunRequest] = []
        """All that were ever begun, by whatever process."""
        self.on_begin: Callable[[], None] = lambda: None

    def routes(self) -> list[web.RouteDef]:
        """What labs answer about runs."""
        return [
            web.get("/v1/revision", self._revision), web.get("/v1/runs", self._all), web.post("/v1/runs", self._begin),
            web.get("/v1/runs/{run}", self._one), web.post("/v1/runs/{run}/cancel", self._cancel),
            web.post("/v1/uploads", self._announce), web.put("/v1/uploads/{upload}", self._append),
        ]  # fmt: skip

    def of(self, injection_uid: str) -> list[RunRequest]:
        """What was begun for an Injection."""
        return [one for one in self.begun if one.injection is not None and one.injection.uid == injection_uid]

    def summaries(self, pod_uid: str) -> list[RunSummary]:
        """As a lab's summary has them."""
        process = self._of(pod_uid)
        return [
            RunSummary(run, _state(process, run), injection=request.injection)
            for run, request in process.requests.items()
        ]

    def open(self) -> list[str]:
        """Runs that go on, of all labs."""
        return [
            run for process in self._processes.values() for run in process.requests if _state(process, run) == "running"
        ]

    def finish(self) -> None:
        """Runs that go on are over, all of them."""
        for process in self._processes.values():
            process.ends = {run: min(end, time.monotonic()) for run, end in process.ends.items()}

    def restart(self) -> None:
        """Every lab's process ends, and another one begins."""
        self._processes.clear()

    def _of(self, pod_uid: str) -> LabProcess:
        if pod_uid not in self._processes:
            self._processes[pod_uid] = LabProcess(f"process-{next(self._numbers)}")
        return self._processes[pod_uid]

    async def _process(self, request: web.Request) -> LabProcess:
        pod, _ = await self._asked(request)
        return self._of(pod["metadata"]["uid"])

    async def _revision(self, request: web.Request) -> web.Response:
        process = await self._process(request)
        return _answer(Revision(f"{process.name}.1", process.name))

    async def _all(self, request: web.Request) -> web.Response:
        process = await self._process(request)
        run = process.keys.get(request.query.get("key", ""))
        return _answer(RunList([_run_state(process, run)] if run else []))

    async def _one(self, request: web.Request) -> web.Response:
        process = await self._process(request)
        if request.match_info["run"] not in process.requests:
            return _refusal(404, "there is no such run")
        return _answer(_run_state(process, request.match_info["run"]))

    async def _begin(self, request: web.Request) -> web.Response:
        process = await self._process(request)
        asked = msgspec.json.decode(await request.read(), type=RunRequest)
        if request.headers.get(LAB_HEADER, process.name) != process.name:
            return _refusal(412, "another lab is meant")
        key = request.headers["Idempotency-Key"]
        if asked.publisher not in ("random", "all") and not asked.publisher.startswith("node-"):
            return _refusal(400, f"there is no node {asked.publisher!r}: give a node's name, random or all")
        if key not in process.keys:
            run = f"r-{next(self._numbers)}"
            process.keys[key], process.requests[run] = run, asked
            process.ends[run] = time.monotonic() + self.takes_s
            self.begun.append(asked)
            self.on_begin()
            await asyncio.sleep(0)
        elif process.requests[process.keys[key]] != asked:
            return _refusal(409, "the key belongs to another request")
        return _answer(_run_state(process, process.keys[key]))

    async def _cancel(self, request: web.Request) -> web.Response:
        process, run = await self._process(request), request.match_info["run"]
        if _state(process, run) == "running":
            process.cancelled.add(run)
        return _answer(_run_state(process, run))

    async def _announce(self, request: web.Request) -> web.Response:
        process = await self._process(request)
        asked = msgspec.json.decode(await request.read(), type=UploadRequest)
        upload = Upload(f"u-{next(self._numbers)}", asked.name, asked.size, 0)
        process.uploads[upload.upload] = upload
        return _answer(upload)

    async def _append(self, request: web.Request) -> web.Response:
        process = await self._process(request)
        upload = process.uploads[request.match_info["upload"]]
        whole = msgspec.structs.replace(upload, offset=len(await request.read()) + upload.offset)
        process.uploads[upload.upload] = whole
        return _answer(whole)


def _state(process: LabProcess, run: str) -> RunStateName:
    if run in process.cancelled:
        return "cancelled"
    return "finished" if time.monotonic() >= process.ends[run] else "running"


def _run_state(process: LabProcess, run: str) -> RunState:
    state, request = _state(process, run), process.requests[run]
    report = None if state == "running" else _report(run, request)
    return RunState(run, state, request, 0.0, Progress(artifacts=request.count, expected=2), report)


def _report(run: str, request: RunRequest) -> Report:
    return Report(
        run=run, subnet="demo", target="cluster", seed=42, nodes=3, artifacts=request.count, verdict="pass",
        reach=Reach(2, 2, 1.0), latency_ms=Latency(1.0, 2.0, 3.0, 4.0, 5.0), hops=Hops(1, 1), duplicates_per_delivery=0.0,
        bytes=ByteCost(10, 11, 1.1), clock_bound_ms=0.0, expectations=[ExpectationResult("reach == 100%", 100.0, ok=True)],
    )  # fmt: skip


def _answer(document: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


def _refusal(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status)
