"""`kubectl wait` after an edit waits for what was edited, and who follows a run is told when its subnet goes."""

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, until

FOLLOWED_S = 300.0
"""For somebody who follows a run to be told that it is over."""


def test_scaling_and_waiting_in_one_line_ends_when_all_nodes_are_there(operator: Cluster, namespace: str) -> None:
    demo = Demo(operator, namespace, {"nodes": 4})
    demo.until_ready(4)
    demo.kubectl("scale", "subnet/demo", "--replicas=6")
    operator.wait("subnet/demo", "condition=Connected", namespace)
    # Connected is what the nodes say of their links; the kubelets' probes see them ready at their own pace.
    assert (demo.status()["connected"], len(demo.pods())) == ("6/6", 6)
    assert demo.p2pnet("status", "demo")["links"]["expected"] == 15
    until(lambda: demo.p2pnet("status", "demo")["links"]["up"] == 15, "no link is lost for long on a busy machine")


def test_labels_and_classes_of_the_document_reach_pods_one_after_the_other(operator: Cluster, namespace: str) -> None:
    demo = Demo(operator, namespace, {"nodes": 2})
    demo.until_ready(2)
    before = demo.uids()
    demo.patch({"pod": {"labels": {"team": "p2p"}, "annotations": {"sidecar.istio.io/inject": "false"}}})

    def rolled() -> bool:
        pods = demo.pods()
        return (
            len(pods) == 2
            and all(pod["metadata"]["labels"].get("team") == "p2p" for pod in pods)
            and not set(before.values()) & {pod["metadata"]["uid"] for pod in pods}
        )

    until(rolled, "both pods are new")
    demo.until_ready(2)
    assert all(pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false" for pod in demo.pods())


@pytest.mark.parametrize("kind", ["subnet", "namespace"])
def test_who_follows_a_run_is_told_when_its_subnet_or_its_namespace_is_deleted(
    kind: str, operator: Cluster, namespace: str
) -> None:
    space = f"{namespace}-{kind}"
    operator.namespace(space, restricted=False)
    demo = Demo(operator, space, {"nodes": 2})
    demo.until_ready(2)
    with demo.followed() as follower:
        operator.kubectl(
            "delete", *(("subnet", "demo", "-n", space) if kind == "subnet" else ("namespace", space)), "--wait=false"
        )
        _, said = follower.communicate(timeout=FOLLOWED_S)
    assert follower.returncode == 5, said
    assert "is invalid" in said
    assert "deleted" in said
    log = operator.kubectl("logs", "deployment/p2pnet", "-n", "p2pnet-system").splitlines()
    assert not [line for line in log if space in line and "warning" in line.lower() and "terminat" in line]
    operator.kubectl("delete", "namespace", space, "--wait=false", "--ignore-not-found")
