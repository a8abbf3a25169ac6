"""The chart grants what the operator uses in the whole of a Subnet's life, and nothing beside: on the server's own judgement."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.control import Control, Place, Twin
from tests.cluster.kit import ROOT, until
from tests.cluster.process import Operator
from tests.cluster.proxy import Ask, Proxy
from tests.cluster.scrape import metrics, value
from tests.cluster.server import Thing

from p2pnet.operator.kube.api import CONFIG_MAP, ConflictError
from p2pnet.operator.kube.client import KubernetesCluster

ACCOUNT = "p2pnet"
PORT = 18081
"""Of the operator's metrics: any that is free in the cluster's network."""
Right = tuple[str, str]
"""Resource with its subresource, and verb."""


def granted(part: str) -> list[dict[str, Any]]:
    """The rules in the chart's file: `served` or `lease`."""
    rules: list[dict[str, Any]] = yaml.safe_load((ROOT / "charts" / "p2pnet" / "files" / "rbac.yaml").read_text())[part]
    return rules


def rights(rules: list[dict[str, Any]]) -> set[Right]:
    """Every right of these rules by itself."""
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def used(asks: list[Ask]) -> set[Right]:
    """Every right that these requests needed: an apply of what was not there created it, too."""
    found = set()
    for ask in asks:
        if not ask.plural:
            continue  # what there is to ask for, anybody may know
        status = "/status" if ask.path.endswith("/status") else ""
        found.add((ask.plural + status, ask.verb))
        if ask.verb == "patch" and ask.status == 201:
            found.add((ask.plural, "create"))
    return found


@pytest.fixture
def place(control: Control) -> Iterator[Place]:
    with control.place("rights") as made:
        yield made


@pytest.fixture
def proxy(control: Control) -> Iterator[Proxy]:
    with control.proxy() as made:
        yield made


def account(place: Place, *rules: str) -> str:
    """A token of an account that has these rules in the place, and no others anywhere."""
    place.create("serviceaccounts", {"metadata": {"name": ACCOUNT}})
    for part in rules:
        name, group = f"{ACCOUNT}-{part}", "rbac.authorization.k8s.io"
        place.create("roles", {"metadata": {"name": name}, "rules": granted(part)})
        subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": place.name}
        binding = {"roleRef": {"apiGroup": group, "kind": "Role", "name": name}, "subjects": [subject]}
        place.create("rolebindings", {"metadata": {"name": name}, **binding})
    path = f"/api/v1/namespaces/{place.name}/serviceaccounts/{ACCOUNT}/token"
    body: Thing = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = place.control.inside.do(place.control.server.ask("POST", path, body))
    return str(answer["status"]["token"])


def kubeconfig(proxy: Proxy, token: str, folder: Path) -> Path:
    """Leads to the proxy, in this account's name."""
    path = proxy.kubeconfig(folder)
    config = yaml.safe_load(path.read_text())
    config["users"][0]["user"] = {"token": token}
    path.write_text(yaml.safe_dump(config))
    return path


def test_every_right_of_the_chart_is_used_and_nothing_beside_is_asked_for(
    control: Control, place: Place, proxy: Proxy, tmp_path: Path
) -> None:
    path = kubeconfig(proxy, account(place, "served", "claim", "lease"), tmp_path)
    settings = {"watch_namespaces": place.name, "leader_election": "true", "pod_namespace": place.name}
    with control.operator(kubeconfig=path, **settings) as operator:
        whole_life(place)
        lease_given_back(place, operator)
    refused = [str(ask) for ask in proxy.asks if ask.status in (401, 403)]
    assert not refused
    # A ttl lasts a minute at least: the right to end a Subnet has a test of its own. An Injection's is used as the Subnet's.
    assert used(proxy.asks) | {("subnets", "delete"), ("injections", "delete")} == rights(
        granted("served") + granted("claim") + granted("lease")
    )
    assert "cannot" not in operator.log()


@pytest.mark.soak
def test_a_subnet_whose_time_is_over_is_deleted_by_right(
    control: Control, place: Place, proxy: Proxy, tmp_path: Path
) -> None:
    path = kubeconfig(proxy, account(place, "served", "claim"), tmp_path)
    with control.operator(kubeconfig=path, watch_namespaces=place.name):
        demo = place.subnet("demo", {"nodes": 1, "ttl": "1m"})
        demo.until_ready(1)
        until(lambda: place.get("subnets", "demo") is None, "its time is over", within_s=120)
        until(lambda: not demo.everything(), "nothing of it is left")
    assert ("subnets", "delete") in used(proxy.asks)


