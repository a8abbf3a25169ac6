"""The emulated network and its faults in pods: in force from the first datagram, edited, measured, re-applied, healed."""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cluster.demo import KINDS, READY_S, Demo
from tests.cluster.kit import Cluster, conditions, until
from tests.cluster.live_page import LiveTab, served

CUT = {"name": "cut", "from": "us-1", "bothWays": True, "block": True}
"""A node that no other one can reach: were its first datagrams not shaped, it would meet its peers before the lab."""
SOON_S = 45.0
"""For an edit or an order to be in force: seconds on a machine that is busy; who looks by himself only does so every 60 s."""
TRIES = 4
VISIT_S = 600.0
"""For a look at the live page: as long as all its waits together."""
LEASE_S = 150.0
"""Lab and nodes together, on a busy machine: a node heals itself 30 s after its lab's last word."""

LEASE = """
import asyncio, sys
from pathlib import Path
from p2pnet.cli.targets.cluster.target import ClusterTarget
from p2pnet.lab_client.kube import Kube
from p2pnet.model.jobs import FaultRequest
from p2pnet.store import State

async def lease(namespace, action):
    async with ClusterTarget(State(Path("/nonexistent")), Kube.open(None, namespace)).lab("demo") as client:
        if action == "add":
            await client.add_fault(FaultRequest({"name": "slow", "latency": "10ms"}, 60.0))
        for second in range(8 if action == "renew" else 0):
            await client.renew_fault("slow", 60.0 + second)
            await asyncio.sleep(1)

asyncio.run(lease(*sys.argv[1:]))
"""


def network(latency: str = "200ms") -> dict[str, Any]:
    """Two regions; delays and a jitter so long that a machine which is busy, and late by some 20 ms, keeps them, too."""
    return {
        "default": {"latency": "100ms"},
        "rules": [
            {"from": "region=eu", "to": "region=us", "latency": latency, "jitter": "60ms", "loss": "1%"},
            {"from": "region=us", "to": "region=eu", "latency": "150ms"},
        ],
        "access": {"groups": {"us": {"up": "50Mbit", "down": "100Mbit"}}},
    }


@pytest.fixture(scope="module")
def place(operator: Cluster) -> Iterator[str]:
    """A namespace for this file."""
    name = operator.namespace(f"test-{uuid.uuid4().hex[:8]}", restricted=False)
    yield name
    operator.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def subnet(operator: Cluster, place: str) -> Demo:
    """Two nodes in each of two regions; one of them has been cut from all others since before it was started."""
    groups = [{"name": name, "nodes": 2, "labels": {"region": name}} for name in ("eu", "us")]
    demo = Demo(operator, place, {"groups": groups, "network": network(), "faults": [CUT]})
    until(lambda: links(demo) == 3 and has_network(demo, "us-1"), "all links are up but those that are cut", READY_S)
    assert peers_met(demo, "us-1") == 0
    return demo


@pytest.fixture
def demo(subnet: Demo) -> Demo:
    """The Subnet with its network, without faults, connected."""
    subnet.p2pnet("fault", "demo", "clear", "--all")
    subnet.patch({"network": network(), "faults": None})
    subnet.until_ready(4)
    until(lambda: links(subnet) == 6, "all links are up", READY_S)  # one that was cut may only now be dialled again
    return subnet


def links(demo: Demo) -> int:
    """Links that are up, as the lab counts them; 0 before there is a lab."""
    done = demo.cluster.p2pnet(
        "status", "demo", "--on", "cluster", "--namespace", demo.namespace, "-o", "json", check=False
    )
    return int(json.loads(done.stdout)["links"]["up"]) if done.returncode == 0 else 0


def has_network(demo: Demo, node: str) -> bool:
    """Whether the node's process of now has been told what the network does."""
    words = ("exec", "kubectl", "logs", "--namespace", demo.namespace, f"demo-{node}")
    return "is in force" in demo.cluster.script(*words, check=False).stdout  # perhaps there is no container yet


