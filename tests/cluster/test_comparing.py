"""Two versions on pods: two documents, then two images; two subnets are applied for that, and none is left."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.demo import until_nothing_is_left
from tests.cluster.kit import NODE_IMAGE, Cluster

DOCUMENT = """
apiVersion: p2pnet.io/v1alpha1
kind: Subnet
metadata: {{name: demo}}
spec: {{nodes: 3, network: {{default: {{latency: {latency}}}}}}}
"""
LOAD = ("--size", "1KiB", "--count", "5", "--rate", "20/s", "--trials", "3", "-o", "json")


@pytest.mark.parametrize(  # latencies beside which a busy machine's are small: one late trial of three decides nothing
    ("words", "latencies", "gate", "code"),
    [
        (("{0}", "{1}"), ("200ms", "800ms"), "p50:+50%", 6),
        ((NODE_IMAGE, NODE_IMAGE, "-f", "{0}"), ("300ms", "300ms"), "p50:+100%", 0),
    ],
)
def test_two_versions_are_compared_on_pods_and_nothing_is_left(
    operator: Cluster,
    namespace: str,
    tmp_path: Path,
    words: tuple[str, ...],
    latencies: tuple[str, str],
    gate: str,
    code: int,
) -> None:
    files = []
    for number, latency in enumerate(latencies):
        files.append(str(tmp_path / f"{number}.yaml"))
        Path(files[-1]).write_text(DOCUMENT.format(latency=latency))
    asked = [word.format(*files) for word in words]
    done = operator.p2pnet("compare", *asked, "--on", "cluster", "-n", namespace, *LOAD, "--gate", gate, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["target"], found["lost"], found["machine"], found["trials"]) == ("cluster", [], None, 3)
    assert found["base"]["kind"] == ("document" if code else "image")
    until_nothing_is_left(operator, namespace, "demo")
