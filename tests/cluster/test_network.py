"""The emulated network and its faults in pods: in force from the first datagram, edited, measured, re-applied, healed."""

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.demo import KINDS, Demo
from tests.cluster.kit import Cluster, conditions, until

CUT = {"name": "cut", "from": "eu-0", "to": "us-1", "bothWays": True, "block": True}
SOON_S = 15.0
"""For an edit or an order to be in force: seconds on a machine that is busy."""
QUIET_S = 7.0  # longer than the operator puts off a status in which only counts have changed
LEASE_S = 60.0  # lab and nodes together: a node heals itself 30 s after its lab's last word


def network(latency: str = "40ms") -> dict[str, Any]:
    """Two regions, 3 ms within each; from one to the other `latency`, and back half as much."""
    return {
        "default": {"latency": "3ms"},
        "rules": [
            {"from": "region=eu", "to": "region=us", "latency": latency, "jitter": "2ms", "loss": "1%"},
            {"from": "region=us", "to": "region=eu", "latency": "20ms"},
        ],
        "access": {"groups": {"us": {"up": "50Mbit", "down": "100Mbit"}}},
    }


@pytest.fixture(scope="module")
def place(operator: Cluster) -> Iterator[str]:
    """A namespace for this file."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    operator.kubectl("create", "namespace", name)
    yield name
    operator.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def subnet(operator: Cluster, place: str) -> Demo:
    """Two nodes in each of two regions; two of them have been cut from each other since before they started."""
    groups = [{"name": name, "nodes": 2, "labels": {"region": name}} for name in ("eu", "us")]
    demo = Demo(operator, place, {"groups": groups, "network": network(), "faults": [CUT]})
    until(lambda: links(demo) == 5, "all links are up but the one that is cut", within_s=180)
    assert peers_met(demo, "us-1") == 2, "not even a handshake has come through"
    return demo


@pytest.fixture
def demo(subnet: Demo) -> Demo:
    """The Subnet with its network, without faults, connected."""
    subnet.p2pnet("fault", "demo", "clear", "--all")
    subnet.patch({"network": network(), "faults": None})
    subnet.until_ready(4)
    return subnet


def links(demo: Demo) -> int:
    """Links that are up, as the lab counts them; 0 before there is a lab."""
    done = demo.cluster.p2pnet(
        "status", "demo", "--on", "cluster", "--namespace", demo.namespace, "-o", "json", check=False
    )
    return int(json.loads(done.stdout)["links"]["up"]) if done.returncode == 0 else 0


def peers_met(demo: Demo, node: str) -> int:
    """How often the node's process of now has begun a link with a peer."""
    page = demo.page(f"demo-{node}")
    [count] = [line for line in page.splitlines() if line.startswith('p2pnet_node_events_total{kind="peer-up"}')]
    return int(float(count.rpartition(" ")[2]))


def inject(demo: Demo, *words: str) -> dict[str, Any]:
    """A run of 1 KiB from a node of the region eu."""
    report: dict[str, Any] = demo.p2pnet("inject", "demo", "--size", "1KiB", "--from", "eu-1", *words)
    return report


def row(report: dict[str, Any], rule: str) -> dict[str, Any]:
    """What was asked and seen of all links that a rule governs."""
    [found] = [one for one in report["network"] if one["rule"] == rule and not one["worst"]]
    assert isinstance(found, dict)
    return found


def faults(demo: Demo) -> dict[str, str]:
    """The state of every fault, as the Subnet object shows it."""
    return {one["name"]: one["state"] for one in demo.status().get("faults", [])}


def column(demo: Demo) -> str:
    """FAULTS of `kubectl get -o wide`."""
    header, line = demo.kubectl("get", "subnet", "demo", "-o", "wide").splitlines()
    begin = header.index("FAULTS")
    return line[begin : header.index("EXPIRY")].strip()


def test_a_network_is_in_force_as_asked_and_an_edit_of_it_replaces_no_pod(demo: Demo) -> None:
    before = demo.uids()
    report = inject(demo, "--count", "10", "--rate", "5/s")
    assert (report["verdict"], report["invalid"]) == ("pass", []), report
    assert all(one["ok"] for one in report["network"]), report["network"]
    there = row(report, "rules[0]")
    assert (there["from"], there["to"]) == ("region=eu", "region=us")
    assert (there["asked"]["delay_ms"], there["asked"]["loss"]) == (40, 0.01)
    assert there["seen"]["delay_ms"] == pytest.approx(40, rel=0.1)
    assert (there["links"], there["seen"]["samples"] > 0) == (4, True)
    assert row(report, "rules[1]")["asked"]["delay_ms"] == 20
    assert row(report, "default")["asked"]["delay_ms"] == 3
    assert report["latency_ms"]["p50"] >= 36, "two of three receipts came over an ocean"

    demo.kubectl(
        "patch", "subnet", "demo", "--type=merge", "--patch", json.dumps({"spec": {"network": network("80ms")}})
    )
    until(lambda: asked(demo, "rules[0]") == 80, "the lab asks for what the edit says", within_s=SOON_S)
    report = inject(demo)
    assert (report["verdict"], row(report, "rules[0]")["asked"]["delay_ms"]) == ("pass", 80), report
    assert report["latency_ms"]["p50"] >= 72
    assert demo.uids() == before
    assert demo.restarts() == 0


