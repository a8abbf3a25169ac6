"""Clocks of several machines on one axis: offsets, how wrong they may be, and what a run says about it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.lab.nodes.clocks import SAMPLES, Clocks, Offset, better, offset_of
from p2pnet.lab.nodes.node_client import NodeSilentError
from p2pnet.lab.runs import runner
from p2pnet.model.control import Clock
from p2pnet.model.jobs import Payload, RunRequest

HOUR_NS = 3_600 * 10**9


class Machine:
    """A node on another machine: its clock is `skew_ns` ahead, its answers take `ways_s` in turn."""

    def __init__(self, skew_ns: int, ways_s: list[float]) -> None:
        self.skew_ns = skew_ns
        self.ways = itertools.cycle(ways_s)
        self.asked: list[str] = []
        self.now_ns = 0

    async def ask(self, node, route, request, *, timeout_s=5.0):
        self.asked.append(node)
        if node == "silent":
            raise NodeSilentError(node, "away")
        self.now_ns += round(
            next(self.ways) * 1e9
        )  # all of it on the way there: the worst case for the middle of the way
        return Clock(self.now_ns + self.skew_ns, 0, "other")


async def test_the_sample_with_the_shortest_way_of_at_least_eight_counts():
    machine = Machine(5 * HOUR_NS, [0.02, 0.03, 0.001, 0.02])
    clocks = Clocks(machine, "mine", lambda: machine.now_ns)
    offsets = await clocks.measure({"mine": ["node-0"], "other": ["silent", "node-1"]})
    assert machine.asked.count("node-1") == SAMPLES >= 8
    assert "mine" not in offsets
    bound_ms = clocks.bound_ms({"other": ["node-1"]})
    assert 0.5 <= bound_ms < 0.55
    assert abs(offsets["other"] + machine.skew_ns) <= bound_ms * 1e6


async def test_a_machine_that_nobody_could_be_asked_on_is_unmeasured():
    clocks = Clocks(Machine(0, [0.0]), "mine")
    await clocks.measure({"other": ["silent"]})
    assert clocks.unmeasured == {"other"}


def test_a_known_offset_ages_until_a_worse_sample_is_better():
    known = Offset(ns=0, error_ns=100_000, taken_ns=0)
    sample = Offset(ns=0, error_ns=1_000_000, taken_ns=10**9)
    assert not better(sample, known)  # 0.1 ms and a second's drift, 0.2 ms
    assert better(Offset(0, 1_000_000, 10 * 10**9), known)  # 2.1 ms by now


def test_a_sample_that_proves_a_close_one_wrong_replaces_it():
    known = Offset(ns=0, error_ns=1_000, taken_ns=0)
    assert better(Offset(ns=3 * 10**9, error_ns=10**6, taken_ns=10**9), known)  # the machine was suspended


async def test_two_machines_share_one_axis_and_the_report_tells_its_bound(
    lab, lab_client, nodes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "CLOCKS_S", 0.05)
    for name, boot, skew in (
        ("node-0", "one", HOUR_NS),
        ("node-1", "other", -7 * HOUR_NS),
        ("node-2", "other", -7 * HOUR_NS),
    ):
        nodes.nodes[name].boot, nodes.nodes[name].skew_ns = boot, skew
        nodes.nodes[name].restart()
    for node in nodes.nodes:
        await lab.collector.flush([node])
    state = await lab_client.start_run(RunRequest([Payload("x", size=10)], count=6, rate=30, publisher="all"), key="k")
    *_, last = [state async for state in lab_client.follow(state.run)]
    report = last.report
    assert (report.verdict, report.invalid) == ("pass", [])
    assert 0 < report.clock_bound_ms < 60_000  # and not hours
    assert report.latency_ms.max < 60_000
    assert lab.context.clocks.bound_ms({"one": ["node-0"], "other": ["node-1"]}) > 0


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**12))
def test_an_offset_is_true_within_its_bound(there, back, start, skew):
    # We ask at `start`; they read after `there`; their clock is `skew` behind ours; the answer takes `back`.
    offset = offset_of(start, start + there - skew, start + there + back)
    assert abs(offset.ns - skew) <= offset.error_ns + 1
    assert offset.bound_ns(offset.taken_ns + 10**9) >= offset.error_ns + 10**5
