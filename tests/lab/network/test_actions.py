"""What faults do to processes, with processes that only pretend, in virtual time."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from p2pnet.lab.backends.backend import Process
from p2pnet.lab.network import actions
from p2pnet.lab.network.actions import NodeFaults, Ordered, next_action
from p2pnet.model.agent import Action
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.quic.memory import run_virtual
from p2pnet.subnet.fault_book import BookedFault
from p2pnet.subnet.fault_processes import Wanted
from p2pnet.subnet.network_spec import FaultSpec

START_S = 0.4  # of a process, until it serves


class Processes:
    """Nodes whose processes die, stand still and start again, as a supervisor would have it."""

    def __init__(self, nodes: int = 4, per_process: int = 1) -> None:
        self.nodes = [f"node-{index}" for index in range(nodes)]
        self.packs = [tuple(self.nodes[at : at + per_process]) for at in range(0, nodes, per_process)]
        self.states: dict[str, Process] = {node: Process("running", 1) for node in self.nodes}
        self.acts: list[tuple[float, str, str]] = []
        self.whys: set[str] = set()
        self.refuse: Exception | None = None
        self.changed: Callable[[], None] = lambda: None

    def groups(self) -> dict[str, str]:
        return dict.fromkeys(self.nodes, "node")

    def nodes_sharing_process(self, node: str) -> list[str]:
        return next(list(pack) for pack in self.packs if node in pack)

    def process(self, node: str) -> Process:
        return self.states[node]

    def state(self, node: str) -> str:
        return self.states[node].state

    async def execute(self, node: str, action: Action, *, lease_s: float = 0.0, why: str = "") -> None:
        now = asyncio.get_running_loop().time()
        self.acts.append((round(now, 1), node, action))
        self.whys.add(why)
        if self.refuse is not None:
            raise self.refuse
        assert (lease_s > 0) == (action in ("hold", "pause"))
        for one in [node] if action == "restart" else self.nodes_sharing_process(node):
            match action:
                case "hold":
                    self._set(one, "stopped")
                case "pause" if self.states[one].state == "running":
                    self._set(one, "paused")
                case "resume" if self.states[one].state == "paused":
                    self._set(one, "running")
                case "kill" | "restart" | "release":
                    self.start(one)
                case _:
                    pass

    def start(self, node: str, after_s: float = START_S) -> None:
        self._set(node, "restarting")
        asyncio.get_running_loop().call_later(after_s, self._set, node, "running")

    def _set(self, node: str, state: Any) -> None:
        self.states[node] = Process(state, 1)
        self.changed()

    def of(self, node: str) -> list[str]:
        return [action for _, name, action in self.acts if name == node]


class Stage:
    """Faults about nodes, ordered by hand."""

    def __init__(self, processes: Processes, schedule: list[tuple[float, str]] | None = None) -> None:
        self.processes = processes
        self.hit: list[str] = []
        self.done: list[str] = []
        self.numbers = itertools.count()
        self.faults = NodeFaults(
            processes, schedule=lambda _fault: iter(schedule or []), before=self._before, after=lambda _nodes: None,
            on_done=self._done, on_failed=lambda: None,
        )  # fmt: skip
        processes.changed = self.faults.wake
        self.wanted: list[BookedFault] = []

    async def _before(self, nodes: list[str]) -> None:
        self.hit += nodes
        await asyncio.sleep(0.01)  # for their last events

    def _done(self, fault: BookedFault) -> None:
        self.done.append(fault.name)
        self.lift(fault)

    def order(self, name: str, nodes: list[str], **what: object) -> BookedFault:
        spec = FaultSpec.model_validate({"name": name, **what})
        now = asyncio.get_running_loop().time()
        ends_s = now + spec.for_.seconds if spec.for_ else None
        fault = BookedFault(next(self.numbers), spec, "lease", now, ends_s, begun=True, nodes=nodes)
        self.wanted.append(fault)
        self.faults.want(self.wanted)
        return fault

    def lift(self, fault: BookedFault) -> None:
        self.wanted.remove(fault)
        self.faults.want(self.wanted)


def acted(work: Callable[[Stage], Coroutine[Any, Any, None]], processes: Processes, **how: Any) -> Stage:
    async def scenario() -> Stage:
        stage = Stage(processes, **how)
        stage.faults.start()
        await work(stage)
        await stage.faults.close()
        return stage

    return run_virtual(scenario())


def test_a_kill_that_lasts_keeps_its_nodes_dead_and_lets_them_go_at_its_end() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        two_die = stage.order("two-die", ["node-1", "node-2"], kill=True, **{"for": "50s"})
        await asyncio.sleep(1)
        assert [processes.states[node].state for node in processes.nodes] == [
            "running",
            "stopped",
            "stopped",
            "running",
        ]
        assert stage.faults.detail("node-1") == "killed as ordered (fault two-die), back in 49 s"
        assert stage.faults.detail("node-0") == ""
        assert stage.faults.refusal("node-2", "restart") == "node-2 is kept dead by fault two-die: clear that first"
        assert stage.faults.hit_lately() == {"node-1", "node-2"}
        processes.start("node-1")  # somebody made its pod anew
        await asyncio.sleep(49)
        assert processes.of("node-1").count("hold") > processes.of("node-2").count("hold") > 3  # their leases go on
        stage.lift(two_die)
        await asyncio.sleep(1)
        assert {process.state for process in processes.states.values()} == {"running"}
        await asyncio.sleep(60)
        assert stage.faults.hit_lately() == set()
        assert not stage.faults.busy

    stage = acted(work, processes)
    assert sorted(stage.hit) == ["node-1", "node-1", "node-2"]
    assert processes.whys == {"fault two-die", ""}
    assert processes.of("node-1")[-1] == processes.of("node-2")[-1] == "release"
    assert processes.of("node-0") == []


def test_a_pause_waits_for_a_node_that_restarts_and_comes_again_after_each_restart() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        processes.start("node-0", after_s=3.0)
        nap = stage.order("nap", ["node-0"], pause=True)
        await asyncio.sleep(2)
        assert processes.acts == []
        assert stage.faults.lacking(nap) == ["node-0"]
        await asyncio.sleep(2)
        assert processes.state("node-0") == "paused"
        assert stage.faults.lacking(nap) == []
        assert stage.faults.detail("node-0") == "paused by fault nap"
        assert stage.faults.refusal("node-0", "resume").startswith("node-0 is paused by fault nap")
        assert stage.faults.refusal("node-0", "kill") == ""
        processes.start("node-0")
        await asyncio.sleep(1)
        assert processes.of("node-0") == ["pause", "pause"]
        stage.lift(nap)
        await asyncio.sleep(0.1)
        assert processes.state("node-0") == "running"

    acted(work, processes)


def test_of_two_faults_at_once_death_is_stronger_than_a_pause_and_each_lasts_until_its_own_end() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        nap = stage.order("nap", ["node-0"], pause=True)
        death = stage.order("death", ["node-0"], kill=True, **{"for": "1m"})
        await asyncio.sleep(1)
        assert processes.state("node-0") == "stopped"
        assert stage.faults.lacking(nap) == []  # nothing of it is left to do
        stage.lift(death)
        await asyncio.sleep(1)
        assert processes.state("node-0") == "paused"
        stage.order("other-nap", ["node-0"], pause=True)
        stage.lift(nap)
        await asyncio.sleep(1)
        assert processes.state("node-0") == "paused"

    acted(work, processes)


def test_what_somebody_else_paused_is_not_resumed_by_a_fault_that_ends() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        processes._set("node-0", "paused")
        nap = stage.order("nap", ["node-0"], pause=True)
        await asyncio.sleep(1)
        stage.lift(nap)
        await asyncio.sleep(1)

    acted(work, processes)
    assert processes.acts == []


def test_what_happens_once_happens_once_to_each_node_as_soon_as_it_runs() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        processes.start("node-1", after_s=5.0)
        stage.order("once", ["node-0", "node-1"], kill=True)
        stage.order("again", ["node-2"], restart=True)
        await asyncio.sleep(2)
        assert (processes.of("node-0"), processes.of("node-1"), processes.of("node-2")) == (["kill"], [], ["restart"])
        assert stage.done == ["again"]
        await asyncio.sleep(5)
        assert processes.of("node-1") == ["kill"]
        await asyncio.sleep(60)

    stage = acted(work, processes)
    assert stage.done == ["again", "once"]
    assert len(processes.acts) == 3


def test_a_node_that_never_runs_fails_what_was_to_happen_to_it() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        processes.start("node-0", after_s=1e4)
        fault = stage.order("once", ["node-0"], restart=True)
        await asyncio.sleep(actions.ONCE_S + 1)
        assert (fault.state, fault.problem) == ("failed", "node-0 did not run within 120 s")

    acted(work, processes)
    assert processes.acts == []


def test_nodes_that_share_a_process_die_together_and_that_is_said() -> None:
    processes = Processes(4, per_process=2)

    async def work(stage: Stage) -> None:
        fault = stage.order("death", ["node-1"], kill=True, **{"for": "30s"})
        await asyncio.sleep(1)
        assert [processes.states[node].state for node in processes.nodes] == [
            "stopped",
            "stopped",
            "running",
            "running",
        ]
        assert fault.note == "node-0 too: they share a process with its nodes"
        assert stage.faults.detail("node-0") == (
            "killed as ordered (fault death on node-1, which shares its process), back in 29 s"
        )
        stage.lift(fault)
        await asyncio.sleep(1)
        once = stage.order("once", ["node-2", "node-3"], kill=True)
        await asyncio.sleep(1)
        assert once.note == ""

    stage = acted(work, processes)
    assert stage.hit == ["node-0", "node-1", "node-2", "node-3"]
    assert [act[1:] for act in processes.acts] == [("node-0", "hold"), ("node-0", "release"), ("node-2", "kill")]


def test_a_churn_keeps_to_its_schedule() -> None:
    processes = Processes()
    schedule = [(1.0, "node-0"), (2.0, "node-3"), (12.0, "node-0")]

    async def work(stage: Stage) -> None:
        churn = stage.order("churn", processes.nodes, churn={"rate": "6/m", "down": "5s"})
        await asyncio.sleep(2.5)
        assert [processes.states[node].state for node in ("node-0", "node-3")] == ["stopped", "stopped"]
        assert stage.faults.detail("node-3") == "killed as ordered (fault churn), back in 4 s"
        assert stage.faults.lacking(churn) == []
        await asyncio.sleep(17.5)

    acted(work, processes, schedule=schedule)
    assert processes.acts == [
        (1.0, "node-0", "hold"), (2.0, "node-3", "hold"), (6.0, "node-0", "release"), (7.0, "node-3", "release"),
        (12.0, "node-0", "hold"), (17.0, "node-0", "release"),
    ]  # fmt: skip


def test_a_churn_whose_nodes_change_goes_on_with_those_that_are_left() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        churn = stage.order("churn", ["node-0", "node-3"], churn={"rate": "6/m", "down": "5s"})
        await asyncio.sleep(3)
        churn.nodes = ["node-0"]  # node-3 was scaled away
        processes.nodes.remove("node-3")
        stage.faults.want(stage.wanted)
        await asyncio.sleep(10)

    acted(work, processes, schedule=[(1.0, "node-0"), (2.0, "node-3")])
    assert processes.of("node-0") == ["hold", "release"]
    assert processes.of("node-3") == ["hold"]


def test_a_pod_that_does_not_answer_is_asked_again_and_the_fault_says_so() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        processes.refuse = TargetError("node-0: its pod demo-node-0 does not answer: no answer in time")
        fault = stage.order("nap", ["node-0"], pause=True)
        await asyncio.sleep(7)
        assert fault.note == "node-0: its pod demo-node-0 does not answer: no answer in time"
        assert fault.state == "active"
        assert 3 <= len(processes.acts) <= 4
        processes.refuse = None
        await asyncio.sleep(3)
        assert (processes.state("node-0"), fault.note) == ("paused", "")

    acted(work, processes)


def test_an_action_that_is_refused_fails_the_fault() -> None:
    processes = Processes()

    async def work(stage: Stage) -> None:
        processes.refuse = SpecError("not a ProcessAction: Invalid enum value 'hold'")
        fault = stage.order("death", ["node-0"], kill=True, **{"for": "1m"})
        await asyncio.sleep(30)
        assert (fault.state, fault.problem) == ("failed", "not a ProcessAction: Invalid enum value 'hold'")

    acted(work, processes)
    assert len(processes.acts) == 1


@pytest.mark.parametrize(
    ("wanted", "state", "ordered", "age_s", "action"),
    [
        ("dead", "running", "free", 0.0, "hold"),
        ("dead", "restarting", "free", 0.0, "hold"),
        ("dead", "running", "dead", 0.5, None),  # it is dying
        ("dead", "starting", "dead", 2.0, "hold"),  # its pod is another one
        ("dead", "stopped", "dead", 9.0, None),
        ("dead", "stopped", "dead", 10.0, "hold"),
        ("dead", "unknown", "dead", 2.0, None),
        ("paused", "starting", "free", 0.0, None),
        ("paused", "running", "paused", 0.0, "pause"),
        ("paused", "paused", "free", 99.0, None),
        ("paused", "paused", "paused", 10.0, "pause"),
        ("paused", "stopped", "dead", 0.0, "release"),
        ("free", "running", "free", 0.0, None),
        ("free", "stopped", "free", 0.0, None),
        ("free", "stopped", "dead", 0.0, "release"),
        ("free", "paused", "paused", 0.0, "resume"),
    ],
)
def test_what_is_ordered_follows_from_what_is_wanted_and_how_the_process_is(
    wanted: Any, state: Any, ordered: Any, age_s: float, action: str | None
) -> None:
    assert next_action(Wanted(wanted, ("x",), None), Process(state), Ordered(ordered, 0.0), age_s) == action