def peers_met(demo: Demo, node: str) -> int:
    """How often a handshake of the node's process with a peer has come through since it was started."""
    [count] = [line for line in demo.page(f"demo-{node}").splitlines() if 'events_total{kind="peer-up"}' in line]
    return int(float(count.rpartition(" ")[2]))


def inject(demo: Demo, *words: str) -> dict[str, Any]:
    """A run of 1 KiB from a node of the region eu, as the command line tells it."""
    expected = () if "--expect" in words else ("--expect", "reach >= 0%")
    told: dict[str, Any] = demo.p2pnet(
        "inject", "demo", "--size", "1KiB", "--from", "eu-1", *expected, *words, check=False
    )
    return told


def valid(run: Callable[[], dict[str, Any]], measured: str = "") -> dict[str, Any]:
    """The report of a run that is valid, and all links of a rule measured.

    A machine that is busy for a while may not keep to what the network should do, nor probe all links in the seconds
    before a run.
    """
    for _ in range(TRIES):
        report = run()
        rows = [row(report, measured)] if measured else []
        if not report["invalid"] and all(one["links"] == one["links_total"] for one in rows):
            break
    assert report["invalid"] == [], report
    return report


def row(report: dict[str, Any], rule: str) -> dict[str, Any]:
    """What was asked and seen of all links that a rule governs."""
    [found] = [one for one in report["network"] if one["rule"] == rule and not one["worst"]]
    assert isinstance(found, dict)
    return found


def faults(demo: Demo) -> dict[str, str]:
    """The state of every fault that is not over, as the Subnet object shows it."""
    shown = {one["name"]: one["state"] for one in demo.status().get("faults", [])}
    return {name: state for name, state in shown.items() if state != "ended"}


def states(demo: Demo) -> dict[str, str]:
    """The state of every fault, as the command line lists them."""
    return {one["name"]: one["state"] for one in demo.p2pnet("fault", "demo", "list")["faults"]}


def column(demo: Demo) -> str:
    """FAULTS of `kubectl get -o wide`."""
    header, line = demo.kubectl("get", "subnet", "demo", "-o", "wide").splitlines()
    begin = header.index("FAULTS")
    return line[begin : header.index("EXPIRY")].strip()


@pytest.mark.alone
def test_a_network_is_in_force_as_asked_and_an_edit_of_it_replaces_no_pod(demo: Demo) -> None:
    before, restarts = demo.uids(), demo.restarts()  # another test may have ordered some
    report = valid(lambda: inject(demo, "--count", "10", "--rate", "5/s"), "rules[0]")
    assert (report["verdict"], report["reach"]["ratio"]) == ("pass", 1), report
    assert all(one["ok"] for one in report["network"]), report["network"]
    there = row(report, "rules[0]")
    assert (there["from"], there["to"]) == ("region=eu", "region=us")
    assert (there["asked"]["delay_ms"], there["asked"]["loss"]) == (200, 0.01)
    assert there["seen"]["delay_ms"] == pytest.approx(200, rel=0.3)
    assert (there["links"], there["links_total"], there["seen"]["samples"] > 0) == (4, 4, True), report["network"]
    assert row(report, "rules[1]")["asked"]["delay_ms"] == 150
    assert row(report, "default")["asked"]["delay_ms"] == 100
    # Jitter that keeps order moves slowly: an ocean may be narrow for as long as a run lasts. The default's way is not.
    assert report["latency_ms"]["p95"] >= 100, report["latency_ms"]

    demo.kubectl(
        "patch", "subnet", "demo", "--type=merge", "--patch", json.dumps({"spec": {"network": network("600ms")}})
    )
    until(lambda: asked(demo, "rules[0]") == 600, "the lab asks for what the edit says", within_s=SOON_S)
    report = valid(lambda: inject(demo))
    assert (report["verdict"], row(report, "rules[0]")["asked"]["delay_ms"]) == ("pass", 600), report
    assert report["latency_ms"]["p50"] >= 400
    assert (demo.uids(), demo.restarts()) == (before, restarts)


