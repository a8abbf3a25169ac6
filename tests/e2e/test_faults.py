"""Network and faults on whole subnets of this machine: what is slow is slow, who dies is dead, and all of it ends."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.patience import PATIENCE_S

Until = Callable[..., Any]


def write(person: Any, **spec: Any) -> Path:
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
    path: Path = person.folder / "subnet.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def faults(person: Any) -> dict[str, Any]:
    return {fault["name"]: fault for fault in person.document("status", "demo")["faults"]}


def degraded(person: Any) -> str:
    conditions = person.document("status", "demo")["conditions"]
    return next(str(one["message"]) for one in conditions if one["type"] == "Degraded")


def test_a_network_and_faults_come_into_force_with_the_subnet_and_end_when_they_are_cleared(
    person: Any, until: Until
) -> None:
    slow = {"from": "node-0", "to": "*", "latency": "600ms"}
    file = write(person, nodes=4, network={"rules": [slow]}, faults=[{"name": "deaf", "to": "node-3", "block": True}])
    person.run("up", "-f", str(file), "--no-wait", inside=True)
    until(lambda: person.document("status", "demo")["nodes"]["ready"] == 3)  # the fourth hears nobody
    status = faults(person)["deaf"]
    assert (status["state"], status["what"]) == ("active", "block from * to node-3")
    assert degraded(person).startswith("fault in force: deaf (block from * to node-3)")

    person.run("fault", "demo", "clear", "deaf", inside=True)
    person.run("up", "demo", inside=True)
    assert faults(person) == {}
    report = person.document("inject", "demo", "--size", "1KiB", "--count", "3", "--from", "node-0")
    assert report["verdict"] == "pass"
    assert 600 <= report["latency_ms"]["p50"] < 10_000  # a path that all packets of node-0 take


def test_nodes_that_die_in_a_run_cost_it_nothing_but_what_they_missed_and_come_back(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "5", inside=True)
    run = person.start("inject", "demo", "--size", "1KiB", "--count", "16", "--rate", "2/s", "--from", "node-0",
                       "--expect", "reach >= 95%", "--within", "40s", "-o", "json")  # fmt: skip
    until(lambda: any(run["state"] == "running" for run in person.document("status", "demo")["runs"]))
    person.run("fault", "demo", "add", "kill", "--node", "node-3,node-4", "--for", "8s", inside=True)
    dead = until(lambda: (one := person.member("demo", "node-4"))["state"] == "stopped" and one)
    assert dead["detail"].startswith("killed as ordered (fault kill-1), back in ")
    out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, err
    assert '"verdict": "pass"' in out.replace('"verdict":"pass"', '"verdict": "pass"')
    assert "kill-1" in out
    until(lambda: person.document("status", "demo")["nodes"]["connected"] == 5)
    assert [person.member("demo", node)["restarts"] for node in ("node-0", "node-3", "node-4")] == [0, 1, 1]
    assert faults(person)["kill-1"]["state"] == "ended"


def test_a_pack_of_which_one_node_is_paused_stands_still_as_a_whole_and_a_document_says_so(
    person: Any, until: Until
) -> None:
    nap = {"name": "nap", "from": "node-1", "pause": True}
    person.run("up", "-f", str(write(person, nodes=4, nodesPerPod=2)), inside=True)
    person.run("up", "-f", str(write(person, nodes=4, nodesPerPod=2, faults=[nap])), "--no-wait", inside=True)
    until(lambda: person.member("demo", "node-0")["state"] == "paused")
    assert person.member("demo", "node-0")["detail"] == "paused by fault nap on node-1, which shares its process"
    assert faults(person)["nap"]["detail"] == "node-0 too: they share a process with its nodes"
    assert person.member("demo", "node-2")["state"] != "paused"
    person.run("fault", "demo", "clear", "--all", inside=True)
    until(lambda: person.document("status", "demo")["nodes"]["connected"] == 4)


def test_a_lab_that_is_killed_takes_leased_faults_with_it_and_the_next_one_has_those_of_the_document(
    person: Any, until: Until
) -> None:
    file = write(person, nodes=3, faults=[{"name": "lossy", "loss": "1%"}])
    person.run("up", "-f", str(file), inside=True)
    person.run("fault", "demo", "add", "latency", "300ms", "--node", "node-1", "--for", "10m", inside=True)
    boot = person.subnet("demo") / "nodes" / "node-1" / "network.json"
    assert "300000000" in boot.read_text()
    os.kill(person.lab("demo"), signal.SIGKILL)
    until(lambda: not person.processes())
    person.run("up", "-f", str(file), inside=True)
    assert list(faults(person)) == ["lossy"]
    assert "300000000" not in boot.read_text()
