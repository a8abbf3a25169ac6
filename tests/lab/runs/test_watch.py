"""One run's network: it ends the run before the injection, marks it invalid later, and stands in the report."""

import asyncio
from pathlib import Path

import pytest
from tests.lab.network.probed_nodes import ProbedNodes, now_ns
from tests.measure.probing import MS, Process, Truth

from p2pnet.lab.network.canary import Canary
from p2pnet.lab.network.sampler import RunSampler
from p2pnet.lab.runs import watch
from p2pnet.lab.runs.recorder import Recorder
from p2pnet.lab.runs.run import Run
from p2pnet.lab.runs.watch import WAITING_FOR, RunWatch
from p2pnet.measure import unmeasured
from p2pnet.model.control import Sample
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.model.network import CLEAR, LinkShape
from p2pnet.model.report import Report

SLOW = {"nodes": 4, "network": {"default": {"latency": "10ms"}}}


class Watched:
    """A run of these nodes and what watches it."""

    def __init__(self, nodes: ProbedNodes, canary: Canary, folder: Path) -> None:
        file = RunFile("r-1", "demo", "local", 1, RunRequest([Payload("a", size=1)]), 0.0, list(nodes.names), "0")
        self.run = Run(file, (), Recorder(folder))
        sampler = RunSampler(nodes, nodes.names, folder, boots=nodes._boots, offsets_ns=dict, now_ns=now_ns)
        self.watch = RunWatch(canary, sampler, self.run)

    def report(self) -> Report:
        return self.watch.completed(unmeasured(self.run.file, self.run.invalid))


def run_watched(nodes: ProbedNodes, folder: Path, scenario) -> None:
    async def whole(canary: Canary) -> None:
        watched = Watched(nodes, canary, folder)
        try:
            await scenario(watched)
        finally:
            watched.watch.close()

    nodes.run(whole)


async def throughout(watched: Watched, seconds: float) -> None:
    task = asyncio.create_task(watched.watch.throughout())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_network_in_force_stands_in_the_report_as_asked_and_as_seen(tmp_path):
    nodes = ProbedNodes(SLOW)

    async def scenario(watched: Watched) -> None:
        before = asyncio.create_task(watched.watch.before())
        await asyncio.sleep(0.1)
        assert watched.run.waiting_for == WAITING_FOR
        await before
        await throughout(watched, 30)
        await watched.watch.after()
        assert watched.run.invalid == []
        report = watched.report()
        assert [(row.rule, row.worst, row.ok) for row in report.network] == [
            ("default", False, True),
            ("default", True, True),
        ]
        assert report.network[0].links == 12

    run_watched(nodes, tmp_path, scenario)


def test_a_run_without_a_network_waits_for_nothing_and_its_report_has_no_rows(tmp_path):
    nodes = ProbedNodes({"nodes": 4})

    async def scenario(watched: Watched) -> None:
        await watched.watch.before()
        assert asyncio.get_running_loop().time() < 0.1
        assert watched.run.waiting_for == ""
        await throughout(watched, 30)
        await watched.watch.after()
        assert (watched.report().network, watched.run.invalid, watched.run.notes) == ([], [], [])

    run_watched(nodes, tmp_path, scenario)


def test_a_rule_not_in_force_ends_the_run_before_anything_is_injected(tmp_path):
    nodes = ProbedNodes(SLOW)
    nodes.lies = {("node-1", "node-2"): Truth(LinkShape(delay_ns=5 * MS))}

    async def scenario(watched: Watched) -> None:
        await watched.watch.before()
        assert watched.run.ending.is_set()
        (problem,) = watched.run.invalid
        assert problem.startswith("network rule default is not in force: node-1 to node-2 asked 10 ms, seen 5.")
        await watched.watch.after()
        assert [row.ok for row in watched.report().network] == [False, False]

    run_watched(nodes, tmp_path, scenario)


def test_a_rule_that_is_given_up_later_makes_the_run_invalid_and_lets_it_go_on(tmp_path):
    nodes = ProbedNodes(SLOW)

    async def scenario(watched: Watched) -> None:
        await watched.watch.before()
        nodes.lies = {(a, b): Truth(CLEAR) for a in nodes.names for b in nodes.names if a != b}
        await throughout(watched, 90)
        nodes.lies = {}
        await throughout(watched, 90)
        await watched.watch.after()
        assert not watched.run.ending.is_set()
        assert len(watched.run.invalid) == 1
        assert [row.ok for row in watched.report().network if not row.worst] == [False]  # once is enough

    run_watched(nodes, tmp_path, scenario)