def asked(demo: Demo, rule: str) -> float | None:
    """The delay that a rule asks for, as `status` has it."""
    rows = [one for one in demo.p2pnet("status", "demo")["network"] if one["rule"] == rule and not one["worst"]]
    return rows[0]["asked"]["delay_ms"] if rows else None


def test_faults_of_a_command_line_are_shown_by_kubectl_and_runs_under_them_are_judged(demo: Demo) -> None:
    before, restarts = demo.uids(), demo.restarts()
    kills = 0

    def killed() -> dict[str, Any]:
        nonlocal kills
        kills += 1
        demo.until_ready(4)
        run = inject(demo, "--count", "60", "--rate", "5/s", "--expect", "reach >= 90%", "--no-wait")["run"]
        demo.p2pnet("fault", "demo", "add", "kill", "--node", "us-1", "--name", "dead")
        report: dict[str, Any] = demo.p2pnet("report", "demo", run, check=False)
        return report

    report = valid(killed)
    assert (report["verdict"], [one["name"] for one in report["faults"]]) == ("pass", ["dead"]), report
    demo.until_ready(4)

    demo.p2pnet("fault", "demo", "add", "block", "--from", "eu-0", "--to", "us-0", "--for", "5m")
    demo.p2pnet("fault", "demo", "add", "loss", "5%", "--from", "group=eu", "--keep", "--name", "wet")
    demo.p2pnet("fault", "demo", "add", "pause", "--node", "us-1", "--for", "5m")
    assert demo.subnet()["spec"]["faults"] == [{"name": "wet", "loss": "5%", "from": "group=eu"}]
    active = dict.fromkeys(("wet", "block-1", "pause-1"), "active")
    assert states(demo).items() >= {"dead": "ended", **active}.items()
    until(lambda: faults(demo) == active, "the object tells of them", within_s=SOON_S)
    assert column(demo) == "wet, block-1, pause-1"
    what = demo.kubectl("get", "subnet", "demo", "-o", "jsonpath={.status.faults[?(@.name=='wet')].what}")
    assert what == "loss 5% from group=eu to *"
    demo.p2pnet("fault", "demo", "add", "pause", "--node", "eu-1", "--for", "2s", "--name", "short")
    until(lambda: states(demo).get("short") == "ended", "a pause is over by itself", within_s=SOON_S)

    assert set(demo.p2pnet("fault", "demo", "clear", "--all")["cleared"]) >= {"wet", "block-1"}
    assert not demo.subnet()["spec"].get("faults")
    until(lambda: column(demo) == "", "nothing is in force", within_s=SOON_S)
    demo.until_ready(4)
    assert demo.uids() == before
    assert demo.restarts() == restarts + kills, "each kill was of a node, not of a container"


def test_the_live_page_shows_a_subnet_through_the_api_server_and_its_buttons_break_and_heal(demo: Demo) -> None:
    ended: list[int] = []
    with served(demo.cluster, demo.namespace, ended) as address:
        demo.cluster.do(visit(address), VISIT_S)
    assert ended == [130]
    assert demo.until_ready(4), "the Subnet goes on"


async def visit(address: str) -> None:
    """What a browser would do, and what another page and another program of the machine would try."""
    async with LiveTab(address) as tab:
        assert (await tab.get(tab.base))[0] == 403, "without the token"
        assert (await tab.order(verb="inject"))[0] == 403
        assert (await tab.get(f"{tab.base}/?token=x"))[0] == 403
        status, page = await tab.get(address)
        assert status == 200
        assert all(f'"{node}"' in page for node in ("eu-0", "eu-1", "us-0", "us-1"))
        assert (await tab.get(address))[0] == 403, "it works once"
        assert (await tab.get(tab.base, Host="rebound.example"))[0] == 403
        assert (await tab.get(tab.base, Origin="http://evil.example"))[0] == 403
        assert (await tab.order(origin="http://evil.example", verb="inject"))[0] == 403
        async with tab.listening() as heard:
            await heard.until(lambda: heard.status.get("nodes") == {"desired": 4, "connected": 4})
            before = set(heard.receipts)  # of other tests
            status, said = await tab.order(verb="inject", size="1KiB", count="12", rate="2/s")
            assert status == 200, said
            assert said["command"].startswith("p2pnet inject demo --size 1KiB --count 12 --rate 2/s --no-wait")
            await heard.until(lambda: [len(heard.receipts[one]) for one in heard.receipts.keys() - before] == [3] * 12)
            await heard.until(lambda: sum(cell[2] for cell in heard.parts["traffic"]["receipts"]) >= 36)
            await heard.until(lambda: (heard.parts["series"] or {}).get("total") == 4)
            assert heard.parts["reach"]["received"][-1] >= 36
            status, said = await tab.order(verb="break", kind="loss", value="20%", lasting="5m")
            assert status == 200, said
            [fault] = await heard.until(lambda: heard.status["faults"])
            await heard.until(
                lambda: [one["state"] for one in heard.parts["faults"] if one["name"] == fault] == ["active"]
            )
            assert (await tab.order(verb="heal", fault=fault))[0] == 200
            await heard.until(lambda: not heard.status["faults"])
            await heard.until(lambda: not heard.lost)