def whole_life(place: Place) -> None:
    """Everything an operator does for a Subnet, once."""
    place.create("configmaps", {"metadata": {"name": "shape"}, "data": {"edges": "node-0 node-1\nnode-1 node-2\n"}})
    edges = {"kind": "edges", "edgesFrom": {"configMap": "shape", "key": "edges"}}
    demo = place.subnet("demo", {"nodes": 3, "topology": edges, "lab": {"storage": "1GB"}})
    demo.until_ready(3)
    demo.edit(topology=None, nodes=4)
    demo.until_ready(4)
    demo.edit(clients=[{"name": "blob"}], broadcast={"keep": "5m"})
    demo.until_ready(4)
    demo.annotate("force-renew", "once")
    demo.annotate("force-replace", "once")
    until(lambda: replaced(demo), "leaves and authority are replaced")
    place.patch("pods", "demo-node-0", {"metadata": {"labels": {"p2pnet.io/role": None}}})
    until(
        lambda: "p2pnet.io/role" in place.find("pods", "p2pnet.io/subnet=demo")[1]["metadata"]["labels"],
        "labels return",
    )
    place.injection("smoke")
    until(lambda: finished(place), "an Injection is over", every_s=0.1)
    demo.edit(nodes=1)  # one pod needs no budget
    demo.until_ready(1)
    until(lambda: not demo.children("poddisruptionbudgets"), "its budget is gone")


def finished(place: Place) -> bool:
    """Whether the Injection has a verdict."""
    return (place.get("injections", "smoke") or {}).get("status", {}).get("state") == "Propagated"


def replaced(demo: Twin) -> bool:
    """Whether a new authority is in force."""
    authority = (demo.thing().get("status") or {}).get("authority") or {}
    return (authority.get("replaced"), authority.get("phase")) == ("once", "Steady")


def lease_given_back(place: Place, operator: Operator) -> None:
    assert operator.terminate() == 0
    lease = place.get("leases", "p2pnet-operator")
    assert lease is not None
    assert not lease["spec"].get("holderIdentity"), json.dumps(lease["spec"])


def test_a_right_taken_at_run_time_is_named_and_given_back_it_goes_on_by_itself(
    control: Control, place: Place, proxy: Proxy, tmp_path: Path
) -> None:
    path = kubeconfig(proxy, account(place, "served", "claim"), tmp_path)
    with control.operator(kubeconfig=path, watch_namespaces=place.name, metrics_port=str(PORT)) as operator:
        demo = place.subnet("demo", {"nodes": 2})
        demo.until_ready(2)
        less = [{**rule, "verbs": [one for one in rule["verbs"] if one != "create"]} if rule["resources"] == ["pods"] else rule
                for rule in granted("served")]  # fmt: skip
        place.patch("roles", "p2pnet-served", {"rules": less})
        demo.edit(nodes=3)

        def named() -> bool:
            found = {one["type"]: one for one in demo.thing()["status"]["conditions"]}["Degraded"]
            return found["reason"] == "Forbidden" and 'cannot create resource "pods"' in found["message"]

        until(named, "the condition names the right that is missing", every_s=0.1)
        assert 'p2pnet_api_requests_total{code="403",resource="pods",verb="post"}' in metrics(control, PORT)

        def forbidden() -> bool:  # counted when the look ends that has written the condition
            return value(metrics(control, PORT), "p2pnet_reconcile_total", result="forbidden") > 0

        until(forbidden, "the look is counted", every_s=0.1)
        place_of = {"namespace": place.name, "subnet": "demo", "condition": "Degraded"}
        page = metrics(control, PORT)
        assert value(page, "p2pnet_subnet_condition", **place_of, status="True") == 1
        assert value(page, "p2pnet_subnet_condition_reason", **place_of, reason="Forbidden") == 1
        place.patch("roles", "p2pnet-served", {"rules": granted("served")})
        demo.until_ready(3)
        assert (operator.starts, operator.running) == (1, True)


def test_a_namespace_that_goes_takes_its_subnets_along_and_nobody_calls_that_a_missing_right(
    control: Control, proxy: Proxy
) -> None:
    held = {"metadata": {"name": "held", "finalizers": ["p2pnet.io/test"]}}
    with control.place("going") as place, control.operator(proxy, metrics_port=str(PORT)) as operator:
        demo = place.subnet("demo", {"nodes": 3})
        demo.until_ready(3)
        place.create("configmaps", held)
        control.inside.do(control.server.delete("namespaces", "", place.name))
        until(lambda: not place.find("subnets") and not demo.everything(), "all of it is gone")
        with pytest.raises(ConflictError, match="being terminated"):
            control.inside.do(create_late(control, place))
        place.patch("configmaps", "held", {"metadata": {"finalizers": None}})
        assert value(metrics(control, PORT), "p2pnet_reconcile_total", result="forbidden") == 0
        assert "Traceback" not in operator.log()


async def create_late(control: Control, place: Place) -> None:
    """What an operator does that has not heard of the end yet."""
    api = await KubernetesCluster.connect(kubeconfig=str(control.kubeconfig))
    try:
        await api.create(CONFIG_MAP, place.name, {"metadata": {"name": "late"}})
    finally:
        await api.close()
