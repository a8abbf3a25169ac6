"""A scenario on pods: its subnet is applied for it, its steps are orders to the lab and edits of the object, nothing is left."""

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

from tests.cluster.demo import until_nothing_is_left
from tests.cluster.kit import NODE_IMAGE, Cluster

STORY = """
apiVersion: p2pnet.io/v1alpha1
kind: Scenario
metadata: {name: story}
spec:
  subnet: {nodes: 4, ready: {within: 300s}}
  steps:
    - name: before
      inject: {size: 2KiB, count: 3, from: node-0}
    - name: split
      fault: {partition: {groups: [node-3]}}
    - name: dark
      inject: {size: 2KiB, from: node-0, within: 10s}
    - expect: [dark.reach >= 66%, dark.reach < 67%]
    - heal: split
    - wait: {holds: dark, within: 180s}
    - restart: {nodes: node-1, within: 180s}
    - rotate: {within: 240s}
    - name: next
      upgrade: {image: NEXT, within: 360s}
    - scale: {nodes: 5, within: 240s}
    - wait: {holds: before, within: 180s}
    - name: after
      inject: {size: 2KiB, count: 3, from: node-4}
"""


def next_image(cluster: Cluster) -> str:
    """Another name of the node image, on all machines."""
    name = NODE_IMAGE.replace(":test", ":next")
    subprocess.run(["buildah", "tag", NODE_IMAGE, name], check=True)
    cluster.script("load", name)
    return name


def images_of_nodes(cluster: Cluster, namespace: str) -> dict[str, set[str]]:
    """Which images the pods of nodes ran, by their numbers, as the cluster's events tell after them."""
    found: dict[str, set[str]] = defaultdict(set)
    for event in cluster.get("events", "--namespace", namespace):
        pod = re.fullmatch(r"story-node-(\d+)(-.*)?", event["involvedObject"]["name"])
        if pod and event["reason"] == "Pulled":
            found[pod[1]].update(re.findall(r"image \"([^\"]+)\"", event["message"]))
    return found


def test_a_story_runs_on_pods_and_leaves_its_runs_alone(operator: Cluster, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "story.yaml"
    upgraded = next_image(operator)
    file.write_text(STORY.replace("NEXT", upgraded))
    done = operator.p2pnet("run", str(file), "--on", "cluster", "-n", namespace, "-o", "json", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["verdict"], found["target"]) == ("pass", "cluster")
    assert {step["state"] for step in found["steps"]} == {"done"}
    until_nothing_is_left(operator, namespace, "story")
    runs = [step["run"] for step in found["steps"] if step["kind"] == "inject"]
    assert len(set(runs)) == 3
    assert all(run.startswith("r-") for run in runs)
    images = images_of_nodes(operator, namespace)
    assert all(images[node] == {NODE_IMAGE, upgraded} for node in "0123"), images
    assert images["4"] == {upgraded}, images  # it came after the roll
