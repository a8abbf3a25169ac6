"""An API server that knows what the command line asks of one: Subnets, pods, a lab behind its proxy. In a thread of its own."""

import asyncio
import base64
import json
import re
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml
from aiohttp import web

from p2pnet.model.jobs import TOKEN_HEADER, Problem

TOKEN = "secret-of-the-lab"
BEARER = "of-the-user"
GROUP = "/apis/p2pnet.io/v1alpha1"
PODS = "/api/v1/namespaces/{namespace}/pods"


OLDER_LABELS = {"app.kubernetes.io/name": "p2pnet", "app.kubernetes.io/component": "operator"}
"""By which operators were found before they had a label of ours."""


class FakeKube:
    """What is there, and what was asked; answers change by changing its fields."""

    def __init__(self, namespace: str = "default") -> None:
        self.namespace = namespace
        self.installed = True
        self.kinds = ["Subnet", "Injection"]
        self.injections: list[str] = []
        self.experiments: list[dict[str, Any]] = []
        """Injections whole, as a namespace lists them."""
        self.subnets: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.lab: Callable[[str, str, dict[str, str], bytes], tuple[int, Any]] | None = None
        """(method, path, query, body) -> (status, document or bytes): the lab, when it is there."""
        self.away: list[int] = []
        """Statuses with which the proxy answers first."""
        self.operator: dict[str, Any] | None = deployment("p2pnet-operator:1")
        """The operator's Deployment, wherever it is; an applied one takes its place, and works at once."""
        self.forbidden: set[str] = set()
        """Parts of paths that are answered with 403."""
        self.asked: list[tuple[str, str]] = []
        self.applied: list[dict[str, Any]] = []
        self.before_merge: list[Callable[[], None]] = []
        """What others do just before a patch is merged, one after the other."""
        self.deleted: dict[str, int] = {}
        """Path -> how often it is still there after its deletion."""
        self.established_after = 2
        self.linger = 1
        """How often pods are still listed after their subnet's deletion."""
        self.on_apply: Callable[[dict[str, Any]], None] = self._settle

    # --- life ---

    def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> int:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        return int(self._runner.addresses[0][1])

    def kubeconfig(
        self, path: Path, *, context: str = "fake", namespace: str | None = None, server: dict[str, Any] | None = None,
        user: dict[str, Any] | None = None,
    ) -> Path:  # fmt: skip
        users = [{"name": "me", "user": user or {"token": BEARER}}]
        clusters = [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}", **(server or {})}}]
        inner = {"cluster": "c", "user": "me", **({"namespace": namespace} if namespace else {})}
        contexts = [{"name": context, "context": inner}, {"name": "other", "context": {"cluster": "c", "user": "me"}}]
        document = {
            "apiVersion": "v1", "kind": "Config", "clusters": clusters, "users": users, "contexts": contexts,
            "current-context": context,
        }  # fmt: skip
        path.write_text(yaml.safe_dump(document))
        return path

    # --- what there is ---

    def add(self, name: str, *, nodes: int = 3, phase: str = "Running", **spec: Any) -> dict[str, Any]:
        thing = {
            "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "spec": {"nodes": nodes, **spec},
            "metadata": {"name": name, "namespace": self.namespace, "generation": 1, "uid": name, "resourceVersion": "1"},
            "status": {"observedGeneration": 1, "certificates": {"issued": nodes}, "conditions": []},
        }  # fmt: skip
        self.subnets[name] = thing
        for index in range(nodes):
            self.add_pod(name, f"node-{index}", phase=phase)
        self.add_pod(name, "lab", role="lab", phase=phase)
        return thing

    def add_pod(self, subnet: str, node: str, *, role: str = "node", phase: str = "Running") -> dict[str, Any]:
        labels = {"p2pnet.io/subnet": subnet, "p2pnet.io/role": role}
        ready = [{"type": "Ready", "status": "True" if phase == "Running" else "False"}]
        environment = [{"name": "P2PNET_MEMBERS", "value": node}] if role == "node" else []
        pod = {
            "metadata": {"name": f"{subnet}-{node}", "labels": labels}, "spec": {"containers": [{"env": environment}]},
            "status": {"phase": phase, "conditions": ready},
        }  # fmt: skip
        self.pods[f"{subnet}-{node}"] = pod
        return pod

    def _settle(self, thing: dict[str, Any]) -> None:
        """As an operator would, at once."""
        name = thing["metadata"]["name"]
        status = {
            "observedGeneration": thing["metadata"]["generation"],
            "certificates": {"issued": 3},
            "conditions": [],
        }
        thing["status"] = status
        for index in range(thing["spec"].get("nodes", 3)):
            self.add_pod(name, f"node-{index}")

    # --- answering ---

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, method = request.path, request.method
        self.asked.append((method, path))
        body = await request.read()
        if request.headers.get("Authorization") != f"Bearer {BEARER}":
            return refused(401, "Unauthorized", "Unauthorized")
        if any(part in path for part in self.forbidden):
            return refused(403, "Forbidden", f"User me cannot {method.lower()} {path}")
        if "/proxy/" in path:
            return self._proxy(request, body)
        if path.endswith("/log"):
            return web.Response(text=self.logs.get(path.split("/")[-2], ""))
        if path.startswith(GROUP):
            kind = request.headers.get("Content-Type", "")
            return self._subnets(method, path.removeprefix(GROUP), body, merge="merge-patch" in kind)
        return self._others(method, path, body, request.query.get("labelSelector", ""))

    def _subnets(self, method: str, path: str, body: bytes, *, merge: bool) -> web.Response:
        if not self.installed:
            return refused(404, "NotFound", "the server could not find the requested resource")
        if not path:
            return web.json_response({"resources": [{"kind": kind} for kind in self.kinds]})
        if path == "/injections":
            items = [{"metadata": {"name": name, "namespace": self.namespace}} for name in self.injections]
            return web.json_response({"items": items})
        if path == f"/namespaces/{self.namespace}/injections":
            return web.json_response({"items": self.experiments})
        if path == "/subnets":
            return web.json_response({"items": list(self.subnets.values())})
        namespace, _, name = path.removeprefix("/namespaces/").partition("/subnets")
        name = name.strip("/")
        if namespace != self.namespace:
            if method == "PATCH":
                return refused(404, "NotFound", f'namespaces "{namespace}" not found')
            return refused(404, "NotFound", "none") if name else web.json_response({"items": []})
        if not name:
            return web.json_response({"items": list(self.subnets.values()), "metadata": {}})
        if method == "PATCH":
            return self._merge(name, json.loads(body)) if merge else self._apply(name, json.loads(body))
        if name not in self.subnets:
            return refused(404, "NotFound", f"subnets {name} not found")
        if method == "DELETE":
            del self.subnets[name]
        return web.json_response(self.subnets.get(name, {"kind": "Status"}))

    def _apply(self, name: str, document: dict[str, Any]) -> web.Response:
        if document["spec"].get("seed") == 666:
            return refused(422, "Invalid", 'Subnet "demo" is invalid: spec.seed: not that one')
        self.applied.append(document)
        before = self.subnets.get(name)
        generation = before["metadata"]["generation"] + 1 if before else 1
        metadata = {**document["metadata"], "generation": generation, "uid": name, "resourceVersion": str(generation)}
        thing = {**document, "metadata": metadata, "status": before["status"] if before else {}}
        written = {one["name"] for one in document["spec"].get("faults", [])}
        left = [one for one in (before or {}).get("spec", {}).get("faults", []) if one["name"] not in written]
        if left:  # another manager's items of a list that is a map stay
            thing["spec"] = {**document["spec"], "faults": [*document["spec"].get("faults", []), *left]}
        self.subnets[name] = thing
        self.on_apply(thing)
        return web.json_response(thing)

    def _merge(self, name: str, patch: dict[str, Any]) -> web.Response:
        """One level deep, which is all that is asked for here."""
        if self.before_merge:
            self.before_merge.pop(0)()
        thing = self.subnets[name]
        version = patch.get("metadata", {}).get("resourceVersion")
        if version not in (None, thing["metadata"].get("resourceVersion")):
            return refused(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        if any(fault.get("loss") == "66%" for fault in patch["spec"].get("faults", [])):
            return refused(422, "Invalid", 'Subnet "demo" is invalid: spec.faults[0].loss: not that much')
        thing["spec"] |= patch["spec"]
        self.touch(name)
        self.on_apply(thing)
        return web.json_response(thing)

    def touch(self, name: str) -> None:
        """Somebody wrote it."""
        metadata = self.subnets[name]["metadata"]
        metadata["generation"] += 1
        metadata["resourceVersion"] = str(metadata["generation"])

    def _others(self, method: str, path: str, body: bytes, selector: str) -> web.Response:
        if path == "/version":
            return web.json_response({"gitVersion": "v1.36.3"})
        if path == PODS.format(namespace=self.namespace):
            return web.json_response({"items": self._pods(selector)})
        if path == f"/api/v1/namespaces/{self.namespace}/events":
            return web.json_response({"items": self.events})
        if match := re.fullmatch(r"/api/v1/namespaces/[^/]+/secrets/(.+)-lab-token", path):
            if match[1] not in self.subnets:
                return refused(404, "NotFound", "no such secret")
            return web.json_response({"data": {"token": base64.b64encode(TOKEN.encode()).decode()}})
        if path.endswith("/selfsubjectaccessreviews"):
            return web.json_response({"status": {"allowed": True}})
        if path == "/apis/apps/v1/deployments":
            there = [self.operator] if self.operator else []
            return web.json_response({"items": [one for one in there if matches(one, selector)]})
        if re.fullmatch(r"/apis/apps/v1/namespaces/[^/]+/deployments/p2pnet", path) and method in ("GET", "PATCH"):
            return self._deployment(method, body)
        if path.startswith("/apis/apiextensions.k8s.io/") and method == "GET" and path not in self.deleted:
            self.established_after -= 1
            state = "True" if self.established_after < 0 else "False"
            return web.json_response({"status": {"conditions": [{"type": "Established", "status": state}]}})
        if method == "DELETE":
            self.deleted[path] = 2
        elif path in self.deleted and method == "GET":
            self.deleted[path] -= 1
            if self.deleted[path] < 0:
                return refused(404, "NotFound", f"{path} not found")
            return web.json_response({"metadata": {"deletionTimestamp": "2026-11-21T20:00:00Z"}})
        if method == "PATCH":
            if self.deleted.pop(path, -1) >= 0 and re.fullmatch(r"/api/v1/namespaces/[^/]+", path):
                return refused(403, "Forbidden", "because it is being terminated")
            self.applied.append(json.loads(body))
            self.installed = self.installed or "customresourcedefinitions" in path
        return web.json_response({"items": []} if method == "GET" else {"kind": "Status"})

    def _deployment(self, method: str, body: bytes) -> web.Response:
        if method == "PATCH":
            written = json.loads(body)
            self.applied.append(written)
            if "apiVersion" in written:
                working = dict.fromkeys(
                    ("replicas", "updatedReplicas", "availableReplicas"), written["spec"]["replicas"]
                )
                self.operator = written | {"status": {**working, "readyReplicas": 1, "observedGeneration": 1}}
        if self.operator is None:
            return refused(404, "NotFound", "deployments p2pnet not found")
        return web.json_response(self.operator)

    def _pods(self, selector: str) -> list[dict[str, Any]]:
        subnet = re.search(r"p2pnet.io/subnet=([^,]+)", selector)
        found = [
            pod
            for pod in self.pods.values()
            if not subnet or pod["metadata"]["labels"]["p2pnet.io/subnet"] == subnet[1]
        ]
        if subnet and subnet[1] not in self.subnets and found:
            self.linger -= 1
            if self.linger < 0:
                self.pods.clear()
                return []
        return found

    def _proxy(self, request: web.Request, body: bytes) -> web.Response:
        if self.away:
            return refused(self.away.pop(0), "ServiceUnavailable", "error trying to reach service: connection refused")
        if self.lab is None:
            return refused(503, "ServiceUnavailable", 'no endpoints available for service "demo-lab:http"')
        if request.headers.get(TOKEN_HEADER) != TOKEN:
            return problem(401, Problem("the token is wrong", exit_code=3))
        status, document = self.lab(request.method, request.path.split("/proxy", 1)[1], dict(request.query), body)
        if isinstance(document, bytes):
            return web.Response(status=status, body=document)
        return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")


def deployment(image: str, *, namespace: str = "p2pnet-system", node_image: str = "", **labels: str) -> dict[str, Any]:
    """An operator that works, as a list of the API server shows it."""
    container = {"image": image, "env": [{"name": "P2PNET_NODE_IMAGE", "value": node_image}]}
    return {
        "metadata": {"name": "p2pnet", "namespace": namespace, "labels": OLDER_LABELS | labels},
        "spec": {"replicas": 1, "template": {"metadata": {}, "spec": {"containers": [container]}}},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1},
    }


def matches(thing: dict[str, Any], selector: str) -> bool:
    """Whether an object has all labels of a selector like `a=b,c=d`."""
    labels = thing["metadata"].get("labels") or {}
    wanted = [part.split("=") for part in selector.split(",") if part]
    return all(labels.get(key) == value for key, value in wanted)


def refused(status: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}
    return web.json_response(body, status=status)


def problem(status: int, said: Problem) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(said), content_type="application/json")
