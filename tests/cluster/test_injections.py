"""A whole experiment is an object: `kubectl apply`, `kubectl wait`, and the verdict and the figures stand in its status."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import PODS_S, ROOT, Cluster, conditions, until
from tests.cluster.test_killed_operator import kill_operator

PHOTO = bytes(range(256)) * 100


@pytest.fixture(scope="module")
def demo(operator: Cluster) -> Iterator[Demo]:
    """A Subnet of three nodes, for this file."""
    name = f"inject-{uuid.uuid4().hex[:8]}"
    made = Demo(operator, operator.namespace(name), {"nodes": 3})
    made.until_ready(3)
    yield made
    operator.kubectl("delete", "namespace", name, "--wait=false")


def injection(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Injection", "metadata": {"name": name},
        "spec": {"subnet": "demo", **spec},
    }  # fmt: skip


def wait(demo: Demo, name: str, condition: str = "Finished") -> dict[str, Any]:
    """As a pipeline waits; the object."""
    try:
        demo.cluster.wait(f"injection/{name}", f"condition={condition}", demo.namespace)
    except AssertionError:
        print(demo.kubectl("describe", "injections"))
        raise
    return demo.cluster.object("injections", demo.namespace, name)


def reason(thing: dict[str, Any]) -> str:
    return str(thing["status"]["conditions"][0]["reason"])


def runs_of(demo: Demo, thing: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the lab, those that an Injection has asked for."""
    runs = demo.p2pnet("status", "demo")["runs"]
    return [one for one in runs if (one.get("injection") or {}).get("uid") == thing["metadata"]["uid"]]


def test_apply_and_wait_are_a_whole_experiment(demo: Demo) -> None:
    demo.cluster.apply((ROOT / "examples" / "injection.yaml").read_text(), demo.namespace)
    smoke = wait(demo, "smoke", "Propagated")
    status = smoke["status"]
    assert (status["state"], status["verdict"], status["artifacts"], status["nodes"]) == ("Propagated", "pass", 20, 3)
    assert status["reach"] == {"expected": 40, "delivered": 40, "ratio": 1}
    assert 0 < status["latencyMs"]["p50"] <= status["latencyMs"]["max"]
    assert [(one["expr"], one["ok"]) for one in status["expectations"]] == [
        ("reach >= 99%", True),
        ("p95 <= 10s", True),
    ]
    assert "finalizers" not in smoke["metadata"]
    head, row = demo.kubectl("get", "injections", "smoke").splitlines()
    assert head.split() == ["NAME", "SUBNET", "STATE", "REASON", "REACH", "P95", "AGE"]
    assert row.split()[:5] == ["smoke", "demo", "Propagated", "ExpectationsMet", "100%"]
    assert demo.p2pnet("report", "demo", status["run"])["verdict"] == "pass", "the command line knows the run, too"
    assert "p95 <= 800ms" in demo.kubectl("explain", "injection.spec.expect")
    about = ("--field-selector", "involvedObject.kind=Injection,involvedObject.name=smoke")
    until(
        lambda: sorted(event["reason"] for event in demo.get("events", *about)) == ["ExpectationsMet", "Running"],
        "its events are there, which are posted after its status",
    )
    demo.cluster.apply((ROOT / "examples" / "injection.yaml").read_text(), demo.namespace)
    assert len(runs_of(demo, smoke)) == 1, "the same document again is no other experiment"
    assert "cannot be changed" in demo.cluster.refused(
        "patch", "injection", "smoke", "-n", demo.namespace, "--type=merge", '--patch={"spec": {"count": 1}}'
    )


def test_files_failures_and_refusals_applied_at_once_end_one_after_the_other(demo: Demo) -> None:
    photo = {"photo.jpg": base64.b64encode(PHOTO).decode()}
    photos = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "photos"}, "binaryData": photo}
    demo.cluster.apply(
        [
            injection("files", filesFrom={"configMap": "photos"}, **{"from": "node-0"}),
            injection("slow", size="1KiB", expect=["p95 <= 0.001ms"]),
            injection("wrong", **{"from": "node-99"}),
            photos,
        ],
        demo.namespace,
    )
    found = {name: wait(demo, name) for name in ("files", "slow", "wrong")}
    assert {name: (thing["status"]["state"], reason(thing)) for name, thing in found.items()} == {
        "files": ("Propagated", "ExpectationsMet"), "slow": ("Failed", "ExpectationsFailed"), "wrong": ("Invalid", "Refused"),
    }  # fmt: skip
    assert conditions(found["slow"]) == {
        "Finished": "True",
        "Propagated": "False",
        "Failed": "True",
        "Invalid": "False",
    }
    assert found["slow"]["status"]["conditions"][0]["message"].startswith("p95 <= 0.001ms: ")
    assert "node-99" in found["wrong"]["status"]["conditions"][0]["message"]
    turns = sorted(
        (one["status"]["startedAt"], one["status"]["finishedAt"]) for one in found.values() if "run" in one["status"]
    )
    assert turns[0][1] <= turns[1][0], "never two at a time"
    report = demo.p2pnet("report", "demo", found["files"]["status"]["run"])
    assert report["payload_bytes"] == len(PHOTO)


def test_a_deletion_ends_the_run_and_the_operators_death_changes_nothing(demo: Demo) -> None:
    long = {"size": "1KiB", "count": 600, "rate": "2/s"}
    demo.cluster.apply(injection("long", **long), demo.namespace)
    demo.cluster.wait("injection/long", "jsonpath={.status.state}=Running", demo.namespace)
    thing = demo.cluster.object("injections", demo.namespace, "long")
    demo.cluster.apply(injection("next", size="1KiB", count=3), demo.namespace)
    until(
        lambda: "waits for Injection long" in json.dumps(demo.cluster.object("injections", demo.namespace, "next")),
        "the next one says for whom it waits",
        every_s=0.2,
    )
    kill_operator(demo.cluster)
    demo.kubectl("delete", "injection", "long", "--wait=true", f"--timeout={PODS_S:g}s")
    until(lambda: [one["state"] for one in runs_of(demo, thing)] == ["cancelled"], "its run is ended", every_s=0.3)
    after = wait(demo, "next", "Propagated")
    assert len(runs_of(demo, after)) == 1


def test_an_operator_killed_while_it_begins_and_while_it_runs_makes_one_run(demo: Demo) -> None:
    demo.cluster.apply(injection("twice", size="1KiB", count=12, rate="2/s"), demo.namespace)
    until(
        lambda: (
            demo.cluster.object("injections", demo.namespace, "twice").get("status", {}).get("state")
            in ("Starting", "Running")
        ),
        "it begins",
        every_s=0.02,
    )
    kill_operator(demo.cluster)
    twice = wait(demo, "twice", "Propagated")
    assert len(runs_of(demo, twice)) == 1
    assert twice["status"]["artifacts"] == 12
