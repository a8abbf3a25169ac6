"""What the supervisor does about a pod's agent, with a supervisor and an agent that only pretend."""

import os
import selectors
import time
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest

from p2pnet.model.agent import NodeProcess, ProcessAction
from p2pnet.supervisor import child
from p2pnet.supervisor.agent_process import SETTLED_S, AgentProcess
from p2pnet.supervisor.lines import AgentRequest, ProcessTable, Request
from p2pnet.supervisor.supervisor import Supervisor


class FakeSupervisor:
    """One node, and everything it was asked and told."""

    def __init__(self) -> None:
        self.selector = selectors.PollSelector()
        self.companion: AgentProcess | None = None
        self.executed: list[Request] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refuse = ""

    def processes(self) -> list[NodeProcess]:
        return [NodeProcess("node-0", "running", starts=len(self.executed))]

    def execute(self, request: Request) -> None:
        self.executed.append(request)
        if self.refuse:
            self.tell("refused", name=request.name, message=self.refuse)

    def tell(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields))
        assert self.companion is not None
        self.companion.event(event, fields)


class Stage:
    """The agent process, with the agent's ends of its pipes at hand; nothing is forked and nothing killed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.supervisor = FakeSupervisor()
        self.killed: list[int] = []
        self.pids = 100
        self.ends: tuple[int, int] | None = None
        monkeypatch.setattr(child, "fork", self._fork)
        monkeypatch.setattr(os, "kill", lambda pid, _number: self.killed.append(pid))
        self.agent = AgentProcess(cast("Supervisor", self.supervisor), lambda _tables, _requests: None)

    def _fork(self, _run: object, fds: tuple[int, int]) -> int:
        self.close()
        self.ends = (os.dup(fds[0]), os.dup(fds[1]))
        os.set_blocking(self.ends[0], False)
        self.pids += 1
        return self.pids

    def turn(self, now_s: float = 0.0) -> None:
        """One turn of the supervisor's loop."""
        for key, _ in self.supervisor.selector.select(0):
            key.data()
        self.agent.advance(now_s)

    def tables(self) -> list[ProcessTable]:
        """What the agent can read now."""
        assert self.ends is not None
        try:
            lines = os.read(self.ends[0], 1 << 16).splitlines()
        except BlockingIOError:
            return []
        return [msgspec.json.decode(line, type=ProcessTable) for line in lines]

    def ask(self, number: int, action: ProcessAction) -> None:
        assert self.ends is not None
        os.write(self.ends[1], msgspec.json.encode(AgentRequest(number, action)) + b"\n")

    def close(self) -> None:
        for fd in self.ends or ():
            os.close(fd)
        self.ends = None


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(monkeypatch)
    made.turn()
    yield made
    made.close()
    made.turn()
    made.supervisor.selector.close()


def test_an_agent_is_sent_all_nodes_at_its_start_and_again_when_something_happens(stage: Stage) -> None:
    assert [table.nodes[0].name for table in stage.tables()] == ["node-0"]
    stage.turn()
    assert stage.tables() == []
    stage.supervisor.tell("ready", name="node-0")
    stage.turn()
    assert len(stage.tables()) == 1


def test_a_request_is_executed_and_the_next_table_names_it_as_done(stage: Stage) -> None:
    stage.tables()
    stage.ask(1, ProcessAction("node-0", "pause"))
    stage.turn()
    [table] = stage.tables()
    assert stage.supervisor.executed == [Request("pause", "node-0")]
    assert (table.done, table.refused, table.nodes[0].starts) == (1, {}, 1)


def test_a_request_that_is_refused_is_answered_with_the_reason(stage: Stage) -> None:
    stage.tables()
    stage.supervisor.refuse = "it was never started"
    stage.ask(1, ProcessAction("node-0", "restart"))
    stage.turn()
    [table] = stage.tables()
    assert (table.done, table.refused) == (1, {1: "it was never started"})


def test_an_agent_that_closes_its_pipes_is_killed(stage: Stage) -> None:
    stage.close()
    stage.turn()
    assert stage.killed == [101]


def test_an_agent_that_dies_is_started_again_with_growing_pauses(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for lived in (1.0, 1.0, 1.0, SETTLED_S):
        now += lived
        stage.agent.reaped(stage.pids, -9)
        event, fields = stage.supervisor.told[-1]
        assert (event, fields["code"]) == ("agent-exited", -9)
        pauses.append(fields["restart_in_s"])
        due = stage.agent.next_wakeup_s()
        assert due is not None
        now = due
        stage.turn(now)
        assert stage.agent.next_wakeup_s() is None
    assert pauses == [0.2, 0.4, 0.8, 0.2]


def test_the_end_of_another_process_is_none_of_the_agents(stage: Stage) -> None:
    stage.agent.reaped(7, 0)
    assert stage.supervisor.told == []
