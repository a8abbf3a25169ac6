"""The real kind, held by podman, its node made of Debian's packages (`kind.sh`): what stand-ins cannot prove."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.cluster.kit import Cluster

SCRIPT = Path(__file__).with_name("kind.sh")
WANTED = "P2PNET_REAL_KIND"
"""Set to 1 to run it: the first time kind, kubeadm and a node's image are made, which takes minutes."""
NAME = "p2pnet-test"
COMMAND_S = 2400
MINE = {"apiVersion": "v1", "kind": "Config", "contexts": [], "clusters": [], "users": [], "current-context": "mine"}

P2pnet = Callable[..., str]


@pytest.fixture(scope="module")
def p2pnet(built: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[P2pnet]:
    """`p2pnet WORDS` with the real kind in PATH; its stdout. AssertionError when it fails."""
    del built  # of its Kubernetes the node is made
    if os.environ.get(WANTED) != "1":
        pytest.skip(f"{WANTED}=1 runs it, with podman")
    folder = tmp_path_factory.mktemp("desk")
    (folder / "config").write_text(yaml.safe_dump(MINE))
    environment = os.environ | {
        "KUBECONFIG": str(folder / "config"),
        "KIND_CLUSTER_NAME": NAME,
        "P2PNET_STATE": str(folder / "state"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def run(*words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["bash", str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=COMMAND_S,
            cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or not done.returncode, f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    run("build")
    try:
        yield lambda *words: run("exec", "p2pnet", *words)
    finally:
        run("exec", "kind", "delete", "cluster", "--name", NAME, check=False)


def test_up_inject_and_down_on_the_real_kind(p2pnet: P2pnet) -> None:
    p2pnet("up", "demo", "--nodes", "2", "--on", "kind")
    report = json.loads(p2pnet("inject", "demo", "--size", "64KiB", "--count", "3", "--on", "kind", "-o", "json"))
    assert (report["verdict"], report["reach"]["ratio"]) == ("pass", 1.0)
    p2pnet("up", "demo", "--on", "kind")  # nothing is loaded or started anew
    again = json.loads(p2pnet("inject", "demo", "--size", "1KiB", "--on", "kind", "-o", "json"))
    assert again["verdict"] == "pass"
    p2pnet("down", "demo", "--on", "kind", "-y")
    assert json.loads(p2pnet("ls", "--on", "kind", "-o", "json"))["subnets"] == []