def test_a_fault_that_came_and_went_within_the_run_has_its_row(tmp_path):
    nodes = ProbedNodes(SLOW)

    async def scenario(watched: Watched) -> None:
        await watched.watch.before()
        await throughout(watched, 12)
        nodes.order({"name": "slow", "latency": "40ms"})
        watched.watch._canary.changed()
        await throughout(watched, 9)
        nodes.order()
        watched.watch._canary.changed()
        await throughout(watched, 12)
        await watched.watch.after()
        assert watched.run.invalid == []
        seen = {row.rule: row.seen.delay_ms for row in watched.report().network if not row.worst}
        assert seen["default"] == pytest.approx(10, abs=1)
        assert seen["default + fault slow"] == pytest.approx(50, abs=1)

    run_watched(nodes, tmp_path, scenario)


def test_a_machine_that_is_busy_for_a_moment_is_tried_again(tmp_path):
    nodes = ProbedNodes(SLOW)
    nodes.process = Process(usual_ns=20 * MS)

    async def scenario(watched: Watched) -> None:
        for node in nodes.nodes.values():
            node.samples = [Sample(now_ns() + 1, 1.0, 0.3, 0.5)]
        before = asyncio.create_task(watched.watch.before())
        await asyncio.sleep(3.5)
        nodes.process = Process()
        await before
        assert watched.run.invalid == []

    run_watched(nodes, tmp_path, scenario)


def test_a_machine_that_stays_busy_makes_the_run_invalid_and_the_process_is_named(tmp_path):
    nodes = ProbedNodes(SLOW)
    nodes.process = Process(usual_ns=20 * MS)

    async def scenario(watched: Watched) -> None:
        for node in nodes.nodes.values():
            node.samples = [Sample(now_ns() + 1, 1.0, 0.3, 0.5)]
        await watched.watch.before()
        assert watched.run.ending.is_set()
        (problem,) = watched.run.invalid
        assert problem.startswith("network rule default is not in force: node-")
        assert "was starved of CPU, its event loop came up to 300 ms late" in problem

    run_watched(nodes, tmp_path, scenario)


def test_a_rule_that_could_not_be_measured_for_want_of_links_is_noted(tmp_path):
    nodes = ProbedNodes({"nodes": 3, "network": {"rules": [{"from": "node-0", "to": "node-1", "latency": "10ms"}]}})
    nodes.down = {frozenset(("node-0", "node-1"))}

    async def scenario(watched: Watched) -> None:
        await watched.watch.before()
        await watched.watch.after()
        assert watched.run.invalid == []
        assert watched.run.notes == ["network rule rules[0] was not measured: none of its links is up"]

    run_watched(nodes, tmp_path, scenario)


def test_a_rule_of_which_nothing_came_back_makes_the_run_invalid(tmp_path):
    nodes = ProbedNodes({"nodes": 2, "network": {"default": {"latency": "30s"}}})

    async def scenario(watched: Watched) -> None:
        await watched.watch.before()
        await watched.watch.after()
        assert watched.run.invalid == ["network rule default was not measured: no probe came back in time"]

    run_watched(nodes, tmp_path, scenario)


def test_a_long_run_of_an_honest_network_stays_valid(tmp_path):
    nodes = ProbedNodes({
        "nodes": 3,
        "network": {"default": {"latency": "20ms", "jitter": "2ms", "loss": "2%"}, "rules": [{"from": "node-0", "loss": "20%"}]},
    })  # fmt: skip

    async def scenario(watched: Watched) -> None:
        await watched.watch.before()
        await throughout(watched, 200)
        await watched.watch.after()
        assert watched.run.invalid == []

    run_watched(nodes, tmp_path, scenario)


def test_a_cancelled_run_is_watched_no_more(tmp_path):
    nodes = ProbedNodes(SLOW)

    async def scenario(watched: Watched) -> None:
        before = asyncio.create_task(watched.watch.before())
        await asyncio.sleep(0.5)
        before.cancel()
        await asyncio.gather(before, return_exceptions=True)
        watched.watch.close()
        watched.watch.close()
        at = asyncio.get_running_loop().time()
        await asyncio.sleep(100)
        assert nodes.sent(at + watch.LOOK_S) < 2_000

    run_watched(nodes, tmp_path, scenario)
