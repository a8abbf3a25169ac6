"""Scenarios for tests: texts, plans, and a stage that does nothing but remember."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from p2pnet.measure.expectations import parse
from p2pnet.model.report import ByteCost, ExpectationResult, Hops, Latency, Reach, Report
from p2pnet.scenario.document import checked_plan, inline_subnet, read_scenario
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.stage import Awaited, ProgressSink, RunAsk, Waited
from p2pnet.subnet.members import members
from p2pnet.subnet.spec import API_VERSION, Subnet

SUBNET: dict[str, Any] = {
    "nodes": 6,
    "groups": [{"name": "eu", "nodes": 2, "labels": {"region": "eu"}}],
    "clients": [{"name": "blob"}, {"name": "other", "class": "p2pnet.broadcast.blob:BlobClient"}],
}


def document(steps: list[dict[str, Any]], subnet: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    spec = {"subnet": SUBNET if subnet is None else subnet, "steps": steps}
    return {"apiVersion": API_VERSION, "kind": "Scenario", "metadata": {"name": "story", **metadata}, "spec": spec}


def plan(*steps: dict[str, Any], subnet: dict[str, Any] | None = None) -> ScenarioPlan:
    written = read_scenario(document(list(steps), subnet))
    return checked_plan(written.scenario, inline_subnet(written))


def report(
    expect: Sequence[str] = (),
    *,
    p50: float | None = 10.0,
    p99: float | None = 20.0,
    reach: float | None = 1.0,
    **more: Any,
) -> Report:
    """A report that judges these expectations, and the default, by the values given."""
    values = {"p50": p50, "p90": p99, "p95": p99, "p99": p99, "max": p99, "reach": reach}
    texts = [*expect, *([] if any(text.startswith("reach") for text in expect) else ["reach == 100%"])]
    read = [parse(text) for text in texts]
    judged = [one.evaluate(values.get(one.metric)) for one in read]
    expected = more.pop("expected", 100)
    known: dict[str, Any] = {
        "run": "r-1", "subnet": "story", "target": "sim", "seed": 1, "nodes": 6, "artifacts": 1,
        "verdict": "pass" if all(one.ok for one in judged) else "fail",
        "reach": Reach(expected, int(expected * (reach or 0.0)), reach),
        "latency_ms": Latency(p50, p99, p99, p99, p99), "hops": Hops(1, 2), "duplicates_per_delivery": 0.1,
        "bytes": ByteCost(1000, 1100, 1.1), "clock_bound_ms": 0.0, "expectations": judged, "artifact_ids": ["ab"],
    }  # fmt: skip
    return Report(**{**known, **more})


class FakeStage:
    """Remembers what it was asked for, in `did`; answers with what it was given. Time is what is slept."""

    def __init__(self, subnet: Subnet, **reports: Report | Exception) -> None:
        self.subnet = subnet
        self.reports = reports
        self.did: list[str] = []
        self.asked: dict[str, RunAsk] = {}
        self.now = 0.0
        self.waited = Waited(True, "links 15/15")
        self.raises: dict[str, Exception] = {}
        """By the word with which something in `did` would begin."""
        self.trouble: list[str] = []
        self.runs: dict[str, str] = {}

    def kept_run(self, name: str) -> str | None:
        return self.runs.get(name)

    def _do(self, what: str) -> str:
        self.did.append(what)
        if error := self.raises.get(what.split()[0]):
            raise error
        return what

    async def up(self, progress: ProgressSink) -> str:
        progress("links", 1, 15)
        return self._do("up")

    async def inject(self, ask: RunAsk, progress: ProgressSink) -> Report:
        self._do(f"inject {ask.name}")
        self.asked[ask.name] = ask
        progress("delivered", 5, 10)
        await asyncio.sleep(0)
        given = self.reports.get(ask.name)
        if isinstance(given, Exception):
            raise given
        if given is None:
            return report(ask.expect)
        texts = [one.expr for one in given.expectations]
        more = [ExpectationResult(text, None, ok=False) for text in ask.expect if text not in texts]
        return msgspec.structs.replace(given, expectations=[*given.expectations, *more])

    async def withdraw(self, names: Sequence[str], progress: ProgressSink) -> str:
        return self._do(f"withdraw {' '.join(names)}")

    async def fault(self, name: str, fault: Mapping[str, object]) -> str:
        return self._do(f"fault {name} {dict(fault)}")

    async def heal(self, names: Sequence[str]) -> str:
        return self._do(f"heal {' '.join(names)}")

    async def scale(self, group: str, nodes: int, within_s: float, progress: ProgressSink) -> str:
        return self._do(f"scale {group} {nodes} {within_s:g}")

    async def restart(self, nodes: Sequence[str], within_s: float, progress: ProgressSink) -> str:
        return self._do(f"restart {' '.join(nodes)}")

    async def upgrade(self, image: str, within_s: float, progress: ProgressSink) -> str:
        return self._do(f"upgrade {image}")

    async def rotate(self, within_s: float, progress: ProgressSink) -> str:
        return self._do("rotate")

    async def wait(self, what: Awaited, within_s: float, progress: ProgressSink) -> Waited:
        self._do(f"wait {what.connected or what.idle or ' '.join([*what.holds, *what.gone])} {within_s:g}")
        return self.waited

    async def sleep(self, seconds: float) -> None:
        self._do(f"sleep {seconds:g}")
        self.now += seconds
        await asyncio.sleep(0)

    async def together(self, branches: Sequence[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*branches)

    def seconds(self) -> float:
        return self.now

    def nodes(self) -> list[str]:
        return [name for name, _ in members(self.subnet)]

    def problems(self) -> list[str]:
        return self.trouble

    def notes(self) -> list[str]:
        return ["faked"]

    def digest(self) -> str | None:
        return "d1"

    async def down(self) -> None:
        self._do("down")

    async def leave(self) -> str:
        return self._do("leave")
