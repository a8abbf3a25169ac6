"""A control plane without machines: real etcd, API server and garbage collector, a kubelet and labs that a test plays.

The operator is a process of the working tree, so a test can kill it, stop it, and stand between it and the API server:

    with control.place() as place, control.operator(place) as operator:
        place.subnet("demo", {"nodes": 5})
        operator.kill()
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.inside import Inside
from tests.cluster.kit import Cluster, conditions, until
from tests.cluster.kubelet import NETWORK, Kubelet
from tests.cluster.labs import Labs
from tests.cluster.process import Nest, Operator
from tests.cluster.proxy import Fault, Proxy
from tests.cluster.server import Server, Thing

CHILDREN = ("pods", "secrets", "configmaps", "services", "poddisruptionbudgets", "networkpolicies")
"""Everything the operator makes for a Subnet."""
CONVERGED_S = 300.0
"""For a Subnet to be as asked: far above what it takes, for the machine may be busy."""


class Control:
    """A control plane that runs, and this process's part in it: `server`, `kubelet` and `labs`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.cluster.script("exec", "ip", "route", "replace", "local", NETWORK, "dev", "lo")
        self.inside = self._stack.enter_context(Inside(self.cluster.name))
        self.server: Server = self.inside.do(self._connect())
        self._nest = Nest(self.cluster.name)
        self._stack.callback(self._nest.close)
        self._stack.callback(lambda: self.inside.do(self.server.__aexit__(None, None, None)))
        self.kubelet = Kubelet(self.server)
        self.labs = Labs(self.server, self.kubelet)
        self.inside.start(self.kubelet.run())
        self.inside.start(self.labs.run())
        self._install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def kubeconfig(self) -> Path:
        """Of the cluster's admin."""
        found = self.cluster.run("sh", "-c", "echo $KUBECONFIG").strip()
        return Path(found)

    async def _connect(self) -> Server:
        return await Server(self.kubeconfig).__aenter__()

    def _install(self) -> None:
        words = [sys.executable, "-m", "p2pnet.operator", "crd"]
        self.cluster.apply(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        for kind in ("subnets", "injections"):
            self.cluster.established(f"{kind}.p2pnet.io")

    def find(self, plural: str, namespace: str = "", selector: str = "") -> list[Thing]:
        """All objects with these labels."""
        return self.inside.do(self.server.find(plural, namespace, selector))

    @contextlib.contextmanager
    def place(self, prefix: str = "test") -> Iterator["Place"]:
        """A namespace of a test's own that takes only restricted pods."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.inside.do(self.server.create("namespaces", "", {"metadata": {"name": name, "labels": labels}}))
        until(
            lambda: self.inside.do(self.server.get("serviceaccounts", name, "default")),
            "pods may be made",
            every_s=0.05,
        )
        try:
            yield Place(self, name)
        finally:
            self.inside.do(self.server.delete("namespaces", "", name))

    @contextlib.contextmanager
    def proxy(self, *faults: Fault) -> Iterator[Proxy]:
        """A proxy before the API server, until the block ends."""
        proxy = Proxy(self.server, faults)
        try:
            self.inside.do(proxy.start())
            yield proxy
        finally:
            self.inside.do(proxy.stop())

    @contextlib.contextmanager
    def operator(
        self, proxy: Proxy | None = None, *, warm: bool = False, values: dict[str, Any] | None = None,
        kubeconfig: Path | None = None, start: bool = True, **environment: str,
    ) -> Iterator[Operator]:  # fmt: skip
        """The operator as a process of the working tree, until the block ends.

        `environment` names settings without P2PNET_; `values` sets constants, such as {"kube.leader.LEASE_S": 3}; `warm` forks
        it from a process that has imported everything, so that a start takes a moment.
        """
        with tempfile.TemporaryDirectory() as folder:
            way = kubeconfig or (proxy.kubeconfig(Path(folder)) if proxy else self.kubeconfig)
            log = Path(folder) / "operator.log"
            process = Operator(self._nest, log, way, environment, values or {}, warm=warm)
            try:
                if start:
                    process.start()
                yield process
            except BaseException:
                print(process.log()[-6000:])
                raise
            finally:
                process.kill()


class Place:
    """A namespace, as a test sees and treats it."""

    def __init__(self, control: Control, name: str) -> None:
        self.control = control
        self.name = name

    def get(self, plural: str, name: str) -> Thing | None:
        """An object, or None."""
        return self.control.inside.do(self.control.server.get(plural, self.name, name))

    def find(self, plural: str, selector: str = "") -> list[Thing]:
        """Objects with these labels."""
        return self.control.find(plural, self.name, selector)

    def patch(self, plural: str, name: str, body: Thing) -> Thing:
        """Merge patch."""
        return self.control.inside.do(self.control.server.patch(plural, self.name, name, body))

    def delete(self, plural: str, name: str, **options: Any) -> None:
        """Delete an object, or nothing."""
        self.control.inside.do(self.control.server.delete(plural, self.name, name, **options))

    def create(self, plural: str, body: Thing) -> Thing:
        """A new object."""
        return self.control.inside.do(self.control.server.create(plural, self.name, body))

    def subnet(self, name: str = "demo", spec: Thing | None = None) -> "Twin":
        """A new Subnet."""
        body = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec or {}}
        self.create("subnets", body)
        return Twin(self, name)

    def injection(self, name: str = "smoke", **spec: Any) -> Thing:
        """A new Injection, of the Subnet `demo` unless the spec says otherwise."""
        body = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Injection", "metadata": {"name": name}}
        return self.create("injections", {**body, "spec": {"subnet": "demo", **spec}})


class Twin:
    """A Subnet of a place."""

    def __init__(self, place: Place, name: str) -> None:
        self.place = place
        self.name = name

    def thing(self) -> Thing:
        """The object."""
        found = self.place.get("subnets", self.name)
        assert found is not None, f"no Subnet {self.name}"
        return found

    def edit(self, **spec: Any) -> None:
        """Merge into the spec."""
        self.place.patch("subnets", self.name, {"spec": spec})

    def annotate(self, key: str, value: str | None) -> None:
        """Set one of our annotations."""
        self.place.patch("subnets", self.name, {"metadata": {"annotations": {f"p2pnet.io/{key}": value}}})

    def children(self, plural: str) -> dict[str, Thing]:
        """Its objects of a kind by name."""
        return {one["metadata"]["name"]: one for one in self.place.find(plural, f"p2pnet.io/subnet={self.name}")}

    def uids(self) -> dict[str, str]:
        """Of its pods, by name."""
        return {name: pod["metadata"]["uid"] for name, pod in self.children("pods").items()}

    def everything(self) -> set[str]:
        """`plural/name` of all that is its."""
        return {f"{plural}/{name}" for plural in CHILDREN for name in self.children(plural)}

    def whole(self, nodes: int) -> set[str]:
        """What stands there for so many nodes, one a pod, of group `node`: this and nothing more."""
        return self.parts(self.name, nodes)

    @staticmethod
    def parts(name: str, nodes: int) -> set[str]:
        """What a Subnet of this name and size is made of."""
        pods = [f"{name}-node-{number}" for number in range(nodes)]
        secrets = [*pods, f"{name}-lab", f"{name}-lab-token", f"{name}-ca"]
        found = {f"pods/{one}" for one in (*pods, f"{name}-lab")} | {f"secrets/{one}" for one in secrets}
        found |= {f"configmaps/{name}-{one}" for one in ("config", "members")}
        found |= {f"services/{name}-{one}" for one in ("lab", "nodes")}
        budget = {f"poddisruptionbudgets/{name}-nodes"} if nodes > 1 else set()
        return found | budget | {f"networkpolicies/{name}"}

    def until_ready(self, nodes: int, within_s: float = CONVERGED_S) -> float:
        """Wait until status says that so many nodes of this generation are ready and connected; the seconds that took."""
        began = time.monotonic()

        def ready() -> bool:
            subnet = self.thing()
            status = subnet.get("status") or {}
            current = status.get("observedGeneration") == subnet["metadata"]["generation"]
            counts = dict.fromkeys(("desired", "ready", "connected"), nodes)
            truths = conditions(subnet)
            at_rest = truths.get("Progressing") == "False" and truths.get("Degraded") == "False"
            return bool(current and at_rest and status.get("nodes") == counts and truths.get("Ready") == "True")

        try:
            until(ready, f"{nodes} nodes of {self.name} are ready and connected", within_s, every_s=0.05)
        except AssertionError:
            print(json.dumps(self.thing().get("status"), indent=1), sorted(self.everything()))
            raise
        return time.monotonic() - began
