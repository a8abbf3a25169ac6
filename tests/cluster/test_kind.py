"""`--on kind`, every line of it: stand-ins for kind and docker before a real Kubernetes (`stand_in/programs.py`)."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.kit import ROOT, Cluster, until

CI = ROOT / ".github" / "actions" / "p2pnet" / "run.sh"
STAND_IN = Path(__file__).with_name("stand_in")
COMMAND_S = 1500
MINE = {
    "clusters": [{"name": "mine", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "mine", "user": {"token": "of mine"}}],
    "contexts": [{"name": "mine", "context": {"cluster": "mine", "user": "mine"}}],
    "current-context": "mine",
}


def built_programs() -> Path:
    """Where `cluster.sh` puts what it builds: kubectl among it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("CLUSTER_HOME") or cache / "p2pnet-cluster") / "bin"


class Desk:
    """A person's machine with kind on it, whose current context is another cluster's."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.kubeconfig = folder / "config"
        self.kubeconfig.write_text(yaml.safe_dump(MINE))
        self.there = folder / "there"
        self.environment = os.environ | {
            "PATH": f"{STAND_IN}:{Path(sys.executable).parent}:{built_programs()}:{os.environ['PATH']}",
            "KUBECONFIG": str(self.kubeconfig),
            "P2PNET_STATE": str(folder / "state"),
            "P2PNET_STAND_INS": str(self.there),
            "P2PNET_TEST_PYTHON": sys.executable,
            "CLUSTER_NAME": cluster.name,
        }
        for name in ("KIND_CLUSTER_NAME", "KIND_EXPERIMENTAL_PROVIDER", "P2PNET_KIND_CONFIG"):
            self.environment.pop(name, None)

    def p2pnet(self, *words: str, **variables: str) -> list[str]:
        """`p2pnet WORDS`; what was done with the stand-ins. AssertionError when it fails."""
        before = len(self.said())
        done = self.run("p2pnet", *words, **variables)
        assert not done.returncode, f"p2pnet {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        asked = ("kind get", "docker image", "docker exec", "podman image", "podman exec")
        return [line for line in self.said()[before:] if not line.startswith(asked)]

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=COMMAND_S, cwd=self.folder,
            stdin=subprocess.DEVNULL, env=self.environment | variables,
        )  # fmt: skip

    def said(self) -> list[str]:
        """What was ordered of the stand-ins so far."""
        file = self.there / "said"
        return file.read_text().splitlines() if file.exists() else []

    def contexts(self) -> tuple[str, list[str]]:
        """The current one, and all there are."""
        found = yaml.safe_load(self.kubeconfig.read_text())
        return found["current-context"], [one["name"] for one in found["contexts"]]

    def operator(self) -> dict[str, Any]:
        """Its only pod that is not ending; that of a Deployment that has been deleted goes in its own time."""

        def alone() -> dict[str, Any] | None:
            pods = self.cluster.objects("pods", "p2pnet-system")
            staying = [one for one in pods if not one["metadata"].get("deletionTimestamp")]
            return staying[0] if len(staying) == 1 else None

        return until(alone, "the operator has one pod")

    def another_image(self) -> None:
        """From now on the files of the repository make another image of the operator."""
        (self.there / "label").write_text(str(time.monotonic_ns()))
        (self.folder / "state" / "kind-images.json").unlink()


@pytest.fixture(scope="module")
def desk(built: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A first `up`, of a subnet of two nodes, has made everything."""
    cluster = Cluster(f"{built.name}-kind")
    cluster.script("down")
    desk = Desk(tmp_path_factory.mktemp("desk"), cluster)
    try:
        desk.first = desk.p2pnet("up", "demo", "--nodes", "2", "--on", "kind")  # type: ignore[attr-defined]
        yield desk
    finally:
        cluster.close()
        for name in ("p2pnet", "two"):
            desk.run("kind", "delete", "cluster", "--name", name)
        cluster.script("down")


def test_the_first_up_makes_cluster_images_operator_and_subnet_and_keeps_the_context(desk: Desk) -> None:
    first = [line.split(" --")[0] for line in desk.first]  # type: ignore[attr-defined]
    assert first == [
        "kind create cluster",
        "docker build",
        "docker build",
        "kind load docker-image",
        "kind load docker-image",
    ]
    current, contexts = desk.contexts()
    assert (current, contexts[:2]) == ("mine", ["mine", "kind-p2pnet"])
    status = json.loads(desk.run("p2pnet", "status", "demo", "--on", "kind", "-o", "json").stdout)
    assert (status["target"], status["nodes"]["connected"], status["links"]) == ("cluster", 2, {"expected": 1, "up": 1})


def test_a_second_up_changes_nothing(desk: Desk) -> None:
    desk.p2pnet("up", "demo", "--on", "kind")  # another test may have changed the images
    pod = desk.operator()
    assert desk.p2pnet("up", "demo", "--on", "kind") == []
    assert desk.operator()["metadata"]["uid"] == pod["metadata"]["uid"]


