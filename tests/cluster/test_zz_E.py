import time

from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, conditions, until


def show(demo):
    print(demo.kubectl("get", "subnets"))


def test_x(operator: Cluster, namespace: str) -> None:
    t = time.monotonic()
    demo = Demo(operator, namespace, {"nodes": 5})
    demo.until_ready(5)
    print("up", time.monotonic() - t)
    for pod in demo.get("pods"):
        c = {x["type"]: x["lastTransitionTime"] for x in pod["status"]["conditions"]}
        print(pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"], c)
    for e in demo.get("events"):
        if e["reason"] == "Unhealthy":
            print("UNHEALTHY", e["involvedObject"]["name"], e.get("count"), e["firstTimestamp"], e["message"])
    show(demo)
    for what in ("nothing", "scale", "delete", "long"):
        demo.annotate("paused", "true")
        until(lambda: conditions(demo.subnet()).get("Paused") == "True", "paused", 30, every_s=0.05)
        n = 5
        if what == "scale":
            demo.patch({"nodes": 7})
            n = 7
        if what in ("delete", "long"):
            n = 7
            demo.kubectl("delete", "pod", "demo-node-1", "demo-node-3", "--wait=true")
        if what == "long":
            time.sleep(60)
        else:
            time.sleep(5)
        show(demo)
        t = time.monotonic()
        demo.kubectl("annotate", "subnet", "demo", "p2pnet.io/paused-")
        until(lambda: conditions(demo.subnet()).get("Paused") == "False", "unpaused", 60, every_s=0.05)
        print(what, "status", time.monotonic() - t)
        if what != "nothing":
            demo.until_ready(n)
        print(what, "ready", time.monotonic() - t)
        show(demo)
    print(demo.kubectl("describe", "subnet", "demo")[-3500:])
    print(operator.kubectl("logs", "deployment/p2pnet", "--namespace", "p2pnet-system"))
    print(demo.kubectl("logs", "demo-node-1")[:3000])
    print(demo.kubectl("logs", "demo-lab")[:3000])
