"""Discovery by seeds: pods find each other through the headless Service's name and then through each other."""

import json

from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, until


def mounted(demo: Demo, pod: str, file: str) -> dict:
    """A mounted file of a node pod."""
    return json.loads(demo.kubectl("exec", pod, "--", "cat", f"/etc/p2pnet/{file}"))


def links(demo: Demo, pod: str) -> float:
    """Of all nodes of a pod."""
    lines = [line.split() for line in demo.page(pod).splitlines()]
    return sum(float(line[-1]) for line in lines if line[0].partition("{")[0] == "p2pnet_node_peers")


def test_pods_told_of_the_service_alone_connect_deliver_and_follow_scaling(operator: Cluster, namespace: str) -> None:
    demo = Demo(operator, namespace, {"nodes": 4, "discovery": {"mode": "seeds"}})
    operator.wait("subnet/demo", "condition=Connected", namespace)
    demo.until_ready(4)
    config = mounted(demo, "demo-node-1", "config/node.json")
    assert (config["discovery"], config["seeds"]) == ("seeds", [f"demo-nodes.{namespace}.svc:4100"])
    registry = mounted(demo, "demo-node-1", "members/members.json")["registry"]
    assert (registry["version"], registry["members"]) == (1, []), "no addresses of peers"
    [own] = mounted(demo, "demo-node-1", "../../run/p2pnet/node-1/node.json")["advertise"]
    assert own == f"{demo.get('pod', 'demo-node-1')['status']['podIP']}:4100"
    report = demo.p2pnet("inject", "demo", "--count", "3", "--size", "4KiB")
    assert report["verdict"] == "pass"
    assert report["reach"]["delivered"] == report["reach"]["expected"] > 0
    before = demo.uids()
    demo.kubectl("scale", "subnet/demo", "--replicas=6")
    demo.until_ready(6)
    until(lambda: links(demo, "demo-node-5") == 5, "the new node is linked to all")
    demo.kubectl("scale", "subnet/demo", "--replicas=3")
    demo.until_ready(3)
    until(lambda: links(demo, "demo-node-0") == 2, "the nodes that left are cut")
    after = demo.until_pods(3)
    assert all(before[name] == uid for name, uid in after.items())
    assert demo.restarts() == 0
    refused = operator.refused("--namespace", namespace, "patch", "subnet", "demo", "--type=merge",
                               '--patch={"spec": {"discovery": {"mode": "registry"}}}')  # fmt: skip
    assert "discovery.mode cannot be changed" in refused


def test_packed_pods_find_each_other_through_their_first_nodes_and_come_back(operator: Cluster, namespace: str) -> None:
    demo = Demo(operator, namespace, {"nodes": 5, "nodesPerPod": 2, "discovery": {"mode": "seeds"}})
    demo.until_ready(5)
    demo.kubectl("delete", "pod", "demo-node-0", "demo-node-1", "--wait=true")
    demo.until_ready(5)
    assert demo.p2pnet("inject", "demo", "--count", "2")["verdict"] == "pass"