def asked(demo: Demo, rule: str) -> float | None:
    """The delay that a rule asks for, as `status` has it."""
    rows = [one for one in demo.p2pnet("status", "demo")["network"] if one["rule"] == rule and not one["worst"]]
    return rows[0]["asked"]["delay_ms"] if rows else None


def test_faults_of_a_command_line_are_shown_by_kubectl_and_runs_under_them_are_judged(demo: Demo) -> None:
    before = demo.uids()
    run = inject(demo, "--count", "40", "--rate", "5/s", "--expect", "reach >= 90%", "--no-wait")["run"]
    demo.p2pnet("fault", "demo", "add", "kill", "--node", "us-1")
    report = demo.p2pnet("report", "demo", run)
    assert (report["verdict"], report["invalid"]) == ("pass", []), report
    assert [one["name"] for one in report["faults"]] == ["kill-1"]
    demo.until_ready(4)

    demo.p2pnet("fault", "demo", "add", "block", "--from", "eu-0", "--to", "us-0", "--for", "5m")
    demo.p2pnet("fault", "demo", "add", "pause", "--node", "us-1", "--for", "20s")
    demo.p2pnet("fault", "demo", "add", "loss", "5%", "--from", "group=eu", "--keep", "--name", "wet")
    assert demo.subnet()["spec"]["faults"] == [{"name": "wet", "loss": "5%", "from": "group=eu"}]
    state = {one["name"]: one["state"] for one in demo.p2pnet("fault", "demo", "list")["faults"]}
    assert state == {"wet": "active", "kill-1": "ended", "block-1": "active", "pause-1": "active"}
    until(lambda: faults(demo) == state, "the object tells of them", within_s=SOON_S)
    assert column(demo) == "wet, block-1, pause-1"
    what = demo.kubectl("get", "subnet", "demo", "-o", "jsonpath={.status.faults[?(@.name=='wet')].what}")
    assert what == "loss 5% from group=eu to *"
    until(lambda: faults(demo)["pause-1"] == "ended", "the pause is over by itself", within_s=60)

    assert set(demo.p2pnet("fault", "demo", "clear", "--all")["cleared"]) >= {"wet", "block-1"}
    assert not demo.subnet()["spec"].get("faults")
    until(lambda: column(demo) == "", "nothing is in force", within_s=SOON_S)
    demo.until_ready(4)
    assert demo.uids() == before
    assert demo.restarts() == 1, "the kill was of a node, not of a container"


def test_nodes_heal_themselves_without_a_lab_and_faults_of_the_document_outlive_lab_and_pods(demo: Demo) -> None:
    demo.patch({"faults": [CUT]})
    held: list[int] = []
    words = ("fault", "demo", "add", "latency", "90ms", "--node", "eu-1", "--name", "slow")
    there = ("--on", "cluster", "--namespace", demo.namespace)
    holder = threading.Thread(target=lambda: held.append(demo.cluster.p2pnet(*words, *there, check=False).returncode))
    holder.start()
    until(lambda: faults(demo) == {"cut": "active", "slow": "active"}, "both are in force", within_s=SOON_S)

    demo.annotate("paused", "true")
    demo.kubectl("delete", "pod", "demo-lab", "--wait=true")
    healed = "the lab has not renewed its lease"
    until(lambda: healed in demo.kubectl("logs", "demo-eu-1"), "the node heals itself", within_s=LEASE_S)
    demo.annotate("paused", "false")
    until(lambda: faults(demo) == {"cut": "active"}, "a new lab knows the document's fault alone", within_s=LEASE_S)
    holder.join(LEASE_S)
    assert held == [5], "the command says that its fault has ended before it did"

    demo.kubectl("delete", "pod", "demo-us-1", "--wait=true")
    until(lambda: len(demo.uids()) == 4 and links(demo) == 5, "all links are up but the one that is cut")
    assert peers_met(demo, "us-1") == 2, "not even a handshake has come through"
    report = inject(demo)
    assert report["verdict"] == "pass", report
    assert row(report, "rules[0] + fault cut")["asked"]["loss"] == 1


def test_at_rest_nothing_is_written_though_rules_are_measured_and_leases_renewed(demo: Demo) -> None:
    demo.patch({"faults": [{"name": "wet", "loss": "5%"}]})
    demo.p2pnet("fault", "demo", "add", "latency", "10ms", "--for", "10m", "--name", "slow")
    until(lambda: faults(demo) == {"wet": "active", "slow": "active"}, "both are in force", within_s=SOON_S)
    until(lambda: conditions(demo.subnet())["Ready"] == "True", "it is at rest")

    def versions() -> dict[str, str]:
        things = [
            one for plural in KINDS for one in demo.cluster.objects(plural, demo.namespace, "p2pnet.io/subnet=demo")
        ]
        return {one["metadata"]["uid"]: one["metadata"]["resourceVersion"] for one in (*things, demo.subnet())}

    before = versions()
    stop = threading.Event()
    stop.wait(QUIET_S)
    assert versions() == before
