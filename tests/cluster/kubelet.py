"""A kubelet without machines: pods are placed, run, are ready and go, as a test wishes. No container ever starts."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

from tests.cluster.server import RefusedError, Server, Thing

MACHINE = "nowhere"
"""Where pods are, unless a test says otherwise."""
NETWORK = "10.250.0.0/16"
"""Addresses of pods: each leads to this very machine (`ip route add local`), so that one server answers for all labs."""

Status = Callable[[Thing], Thing | None]
"""What a placed pod's status should be; None: leave it pending."""


def now_text() -> str:
    """The time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(pod: Thing, *, ready: bool = True, since: str = "") -> Thing:
    """The status of a pod whose containers run."""
    moment = since or now_text()
    truth = "True" if ready else "False"
    conditions = [
        {"type": kind, "status": "True" if kind == "PodScheduled" else truth, "lastTransitionTime": moment}
        for kind in ("PodScheduled", "ContainersReady", "Ready")
    ]
    containers = [
        {
            "name": one["name"], "image": one["image"], "imageID": "", "restartCount": 0, "ready": ready,
            "state": {"running": {"startedAt": moment}},
        }
        for one in pod["spec"]["containers"]
    ]  # fmt: skip
    return {"phase": "Running", "conditions": conditions, "containerStatuses": containers, "startTime": moment}


def waiting(pod: Thing, reason: str, message: str = "") -> Thing:
    """The status of a pod whose containers do not come up, such as `CrashLoopBackOff` or `ErrImagePull`."""
    status = running(pod, ready=False)
    for container in status["containerStatuses"]:
        container["state"] = {"waiting": {"reason": reason, "message": message or reason}}
    return {**status, "phase": "Pending"}


class Kubelet:
    """Serves every pod of the cluster. `starts_s` and `ends_s` are how long a pod takes to be ready, and to go."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._addresses = (f"10.250.{high}.{low}" for high in range(256) for low in range(1, 255))
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.starts_s = 0.05
        self.ends_s = 0.05
        self.status: Status = running
        self.machine: Callable[[Thing], str] = lambda _: MACHINE
        """Where a new pod is placed; the machine must have been made by `boot`."""
        self.dead: set[str] = set()
        """Machines whose kubelets are silent."""
        self.pods: dict[str, Thing] = {}
        """By uid, as last heard of."""
        self.listeners: list[Callable[[str, Thing], None]] = []
        """Told of every event of a pod: its type, and the pod."""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self.boot(MACHINE)
            async for kind, pod in self._server.watch("pods"):
                for tell in self.listeners:
                    tell(kind, pod)
                uid = pod["metadata"]["uid"]
                if kind == "DELETED":
                    self.pods.pop(uid, None)
                    continue
                self.pods[uid] = pod
                self._look(uid)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def boot(self, machine: str, ready: str = "True") -> None:
        """Make the Node object of a machine, or say of it how it is: `Unknown` when its kubelet is silent."""
        with contextlib.suppress(RefusedError):  # it is there
            await self._server.create("nodes", "", {"metadata": {"name": machine}})
        condition = {
            "type": "Ready",
            "status": ready,
            "lastTransitionTime": now_text(),
            "reason": "Played",
            "message": "",
        }
        await self._server.patch("nodes", "", machine, {"status": {"conditions": [condition]}}, "status")

    async def die(self, machine: str) -> None:
        """The kubelet of a machine is silent from now on, and Kubernetes has noticed it."""
        self.dead.add(machine)
        await self.boot(machine, "Unknown")
        for pod in [one for one in self.pods.values() if one["spec"].get("nodeName") == machine]:
            metadata = pod["metadata"]
            conditions = [
                {**one, "status": "False"} if one["type"] == "Ready" else one for one in pod["status"]["conditions"]
            ]
            body = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": conditions}}
            await self._server.patch("pods", metadata["namespace"], metadata["name"], body, "status")

    def again(self) -> None:
        """Look at all pods once more: `status` has changed its mind."""
        for uid in list(self.pods):
            self._look(uid)

    def _look(self, uid: str) -> None:
        if uid not in self._busy:
            self._busy.add(uid)
            task = asyncio.create_task(self._serve(uid))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, uid: str) -> None:
        """Bring one pod to what it should be; what is refused is tried again by the next event."""
        try:
            while (pod := self.pods.get(uid)) is not None:
                seen = pod["metadata"]["resourceVersion"]
                with contextlib.suppress(RefusedError, OSError, TimeoutError):
                    await self._step(pod)
                await asyncio.sleep(0.02)
                if uid not in self.pods or self.pods[uid]["metadata"]["resourceVersion"] == seen:
                    return
        finally:
            self._busy.discard(uid)

    async def _step(self, pod: Thing) -> None:
        metadata, status = pod["metadata"], pod.get("status") or {}
        place, name = metadata["namespace"], metadata["name"]
        only = {"uid": metadata["uid"]}
        if pod["spec"].get("nodeName") in self.dead:
            return
        if metadata.get("deletionTimestamp"):
            await asyncio.sleep(self.ends_s)
            await self._server.delete("pods", place, name, gracePeriodSeconds=0, preconditions=only)
            return
        if not pod["spec"].get("nodeName"):
            binding = {
                "metadata": {"name": name, **only},
                "target": {"apiVersion": "v1", "kind": "Node", "name": self.machine(pod)},
            }
            await self._server.ask("POST", f"/api/v1/namespaces/{place}/pods/{name}/binding", binding)
            await asyncio.sleep(self.starts_s)
        wanted = self.status(pod)
        if wanted is None or _same(status, wanted):
            return
        address = status.get("podIP") or self._free_address()
        addresses = {
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": "10.99.0.1",
            "hostIPs": [{"ip": "10.99.0.1"}],
        }
        body = {"metadata": only, "status": {**wanted, **addresses}}
        await self._server.patch("pods", place, name, body, "status")

    def _free_address(self) -> str:
        taken = {(pod.get("status") or {}).get("podIP") for pod in self.pods.values()}  # an earlier session's, if kept
        return next(address for address in self._addresses if address not in taken)


def _same(status: Thing, wanted: Thing) -> bool:
    """Whether a status says the wanted already, apart from when that began."""

    def plain(one: Thing) -> Thing:
        conditions = sorted((each["type"], each["status"]) for each in one.get("conditions") or [])
        states = [
            (each["name"], each["ready"], sorted(each["state"]), each["restartCount"], _reason(each))
            for each in one.get("containerStatuses") or []
        ]
        return {"phase": one.get("phase"), "conditions": conditions, "states": states}

    return plain(status) == plain(wanted)


def _reason(container: Thing) -> str:
    return str((container["state"].get("waiting") or {}).get("reason", ""))
