"""The operator as people install it: by the chart and by the wheel's install.yaml, with the rights these give and no more."""

import time

from tests.cluster.kit import ROOT, Cluster, conditions, until

SYSTEM = "p2pnet-system"


def test_it_runs_with_the_charts_rights_alone(operator: Cluster) -> None:
    account = f"system:serviceaccount:{SYSTEM}:p2pnet"
    can = ["auth", "can-i", "--as", account, "--all-namespaces"]
    assert operator.kubectl(*can, "create", "pods").strip() == "yes"
    cannot = ["get nodes", "delete namespaces", "update clusterroles", "create pods --subresource=exec", "get secrets"]
    for words in cannot:
        said = operator.script("exec", "kubectl", *can, *words.split(), check=False).stdout.strip()
        assert (words, said) == (words, "no")
    log = operator.kubectl("logs", "deployment/p2pnet", "--namespace", SYSTEM)
    assert f'User "{account}" cannot' not in log


def test_the_charts_own_test_passes(operator: Cluster) -> None:
    done = operator.run("helm", "test", "p2pnet", "--namespace", SYSTEM, "--timeout", "5m")
    assert "Phase:          Succeeded" in done
    until(lambda: not operator.get("subnets", "--namespace", SYSTEM), "the test's Subnet is gone")


def test_install_yaml_is_what_the_api_server_takes(operator: Cluster) -> None:
    text = (ROOT / "cli" / "p2pnet" / "cli" / "install.yaml").read_text()
    said = operator.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename", "-", text=text
    )
    assert "customresourcedefinition.apiextensions.k8s.io/subnets.p2pnet.io" in said


def test_subnets_outlive_the_release_and_a_new_one_takes_them_over(operator: Cluster, namespace: str) -> None:
    text = "{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: kept}, spec: {nodes: 2}}"
    operator.apply(text, namespace)
    pods = until(lambda: ready_pods(operator, namespace, 2), "two nodes are ready")
    operator.uninstall()
    assert operator.get("subnet", "kept", "--namespace", namespace)["metadata"]["name"] == "kept"
    operator.install()
    time.sleep(3)  # time for a mistake: whatever it would replace it replaces at its first look
    assert ready_pods(operator, namespace, 2) == pods


def ready_pods(cluster: Cluster, namespace: str, count: int) -> dict[str, str]:
    """Name -> uid of the node pods, once so many are ready; else nothing."""
    pods = cluster.get("pods", "--namespace", namespace, "--selector", "p2pnet.io/role=node")
    found = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods if conditions(pod).get("Ready") == "True"}
    return found if len(found) == count else {}
