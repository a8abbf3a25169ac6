"""What a status says of nodes that do not answer: whose problem it is, since when, and nothing of those that start."""

from datetime import UTC, datetime, timedelta

from p2pnet.lab.backends.backend import Process
from p2pnet.lab.nodes.status_poller import Unresponsive
from p2pnet.lab.status import StatusInputs, status_of
from p2pnet.model.behaviours import Behaviour
from p2pnet.model.control import PeersReply, PeerState
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.model.report import Status

NOW = datetime(2026, 11, 29, tzinfo=UTC)
NODES = [f"node-{index}" for index in range(4)]


# --- the status ---


def status(
    processes: dict[str, Process] | None = None, *, answer: list[str] = NODES, silent: dict[str, float] | None = None,
    linked: set[frozenset[str]] | None = None, phase: str = "", behaviours: dict[str, Behaviour] | None = None,
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
            heard={name: NOW.timestamp() - 1 for name in answer}, behaviours=behaviours or {},
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


def test_nodes_that_start_are_no_problem():
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


def test_many_degraded_nodes_are_counted_and_few_named():
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


def test_links_that_everybody_refuses_are_not_missing():
    others = [name for name in NODES if name != "node-0"]
    linked = {frozenset((a, b)) for a in others for b in others if a != b}
    found = status(linked=linked, behaviours={"node-0": "stale-certificate", "node-1": "lying"})
    assert found.links.up == found.links.expected == len(linked)
    assert condition(found, "Ready")[0] == "True"
    assert details(found) == {"node-0": "shows a certificate that has ended: its peers refuse it, as they should"}
    assert [one.behaviour for one in found.members[:2]] == ["stale-certificate", "lying"]
    assert found.certificates.issued == len(others)
