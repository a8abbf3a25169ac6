"""`collect` of a cluster's run: what the cluster still says goes along, and its silence is said."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cli.fake_kube import FakeKube

from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.model.report import Report
from p2pnet.store import State, archive
from p2pnet.store.bundles import open_bundle
from p2pnet.store.redaction import TAKEN_OUT

Call = Callable[..., Any]


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    fake = FakeKube()
    fake.start()
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.chdir(tmp_path)
    yield fake
    fake.stop()


@pytest.fixture
def run(state: State, report: Report) -> str:
    """A copied run of the subnet `demo`; its id."""
    file = RunFile(
        run=report.run, subnet="demo", target="cluster", seed=7, request=RunRequest([Payload("x", size=1)]), created_at=1.0,
        nodes=["node-0"], version="0", state="finished", context="fake", namespace="default",
    )  # fmt: skip
    folder = state.run(report.run)
    folder.mkdir(parents=True)
    (folder / archive.SUMMARY_FILE).write_bytes(archive.pretty(msgspec.structs.replace(report, target="cluster")))
    (folder / archive.RUN_FILE).write_bytes(archive.pretty(file))
    return report.run


def collected(p2pnet: Call) -> tuple[Any, dict[str, Any]]:
    """The manifest, and the documents of the cluster."""
    ended = p2pnet("collect", "demo", "-O", "b.tar.gz", "-o", "json")
    assert ended.code == 0, ended.err
    opened = open_bundle(Path("b.tar.gz"))
    names = ("cluster/subnet.json", "cluster/pods.json", "cluster/events.json", "environment.json", "logs/pods.ndjson")
    found = {name: opened.document(name) for name in names}
    opened.close()
    return json.loads(ended.out), {name: data for name, data in found.items() if data is not None}


def test_pods_events_logs_and_images_go_along_without_secrets(p2pnet: Call, kube: FakeKube, run: str) -> None:
    kube.add("demo")
    pod = kube.pods["demo-node-0"]
    pod["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    pod["spec"]["containers"][0]["env"].append({"name": "DB_PASSWORD", "value": "hunter22"})
    pod["status"]["containerStatuses"] = [{"image": "node:1.4", "imageID": "registry/node@sha256:3f"}]
    kube.events = [
        {"reason": "BackOff", "involvedObject": {"name": "demo-node-1"}},
        {"reason": "Pulled", "involvedObject": {"name": "somebody-elses"}},
    ]
    kube.logs["demo-node-0"] = "2026-11-21T20:13:20.000000001Z token=abcdefgh given\n"
    manifest, found = collected(p2pnet)

    pods = json.loads(found["cluster/pods.json"])
    assert {one["metadata"]["name"] for one in pods} >= {"demo-node-0", "demo-lab"}
    [mine] = [one for one in pods if one["metadata"]["name"] == "demo-node-0"]
    assert "managedFields" not in mine["metadata"]
    assert {"name": "DB_PASSWORD", "value": TAKEN_OUT} in mine["spec"]["containers"][0]["env"]
    assert [one["reason"] for one in json.loads(found["cluster/events.json"])] == ["BackOff"]
    assert json.loads(found["environment.json"])["images"] == {"node:1.4": ["registry/node@sha256:3f"]}
    assert b"abcdefgh" not in found["logs/pods.ndjson"]
    assert not [path for _, path in kube.asked if "secrets" in path]
    assert manifest["runs"] == [run]


def test_what_a_person_may_not_read_is_left_empty(p2pnet: Call, kube: FakeKube, run: str) -> None:
    kube.add("demo")
    kube.forbidden.add("/events")
    _, found = collected(p2pnet)
    assert json.loads(found["cluster/events.json"]) == []


def test_a_cluster_that_is_gone_or_silent_is_said_and_costs_no_run(p2pnet: Call, kube: FakeKube, run: str) -> None:
    manifest, found = collected(p2pnet)
    said = {one["what"]: one["why"] for one in manifest["left_out"]}
    assert "demo is not in context fake" in said["cluster"]
    assert not any(name.startswith("cluster/") for name in found)
    kube.forbidden.add("/pods")
    manifest, _ = collected(p2pnet)
    assert "cannot get" in {one["what"]: one["why"] for one in manifest["left_out"]}["cluster"]
