"""Several releases of the chart in one cluster, each for a namespace of its own."""

import contextlib
import uuid
from collections.abc import Iterator

import pytest
from tests.cluster.control import Control
from tests.cluster.kit import ROOT, Cluster

CHART = str(ROOT / "charts" / "p2pnet")


@pytest.fixture
def spaces(control: Control) -> Iterator[list[str]]:
    """Two namespaces whose releases are gone afterwards."""
    cluster = control.cluster
    made = [f"twice-{uuid.uuid4().hex[:6]}" for _ in range(2)]
    for name in made:
        cluster.kubectl("create", "namespace", name)
    yield made
    for name in made:
        with contextlib.suppress(AssertionError):
            cluster.run("helm", "uninstall", "p2pnet", "--namespace", name)
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def install(cluster: Cluster, verb: str, namespace: str, *sets: str) -> str:
    words = [word for one in ("scope=namespace", *sets) for word in ("--set", one)]
    return cluster.run("helm", verb, "p2pnet", CHART, "--namespace", namespace, *words)


def try_install(cluster: Cluster, name: str, namespace: str, *sets: str) -> str:
    """Install a release of another name; why helm refuses, empty when it does not."""
    words = [word for one in ("scope=namespace", *sets) for word in ("--set", one)]
    done = cluster.script("exec", "helm", "install", name, CHART, "--namespace", namespace, *words, check=False)
    return done.stderr if done.returncode else ""


def test_releases_of_two_namespaces_share_the_definition_that_is_there_and_clash_in_nothing(
    control: Control, spaces: list[str]
) -> None:
    cluster = control.cluster
    before = cluster.get("customresourcedefinition", "subnets.p2pnet.io")["metadata"]["uid"]
    for namespace in spaces:
        said = install(cluster, "install", namespace, "nameOverride=ours")
        assert f"kubectl wait -n {namespace} subnet/demo" in said
        assert "The definition of Subnets was there" in said
    for namespace in spaces:
        install(cluster, "upgrade", namespace, "nameOverride=ours", "logLevel=debug")
    for sets, why in (
        ((f"watchNamespaces={{{spaces[1]}}}",), f"served already, by release p2pnet in namespace {spaces[1]}"),
        (("scope=cluster",), ""),
    ):
        refused = try_install(cluster, "other", spaces[0], *sets)
        assert (why in refused) if why else not refused, refused
    again = try_install(cluster, "another", spaces[1], "scope=cluster")
    assert f"the whole cluster is served already, by release other in namespace {spaces[0]}" in again
    cluster.run("helm", "uninstall", "other", "--namespace", spaces[0])
    cluster.run("helm", "uninstall", "p2pnet", "--namespace", spaces[0])
    assert cluster.get("customresourcedefinition", "subnets.p2pnet.io")["metadata"]["uid"] == before
    assert cluster.get("deployments", "--namespace", spaces[1])
