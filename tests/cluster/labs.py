"""Labs without nodes: one server answers for the lab of every Subnet, by the address that was asked.

It says what nodes would: identities as their pods have loaded them, which is `loads_s` after the Secret was written.
"""

import asyncio
import base64
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web
from tests.cluster.kubelet import Kubelet
from tests.cluster.lab_runs import LabRuns
from tests.cluster.server import Server, Thing

from p2pnet.model.errors import SpecError
from p2pnet.model.registry import Membership
from p2pnet.model.report import CertificateCounts, LinkCounts, MemberStatus, NodeCounts, Status
from p2pnet.operator.subnet.context import LAB_PORT
from p2pnet.operator.subnet.plan.leaves import short
from p2pnet.trust import Bundle, Identity

OURS = "app.kubernetes.io/managed-by=p2pnet-operator"

Place = tuple[str, str]
"""Namespace and name."""


@dataclass
class Held:
    """What a pod has loaded: file -> bytes."""

    pod: str
    files: dict[str, bytes]

    @property
    def trusted(self) -> list[str]:
        """Fingerprints of its bundle."""
        with contextlib.suppress(SpecError, KeyError):  # a test may have written nonsense
            return [short(one) for one in Bundle.from_pem(self.files["ca.crt"]).fingerprints]
        return []

    def leaf(self, stem: str) -> str:
        """Fingerprint of one of its leaves."""
        files = self.files
        with contextlib.suppress(SpecError, KeyError):
            return short(Identity(files[f"{stem}.crt"], files[f"{stem}.key"], files["ca.crt"]).fingerprint)
        return ""