def test_images_that_changed_are_loaded_and_the_operator_begins_anew(desk: Desk) -> None:
    pod = desk.operator()
    desk.another_image()
    did = desk.p2pnet("up", "demo", "--on", "kind")
    assert [line.split(" --")[0] for line in did[2:]] == ["kind load docker-image"]
    now = desk.operator()
    assert now["metadata"]["uid"] != pod["metadata"]["uid"]
    [was], [is_now] = (one["status"]["containerStatuses"] for one in (pod, now))
    assert was["imageID"] != is_now["imageID"]
    assert is_now["ready"]


def test_half_an_installation_is_finished(desk: Desk) -> None:
    desk.cluster.kubectl("delete", "deployment,serviceaccount", "p2pnet", "--namespace", "p2pnet-system")
    desk.cluster.kubectl("delete", "clusterrolebinding", "p2pnet")
    desk.p2pnet("up", "half", "--nodes", "2", "--on", "kind")
    desk.p2pnet("down", "half", "--on", "kind", "-y")


def test_images_of_a_document_come_from_this_machine(desk: Desk) -> None:
    desk.run("buildah", "tag", "docker.io/p2pnet/p2pnet-node:dev", "docker.io/mine/node:next")
    document = {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "own"},
        "spec": {"image": "mine/node:next", "nodes": 2},
    }  # fmt: skip
    (desk.folder / "own.yaml").write_text(yaml.safe_dump(document))
    try:
        did = desk.p2pnet("up", "-f", "own.yaml", "--on", "kind")
        assert did[-1] == "kind load docker-image --name p2pnet mine/node:next"
        assert desk.p2pnet("down", "own", "--on", "kind", "-y") == []
    finally:
        desk.run("buildah", "rmi", "docker.io/mine/node:next")


def test_a_cluster_of_another_name_stands_beside_it_with_podman_as_well(desk: Desk) -> None:
    desk.another_image()
    did = desk.p2pnet("install", "--on", "kind", "--context", "kind-two", KIND_EXPERIMENTAL_PROVIDER="podman")
    assert did[0].startswith("kind create cluster --name two ")
    assert [line.split(" --")[0] for line in did[1:3]] == ["podman build"] * 2
    assert [line.split(" --")[0] for line in did[3:]] == ["podman save", "kind load image-archive"]
    assert desk.contexts() == ("mine", ["mine", "kind-p2pnet", "kind-two"])
    listed = desk.run("p2pnet", "ls", "--on", "kind", "-o", "json", KIND_CLUSTER_NAME="two")
    assert [one["name"] for one in json.loads(listed.stdout)["subnets"]] == ["demo"]


def test_a_cluster_whose_making_is_interrupted_leaves_nothing(desk: Desk) -> None:
    (desk.there / "slow").touch()
    words = ["p2pnet", "up", "--on", "kind", "--context", "kind-three"]
    try:
        with subprocess.Popen(words, env=desk.environment, stderr=subprocess.PIPE, text=True) as process:
            until((desk.there / "three.cluster").exists, "the cluster is being made")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=COMMAND_S)
    finally:
        (desk.there / "slow").unlink()
    assert process.returncode == 130, errors
    assert not (desk.there / "three.cluster").exists()
    assert "kind-three" not in desk.contexts()[1]


def test_what_ci_runs_keeps_the_exit_code_and_collects_what_failed(desk: Desk) -> None:
    step = {"name": "one", "inject": {"size": "4KiB", "count": 2, "rate": "10/s"}}
    scenario: dict[str, Any] = {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario", "metadata": {"name": "wrong"},
        "spec": {"subnet": {"nodes": 2}, "steps": [step, {"expect": "one.reach < 50%"}]},
    }  # fmt: skip
    (desk.folder / "wrong.yaml").write_text(yaml.safe_dump(scenario))
    done = desk.run("bash", str(CI), "--results", "results", "wrong.yaml")
    assert done.returncode == 1, done.stderr
    results = desk.folder / "results"
    assert json.loads((results / "wrong.json").read_text())["verdict"] == "fail"
    assert "one.reach" in (results / "summary.md").read_text()
    assert "<failure" in (results / "wrong.xml").read_text()
    assert "demo" in (results / "cluster" / "objects.txt").read_text()
    assert (results / "cluster" / "kind" / "kind-version.txt").read_text() == "logs of p2pnet"
    with tarfile.open(results / "wrong.tar.gz") as bundle:
        assert any(name.endswith("manifest.json") for name in bundle.getnames()), bundle.getnames()


def test_without_its_cluster_the_operator_can_be_asked_for_all_the_same(desk: Desk) -> None:
    done = desk.run("p2pnet", "status", "demo", "--on", "kind", "--context", "kind-none")
    assert done.returncode == 3
    assert "there is no kind cluster none" in done.stderr