def test_nodes_heal_themselves_without_a_lab_and_faults_of_the_document_outlive_lab_and_pods(demo: Demo) -> None:
    demo.patch({"faults": [CUT]})
    held: list[int] = []
    words = ("fault", "demo", "add", "latency", "90ms", "--node", "eu-1", "--name", "slow")
    there = ("--on", "cluster", "--namespace", demo.namespace)
    holder = threading.Thread(target=lambda: held.append(demo.cluster.p2pnet(*words, *there, check=False).returncode))
    holder.start()
    until(lambda: faults(demo) == {"cut": "active", "slow": "active"}, "both are in force", within_s=SOON_S)

    demo.annotate("paused", "true")
    until(lambda: demo.status()["state"] == "Paused", "the operator has heard of it", within_s=SOON_S)
    demo.kubectl("delete", "pod", "demo-lab", "--wait=true")
    healed = "the lab has not renewed its lease"
    until(lambda: healed in demo.kubectl("logs", "demo-eu-1"), "the node heals itself", within_s=LEASE_S)
    demo.annotate("paused", "false")
    until(lambda: faults(demo) == {"cut": "active"}, "a new lab knows the document's fault alone", within_s=LEASE_S)
    holder.join(LEASE_S)
    assert held == [5], "the command says that its fault has ended before it did"

    demo.kubectl("delete", "pod", "demo-us-1", "--wait=true")
    until(lambda: has_network(demo, "us-1"), "the node of its new pod has been told what the network does")
    assert peers_met(demo, "us-1") == 0
    report = valid(lambda: inject(demo, "--within", "10s"))
    assert (report["reach"]["delivered"], report["reach"]["expected"]) == (2, 3)
    assert row(report, "rules[0] + fault cut")["asked"]["loss"] == 1


def test_at_rest_nothing_is_written_though_rules_are_measured_and_leases_renewed(demo: Demo) -> None:
    demo.patch({"faults": [{"name": "wet", "loss": "5%"}]})
    lease(demo, "add")
    until(lambda: faults(demo) == {"wet": "active", "slow": "active"}, "both are in force", within_s=SOON_S)
    until(lambda: conditions(demo.subnet())["Ready"] == "True", "it is ready")

    def versions() -> dict[str, str]:
        things = [
            one for plural in KINDS for one in demo.cluster.objects(plural, demo.namespace, "p2pnet.io/subnet=demo")
        ]
        return {one["metadata"]["uid"]: one["metadata"]["resourceVersion"] for one in (*things, demo.subnet())}

    def renewed_without_a_write() -> bool:
        """A kubelet's probe that comes late on a busy machine is written, too: then the leases are renewed once more."""
        before = versions()
        lease(demo, "renew")
        return versions() == before

    until(renewed_without_a_write, "leases are renewed and nothing is written")


def lease(demo: Demo, action: str) -> None:
    """Add a leased fault, or renew it again and again for longer than the operator puts off a status."""
    demo.cluster.run(sys.executable, "-c", LEASE, demo.namespace, action)
