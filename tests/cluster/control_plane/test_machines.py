"""A machine dies with the lab on it: it is named, and where somebody has asked for that its pods are made again elsewhere."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.control import Control, Place, Twin
from tests.cluster.control_plane.test_rights import account, granted, kubeconfig, rights, used
from tests.cluster.kit import until
from tests.cluster.process import Operator
from tests.cluster.proxy import Proxy
from tests.cluster.server import Thing


@pytest.fixture
def doomed(control: Control) -> Iterator[str]:
    """A machine on which the lab and the last node are placed."""
    name = f"doomed-{time.monotonic_ns()}"
    control.inside.do(control.kubelet.boot(name))

    def placed(pod: Thing) -> str:
        there = name not in control.kubelet.dead and pod["metadata"]["name"] in ("demo-lab", "demo-node-2")
        return name if there else "nowhere"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control.kubelet, "machine", placed)
        yield name
    control.kubelet.dead.discard(name)
    control.inside.do(control.server.delete("nodes", "", name))


@contextlib.contextmanager
def operated(control: Control, place: Place, proxy: Proxy, folder: Path, scope: str) -> Iterator[Operator]:
    """An operator of the whole cluster, or of this namespace with no right beyond it."""
    if scope == "cluster":
        with control.operator(proxy, warm=True) as operator:
            yield operator
    else:
        way = kubeconfig(proxy, account(place, "served", "claim"), folder)
        with control.operator(kubeconfig=way, watch_namespaces=place.name) as operator:
            yield operator


def degraded(demo: Twin) -> Thing:
    found: Thing = next(one for one in demo.thing()["status"]["conditions"] if one["type"] == "Degraded")
    return found


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_a_lost_machine_is_named_and_its_pods_are_made_again_once_that_is_asked_for(
    control: Control, doomed: str, tmp_path: Path, scope: str
) -> None:
    with (
        control.place("machines") as place, control.proxy() as proxy,
        operated(control, place, proxy, tmp_path, scope) as operator,
    ):  # fmt: skip
        demo = place.subnet("demo", {"nodes": 3})
        demo.until_ready(3)
        assert not [ask for ask in proxy.asks if ask.plural == "nodes"], "at rest nobody asks about machines"
        before = demo.uids()
        control.inside.do(control.kubelet.die(doomed))
        until(lambda: degraded(demo)["reason"] == "MachineLost", "the machine is named", every_s=0.1)
        assert f"machine {doomed}" in degraded(demo)["message"]
        assert "kubectl delete node" in degraded(demo)["message"]
        place.delete("pods", "demo-lab")  # as its taint would in half a minute
        until(
            lambda: (place.get("pods", "demo-lab") or {})["metadata"].get("deletionTimestamp"),
            "it should end",
            every_s=0.1,
        )
        assert demo.uids() == before, "who may be alive has no twin"
        demo.annotate("replace-lost-after", "1s")
        demo.until_ready(3)
        after = demo.uids()
        assert {name for name in before if after[name] != before[name]} == {"demo-lab", "demo-node-2"}
        assert degraded(demo)["reason"] == "Healthy"
        warned = {("MachineLost", "Warning"), ("PodsReplaced", "Warning")}
        until(
            lambda: warned <= {(one["reason"], one["type"]) for one in place.find("events")},
            "events tell it, which are posted after the status",
            every_s=0.1,
        )
        beyond = {right for right in used(proxy.asks) if right in rights(granted("cluster"))}
        assert beyond == (rights(granted("cluster")) if scope == "cluster" else set())
        assert not [str(ask) for ask in proxy.asks if ask.status in (401, 403) and f"/{place.name}/" in ask.path]
        assert "Traceback" not in operator.log()
