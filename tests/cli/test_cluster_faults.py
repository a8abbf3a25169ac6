"""`fault` in a cluster: leased ones by the lab behind the proxy, kept ones by a patch of the Subnet object."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cli.fake_kube import FakeKube

from p2pnet.cli import ordering
from p2pnet.lab_client import proxy
from p2pnet.model.jobs import FaultList, FaultRequest, Problem
from p2pnet.model.report import FaultStatus
from p2pnet.store import State

P2pnet = Callable[..., Any]


class FaultyLab:
    """A lab that has the faults of its object, as an operator tells it, and leases."""

    def __init__(self, kube: FakeKube) -> None:
        self.kube = kube
        self.leased: dict[str, FaultStatus] = {}

    def __call__(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        match method, path.split("/")[2:]:
            case "GET", ["faults"]:
                written = self.kube.subnets["demo"]["spec"].get("faults", [])
                faults = [FaultStatus(one["name"], "as written", "spec", "active") for one in written]
                return 200, FaultList([*faults, *self.leased.values()])
            case "POST", ["faults"]:
                request = msgspec.json.decode(body, type=FaultRequest)
                fault = FaultStatus(
                    "kill-1", "kill node-1", "lease", "ended", ["node-1"], detail=json.dumps(request.fault)
                )
                return 201, fault
            case "DELETE", ["faults", name] if name in self.leased:
                del self.leased[name]
                return 200, FaultList([*self.leased.values()])
        return 404, Problem(f"{method} {path}: not found", exit_code=2)


@pytest.fixture
def kube(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    fake = FakeKube()
    fake.start()
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setattr(proxy, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(ordering, "POLL_S", 0.01)
    monkeypatch.setattr(ordering, "TAKEN_S", 5.0)
    yield fake
    fake.stop()


@pytest.fixture
def lab(kube: FakeKube) -> FaultyLab:
    kube.add("demo")
    lab = FaultyLab(kube)
    kube.lab = lab
    return lab


def written(kube: FakeKube) -> list[dict[str, Any]]:
    return kube.subnets["demo"]["spec"].get("faults", [])


def test_a_fault_is_ordered_through_the_proxy(lab: FaultyLab, p2pnet: P2pnet) -> None:
    ended = p2pnet("fault", "demo", "add", "kill", "--node", "node-1", "--on", "cluster", "-o", "json")

    assert ended.code == 0, ended.err
    assert json.loads(json.loads(ended.out)["faults"][0]["detail"]) == {"kill": True, "from": "node-1"}


def test_keep_and_clear_patch_the_object_and_nothing_else_of_it(kube: FakeKube, lab: FaultyLab, p2pnet: P2pnet) -> None:
    kube.subnets["demo"]["spec"]["topology"] = {"kind": "ring"}
    lab.leased["wet"] = FaultStatus("wet", "loss 5% from * to *", "lease", "active")

    ended = p2pnet("fault", "demo", "add", "loss", "5%", "--keep", "--name", "dry", "--on", "cluster")
    assert ended.code == 0, ended.err
    assert "p2pnet fault demo clear dry --on cluster" in ended.err
    assert kube.subnets["demo"]["spec"] == {
        "nodes": 3, "topology": {"kind": "ring"}, "faults": [{"name": "dry", "loss": "5%"}],
    }  # fmt: skip

    ended = p2pnet("fault", "demo", "clear", "--all", "--on", "cluster", "-o", "json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["cleared"] == ["dry", "wet"]
    assert written(kube) == []
    assert lab.leased == {}


def test_an_edit_of_somebody_else_meanwhile_is_kept(kube: FakeKube, lab: FaultyLab, p2pnet: P2pnet) -> None:
    def meanwhile() -> None:
        kube.subnets["demo"]["spec"]["faults"] = [{"name": "loss-1", "block": True}]
        kube.touch("demo")

    kube.before_merge = [meanwhile]

    ended = p2pnet("fault", "demo", "add", "loss", "5%", "--keep", "--on", "cluster")

    assert ended.code == 0, ended.err
    assert written(kube) == [{"name": "loss-1", "block": True}, {"name": "loss-2", "loss": "5%"}]


def test_an_object_that_others_write_all_the_time_is_given_up(kube: FakeKube, lab: FaultyLab, p2pnet: P2pnet) -> None:
    kube.before_merge = [lambda: kube.touch("demo")] * 100

    ended = p2pnet("fault", "demo", "add", "loss", "5%", "--keep", "--on", "cluster")

    assert ended.code == 2
    assert "was written by others 10 times meanwhile" in ended.err
    assert written(kube) == []


def test_what_the_api_server_takes_for_wrong_is_2(kube: FakeKube, lab: FaultyLab, p2pnet: P2pnet) -> None:
    ended = p2pnet("fault", "demo", "add", "loss", "66%", "--keep", "--on", "cluster")

    assert ended.code == 2
    assert "spec.faults[0].loss: not that much" in ended.err


def test_up_of_a_file_without_a_kept_fault_takes_it_out(
    kube: FakeKube, lab: FaultyLab, p2pnet: P2pnet, tmp_path: Path
) -> None:
    assert p2pnet("fault", "demo", "add", "loss", "5%", "--keep", "--on", "cluster").code == 0
    file = tmp_path / "demo.yaml"
    file.write_text("{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: demo}, spec: {nodes: 3}}")
    kube.lab = None  # the object is asked then

    p2pnet("up", "-f", str(file), "--on", "cluster", "--no-wait")

    assert written(kube) == []


def test_a_subnet_that_is_not_there_is_3(kube: FakeKube, p2pnet: P2pnet) -> None:
    for words in (("list",), ("add", "loss", "5%", "--keep"), ("clear", "--all")):
        assert p2pnet("fault", "demo", *words, "--on", "cluster").code == 3
