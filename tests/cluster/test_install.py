"""The operator as people install it: by the chart and by the wheel's install.yaml, with the rights these give and no more."""

from tests.cluster.kit import ROOT, Cluster, until

SYSTEM = "p2pnet-system"


def test_it_runs_with_the_charts_rights_alone(operator: Cluster) -> None:
    account = f"system:serviceaccount:{SYSTEM}:p2pnet"
    can = ["auth", "can-i", "--as", account, "--all-namespaces"]
    assert operator.kubectl(*can, "create", "pods").strip() == "yes"
    cannot = [
        "list nodes",
        "patch nodes",
        "patch leases",
        "delete namespaces",
        "update clusterroles",
        "create pods --subresource=exec",
        "get secrets",
    ]
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