class Labs:
    """All labs. `silent(namespace, subnet)` says which do not answer.

    `on_load` are told of every identity that a pod loads, `on_secret` of every event of a Secret.
    """

    def __init__(self, server: Server, kubelet: Kubelet) -> None:
        self._server = server
        self._kubelet = kubelet
        self.secrets: dict[Place, Thing] = {}
        self.maps: dict[Place, Thing] = {}
        self.loaded: dict[str, Held] = {}
        """By uid of the pod."""
        self.pushed: dict[str, Membership] = {}
        """By uid of the lab's pod."""
        self.runs = LabRuns(self._asked)
        self.loads_s = 0.2
        self.silent: Callable[[str, str], bool] = lambda *_: False
        self.deaf: Callable[[str, str], bool] = lambda *_: False
        """Which do not take in that their members are others now, whoever tells them."""
        self._heard: dict[str, Membership] = {}
        """By uid of the lab's pod: the members it knows of."""
        self.on_load: list[Callable[[Thing, Held], None]] = []
        self.on_secret: list[Callable[[str, Thing], None]] = []
        self._due: dict[str, tuple[str, float]] = {}

    async def run(self) -> None:
        """Serve until cancelled."""
        app = web.Application(client_max_size=64 << 20)
        app.add_routes([web.get("/v1/summary", self._summary), web.post("/v1/members", self._members)])
        app.add_routes([web.get("/v1/members", self._known), *self.runs.routes()])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", LAB_PORT, reuse_address=True).start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow("secrets", self.secrets))
                group.create_task(self._follow("configmaps", self.maps))
                group.create_task(self._load())
        finally:
            await runner.cleanup()

    async def _follow(self, plural: str, there: dict[Place, Thing]) -> None:
        async for kind, thing in self._server.watch(plural, OURS):
            place = (thing["metadata"]["namespace"], thing["metadata"]["name"])
            if kind == "DELETED":
                there.pop(place, None)
            else:
                there[place] = thing
            for tell in self.on_secret if plural == "secrets" else ():
                tell(kind, thing)

    async def _load(self) -> None:
        """As kubelets do: pods get their Secret when they start, and changed ones a while after."""
        while True:
            for uid, pod in list(self._kubelet.pods.items()):
                self._look(uid, pod)
            for uid in self.loaded.keys() - self._kubelet.pods.keys():
                del self.loaded[uid]
                self._due.pop(uid, None)
            await asyncio.sleep(0.05)

    def _look(self, uid: str, pod: Thing) -> None:
        metadata = pod["metadata"]
        secret = self.secrets.get((metadata["namespace"], metadata["name"]))
        runs = (pod.get("status") or {}).get("phase") == "Running" and not metadata.get("deletionTimestamp")
        if secret is None or not runs:
            return
        version = secret["metadata"]["resourceVersion"]
        known, due = self._due.get(uid, ("", 0.0))
        if known != version:
            due = time.monotonic() + (self.loads_s if uid in self.loaded else 0.0)
            self._due[uid] = (version, due)
        if due <= time.monotonic() and due:
            files = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
            self.loaded[uid] = Held(metadata["name"], files)
            self._due[uid] = (version, 0.0)
            for tell in self.on_load:
                tell(pod, self.loaded[uid])

    async def _asked(self, request: web.Request) -> tuple[Thing, str]:
        """The lab's pod and its Subnet. Raises 404 and 401 as a real one would."""
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        for pod in self._kubelet.pods.values():
            metadata = pod["metadata"]
            if (pod.get("status") or {}).get("podIP") != address or not metadata.get("labels"):
                continue
            subnet = metadata["labels"].get("p2pnet.io/subnet", "")
            if self.silent(metadata["namespace"], subnet):
                await asyncio.sleep(60)
            token = (
                self.secrets.get((metadata["namespace"], f"{subnet}-lab-token"), {}).get("data", {}).get("token", "")
            )
            if request.headers.get("X-P2pnet-Token", "").encode() != base64.b64decode(token):
                raise web.HTTPUnauthorized
            return pod, subnet
        raise web.HTTPNotFound

    async def _members(self, request: web.Request) -> web.Response:
        pod, _ = await self._asked(request)
        self.pushed[pod["metadata"]["uid"]] = msgspec.json.decode(await request.read(), type=Membership)
        return web.json_response({})

    async def _known(self, request: web.Request) -> web.Response:
        pod, subnet = await self._asked(request)
        known = self.pushed.get(pod["metadata"]["uid"], self._written(pod["metadata"]["namespace"], subnet))
        if known is None:
            raise web.HTTPNotFound
        return web.Response(body=msgspec.json.encode(known), content_type="application/json")

    async def _summary(self, request: web.Request) -> web.Response:
        pod, subnet = await self._asked(request)
        return web.Response(body=msgspec.json.encode(self._status(pod, subnet)), content_type="application/json")

    def _status(self, lab: Thing, subnet: str) -> Status:
        namespace, uid = lab["metadata"]["namespace"], lab["metadata"]["uid"]
        written = self._written(namespace, subnet)
        known = self.pushed.get(uid, written)
        if written is not None and (known is None or written.registry.version > known.registry.version):
            known = written  # a mounted ConfigMap gets there by itself
        if known is not None and self.deaf(namespace, subnet):
            known = self._heard.get(uid, known)
        if known is not None:
            self._heard[uid] = known
        wanted = {one.name for one in known.registry.members} if known else set()
        running = {
            member: (pod, held)
            for key, pod in self._kubelet.pods.items()
            if (held := self.loaded.get(key)) and pod["metadata"]["namespace"] == namespace
            and pod["metadata"]["labels"].get("p2pnet.io/subnet") == subnet and not pod["metadata"].get("deletionTimestamp")
            for member in _stems(held) if member in wanted
        }  # fmt: skip
        members = [_member(name, pod, held) for name, (pod, held) in sorted(running.items())]
        edges = known.edge_count() if known else 0
        up = edges if running.keys() == wanted else 0
        count, of_lab = len(members), self.loaded.get(uid, Held("", {}))
        return Status(
            name=subnet, target="cluster", nodes=NodeCounts(len(wanted), count, count, count), members=members,
            links=LinkCounts(edges, up), certificates=CertificateCounts(count, None),
            registry_version=known.registry.version if known else 0, trusted=of_lab.trusted, leaf=of_lab.leaf("tls"),
            runs=self.runs.summaries(uid),
        )  # fmt: skip

    def _written(self, namespace: str, subnet: str) -> Membership | None:
        text = self.maps.get((namespace, f"{subnet}-members"), {}).get("data", {}).get("members.json")
        try:
            return msgspec.json.decode(text, type=Membership) if text else None
        except msgspec.ValidationError:  # a test has written nonsense, which a lab does not load
            return None


def _stems(held: Held) -> list[str]:
    return [
        name.removesuffix(".crt") for name in held.files if name.endswith(".crt") and name not in ("ca.crt", "tls.crt")
    ]


def _member(name: str, pod: Thing, held: Held) -> MemberStatus:
    return MemberStatus(
        name=name, group=pod["metadata"]["labels"].get("p2pnet.io/group", ""), state="connected", address="", peers=0,
        restarts=0, cert_not_after=None, trusted=held.trusted, leaf=held.leaf(name),
    )  # fmt: skip
