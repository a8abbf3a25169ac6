"""What a status says of nodes that do not answer: whose trouble it is, since when, and nothing of those that start."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from p2pnet.lab.backends.backend import Process
from p2pnet.lab.nodes.status_poller import SILENT_S, Liveness, Unresponsive
from p2pnet.lab.runs.runner import notes_about_nodes
from p2pnet.lab.status import StatusInputs, status_of
from p2pnet.model.control import PeersReply, PeerState
from p2pnet.model.jobs import LogLine
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.model.report import Status

NOW = datetime(2026, 11, 29, tzinfo=UTC)
NODES = [f"node-{index}" for index in range(4)]


class Hands:
    def __init__(self) -> None:
        self.now = 1000.0
        self.counts = True
        self.liveness = Liveness(
            lambda _node: "idle 0x0", lambda _node: "its process 7 runs", lambda _node: self.counts, lambda: self.now
        )


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_a_node_is_silent_when_it_has_not_answered_for_a_while(hands):
    hands.liveness.heard("a")
    hands.now += 60  # nobody asked
    assert hands.liveness.unresponsive("a") is None
    hands.liveness.unanswered("a", 1058.0)
    assert hands.liveness.unresponsive("a") is None
    hands.now += SILENT_S
    assert hands.liveness.unresponsive("a") == Unresponsive(1058.0, "idle 0x0")
    assert hands.liveness.last_heard("a") == 1000.0
    hands.liveness.heard("a")
    assert hands.liveness.unresponsive("a") is None


def test_a_silence_is_logged_once_with_its_end_and_how_long_it_was(hands, caplog):
    caplog.set_level(logging.INFO)
    hands.liveness.heard("a")
    for _ in range(20):
        hands.liveness.unanswered("a", hands.now)
        hands.now += 1
    hands.liveness.heard("a")
    hands.liveness.heard("a")
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("WARNING", "a: silent for 5 s; its process 7 runs; idle 0x0"), ("INFO", "a: answers again after 20.0 s of silence"),
    ]  # fmt: skip


def test_who_is_paused_starts_or_is_gone_is_not_silent_in_the_log(hands, caplog):
    caplog.set_level(logging.INFO)
    hands.counts = False
    for _ in range(20):
        hands.liveness.unanswered("a", hands.now)
        hands.now += 1
    hands.liveness.changed("a", gone=True)
    hands.liveness.heard("a")
    assert caplog.records == []
    hands.liveness.keep(set())
    assert hands.liveness.last_heard("a") is None


# --- the status ---


def status(
    processes: dict[str, Process] | None = None, *, answer: list[str] = NODES, silent: dict[str, float] | None = None,
    linked: set[frozenset[str]] | None = None, phase: str = "",
) -> Status:  # fmt: skip
    members = [Member(name, f"spiffe://{name}", ["127.0.0.1:1"]) for name in NODES]
    views = {
        name: PeersReply(
            name, "i", "b", 1, 1, NODES,
            [PeerState(o, 1, 0.1, 0, 0) for o in NODES
             if o != name and (linked is None or frozenset((o, name)) in linked)],
            0, 0, 0.0, NOW.timestamp() + 3600, 0, 0, ready=True,
        )
        for name in answer
    }  # fmt: skip
    return status_of(
        StatusInputs(
            name="demo", target="local", seed=1, ready_share=1.0, membership=Membership(Registry(1, members)),
            groups=dict.fromkeys(NODES, "node"), peers=views, leaves={}, now=NOW, phase=phase,
            processes={name: Process("running", 7) for name in NODES} | (processes or {}),
            unresponsive={name: Unresponsive(NOW.timestamp() - ago, "idle 0x0") for name, ago in (silent or {}).items()},
            heard={name: NOW.timestamp() - 1 for name in answer},
        )
    )  # fmt: skip


def details(found: Status) -> dict[str, str]:
    return {one.name: one.detail for one in found.members if one.detail}


def condition(found: Status, kind: str) -> tuple[str, str]:
    return next((one.status, one.message) for one in found.conditions if one.type == kind)


def test_the_silence_of_one_node_is_told_with_that_node_alone():
    found = status(answer=NODES[:3], silent={"node-3": 12})
    assert [one.state for one in found.members] == ["ready", "ready", "ready", "unknown"]
    assert details(found) == {
        "node-3": "silent for 12 s; its process 7 runs but does not answer; idle 0x0; 3 of 3 peers still have a link with it"
    }
    silent = found.members[3]
    assert silent.silent_since == "2026-11-28T23:59:48Z"
    assert silent.last_heard is None
    assert (found.members[0].silent_since, found.members[0].last_heard) == (None, "2026-11-28T23:59:59Z")
    assert condition(found, "Connected") == ("False", "links 3/6; node-3 not there")
    assert condition(found, "Degraded")[1].startswith("node-3 silent for 12 s")


def test_a_process_stopped_by_somebody_is_told_at_once_and_is_not_called_paused():
    words = "process 7 is stopped by SIGSTOP, which nobody here ordered (kill -CONT 7)"
    found = status({"node-3": Process("unknown", 7, 0, words, halted=True)})
    assert (found.members[3].state, found.members[3].detail) == ("unknown", words)
    assert condition(found, "Degraded") == ("True", f"node-3 {words}")
    paused = status({"node-3": Process("paused", 7, 0, "paused by the lab")}, answer=NODES[:3], silent={"node-3": 30})
    assert (paused.members[3].state, paused.members[3].detail) == ("paused", "paused by the lab")
    assert paused.members[3].silent_since is None
    assert condition(paused, "Degraded") == ("True", "node-3 paused")


def test_nodes_that_start_are_no_trouble():
    starting = {name: Process("starting") for name in NODES}
    found = status(starting, answer=[], silent=dict.fromkeys(NODES, 9.0))
    assert {one.state for one in found.members} == {"starting"}
    assert condition(found, "Degraded") == ("False", "")
    assert condition(found, "Progressing")[0] == "True"
    assert details(found) == {}


def test_a_missing_link_is_told_of_by_the_end_that_lacks_more():
    others = {frozenset((a, b)) for a in NODES[:3] for b in NODES[:3] if a != b}
    assert details(status(linked=others)) == {"node-3": "no link with node-0, node-1, node-2"}
    pairs = {frozenset((a, b)) for a in NODES for b in NODES if a != b} - {frozenset(("node-0", "node-1"))}
    assert details(status(linked=pairs)) == {"node-0": "no link with node-1", "node-1": "no link with node-0"}


def test_many_troubled_nodes_are_counted_and_few_named():
    found = status({name: Process("restarting") for name in NODES}, answer=[])
    assert condition(found, "Degraded")[1] == "; ".join(f"{name} restarting" for name in NODES)


def test_the_silence_of_a_node_in_a_pod_says_what_its_agent_says():
    found = status(
        {"node-3": Process(detail="its pod does not answer: timeout")}, answer=NODES[:3], silent={"node-3": 8}
    )
    assert found.members[3].detail == (
        "silent for 8 s; its pod does not answer: timeout; idle 0x0; 3 of 3 peers still have a link with it"
    )
    assert NOW - timedelta(seconds=8) == datetime.fromisoformat(found.members[3].silent_since or "")


def test_a_report_notes_what_happened_to_nodes_unless_its_run_ordered_it():
    def warned(node: str, text: str) -> LogLine:
        return LogLine(1.0, node, f"2026-11-29T00:20:33.250Z WARNING p2pnet.lab.nodes: {node}: {text}", "WARNING")

    said = [warned("a", "stopped: by SIGSTOP"), warned("b", "killed"), warned("a", "silent for 6 s")]
    assert notes_about_nodes(said, {"b"}, "p2pnet logs demo --run r") == [
        "a: stopped: by SIGSTOP (and 1 more warning: p2pnet logs demo --run r)"
    ]
    many = notes_about_nodes([warned(f"n{index}", "x") for index in range(9)], set(), "LOGS")
    assert len(many) == 6
    assert many[-1] == "4 more nodes had problems: LOGS"
