"""A run of pods, carried away with what the cluster says of them, and replayed without it."""

import json
from typing import Any

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster


@pytest.fixture
def demo(operator: Cluster, namespace: str) -> Demo:
    demo = Demo(operator, namespace, {"nodes": 3, "network": {"default": {"latency": "20ms"}}})
    demo.until_ready(3)
    return demo


def test_a_run_of_pods_is_packed_with_their_descriptions_and_replayed(demo: Demo) -> None:
    said: Any = demo.p2pnet("inject", "demo", "--size", "4KiB", "--count", "5", "--rate", "5/s", check=False)

    bundle = f"/tmp/{demo.namespace}.tar.gz"
    manifest = demo.p2pnet("collect", said["run"], "-O", bundle)
    names = {one["name"] for one in manifest["files"]}
    assert names >= {"cluster/pods.json", "cluster/subnet.json", "cluster/events.json", "logs/pods.ndjson"}, manifest
    assert "cluster" not in {one["what"] for one in manifest["left_out"]}
    found = json.loads(demo.cluster.p2pnet("replay", bundle, "-o", "json", check=False).stdout)
    [run] = found["runs"]
    assert (found["target"], run["artifacts"], run["republished"]) == ("cluster", 5, 5)
    assert found["verdict"] in ("reproduced", "nothing to compare")  # on a busy machine the record may be invalid
    assert any("the code of" in one for one in found["not_reproduced"])
