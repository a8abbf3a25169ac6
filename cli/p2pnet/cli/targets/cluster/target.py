"""Subnets of a Kubernetes cluster, one context and namespace: Subnet objects, brought about by the operator."""

import asyncio
import base64
import binascii
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.cluster.lab import ClusterLab
from p2pnet.cli.targets.cluster.status import ROLE_LABEL, SUBNET_LABEL, Object, document_of, name_of
from p2pnet.cli.targets.target import Change, Presence, TargetName, TargetProgress
from p2pnet.cli.threads import in_daemon
from p2pnet.lab_client import LabClient
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.lab_client.proxy import RETRY_S, LabAwayError
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.jobs import RunFile
from p2pnet.store import State
from p2pnet.store.heads import RunHead
from p2pnet.subnet.document import kept_annotations, to_document
from p2pnet.subnet.spec import Subnet

API = "/apis/p2pnet.io/v1alpha1"
POLL_S = 0.5
GONE_S = 120.0  # for pods to end: nodes take 10 s, their grace is 30
COLLECT_S = 20.0  # for the runs that nobody has copied yet, before their lab goes
BROKEN = ("Invalid", "BadRequest")
CONFLICT = 409
EDITS_MAX = 10  # of a document that others write at the same time: controllers settle sooner


class ClusterTarget:
    """The target `cluster`."""

    kind: TargetName = "cluster"

    def __init__(self, state: State, kube: Kube, *, namespace_given: bool = False) -> None:
        self.state = state
        self._opened: Kube | None = kube
        self._namespace_given = namespace_given

    @property
    def kube(self) -> Kube:
        """The API server."""
        assert self._opened is not None  # noqa: S101 - a subclass may open it later, and then first
        return self._opened

    @property
    def where(self) -> str:
        """In words."""
        return f"context {self.kube.context}, namespace {self.kube.namespace}"

    @property
    def install_command(self) -> str:
        """What installs the operator here."""
        return f"p2pnet install --context {self.kube.context}"

    # --- what there is ---

    def names(self) -> list[str]:
        """Subnet objects of the namespace. TargetError (exit 3) where p2pnet is not installed."""
        try:
            return sorted(map(name_of, self.kube.find(self._path())))
        except KubeError as error:
            if error.status == 404:
                raise self._not_installed() from error
            raise

    def location(self) -> tuple[str | None, str | None]:
        """The same for all: one context, one namespace."""
        return self.kube.context, self.kube.namespace

    def presence(self, name: str) -> Presence:
        """By the object alone: one that is being deleted counts as dead."""
        thing = self._object(name)
        if thing is None:
            return "absent"
        return "dead" if thing["metadata"].get("deletionTimestamp") else "up"

    def subnet(self, name: str) -> Subnet:
        """The object's document."""
        thing = self._object(name)
        if thing is None:
            raise self._absent(name)
        try:
            return document_of(thing)
        except SpecError as error:
            hint = f"correct it: kubectl edit subnet {name} -n {self.kube.namespace}"
            raise TargetError(
                f"the document of {name} is wrong: {error}", where=self.where, hint=hint, exit_code=ExitCode.USAGE
            ) from error

    def why_it_ended(self, name: str) -> TargetError | None:
        """None: the operator goes on trying, whatever happens."""
        del name
        return None

    @contextlib.asynccontextmanager
    async def lab(self, name: str) -> AsyncIterator[LabClient]:
        """Through the API server's proxy."""
        if await in_daemon(self._object, name) is None:
            raise self._absent(name)
        async with self._client(name) as client:
            yield client

    def _client(self, name: str, *, retry_s: float = RETRY_S) -> ClusterLab:
        token: list[str] = []

        def shown() -> str:
            if not token:
                token.append(self._token(name))
            return token[0]

        def look() -> Object:
            thing = self._object(name)
            if thing is None:
                raise self._absent(name)
            return thing

        return ClusterLab(
            self.kube, name, self.state, token=shown, look=look, pods=lambda: self._pods(name), apply=self._apply,
            injections=self._injections, retry_s=retry_s,
        )  # fmt: skip

    async def collect(self, name: str) -> None:
        """Copy the runs of a lab that answers into the state directory."""
        if await in_daemon(self._object, name) is not None:
            async with self._client(name, retry_s=0.0) as client:
                await client.collect()

    def owns(self, run: RunFile | RunHead) -> bool:
        """Its copy names context and namespace."""
        return self._opened is None or (run.context, run.namespace) == (self.kube.context, self.kube.namespace)

    # --- what is done ---

    def use_namespace(self, subnet: Subnet) -> None:
        """Go to the namespace that a document names. TargetError (exit 2) when `-n` names another one."""
        named = subnet.metadata.namespace
        if named in (None, self.kube.namespace):
            return
        if self._namespace_given:
            raise TargetError(
                f"the command line says namespace {self.kube.namespace}, the file's metadata.namespace says {named}",
                where=f"Subnet {subnet.name}",
                hint="leave one of the two out, or make them the same",
                exit_code=ExitCode.USAGE,
            )
        self.kube.namespace = str(named)

    @contextlib.asynccontextmanager
    async def lock(self, name: str, progress: TargetProgress) -> AsyncIterator[None]:
        """Nothing to hold: the API server orders writes."""
        del name, progress
        yield

    async def prepare(self, subnet: Subnet, progress: TargetProgress) -> None:
        """Nothing: who looks after the cluster has installed the operator, and registries have the images."""

    async def start(self, subnet: Subnet, progress: TargetProgress, *, timeout_s: float) -> None:
        """Apply the document; a former subnet of that name that is still going is waited for."""
        del timeout_s
        await self._until_gone(subnet.name, progress, ended=True)
        progress.waiting("the API server")
        await asyncio.to_thread(self._apply, to_document(subnet))

    async def edit(self, name: str, change: Change, progress: TargetProgress) -> None:
        """Patch the object, of the very version that the change was made for."""
        progress.waiting("the API server")
        for _ in range(EDITS_MAX):
            if await asyncio.to_thread(self._edit, name, change):
                return
        raise TargetError(
            f"the document of {name} was written by others {EDITS_MAX} times meanwhile",
            where=self.where,
            hint="try again when they are done",
            exit_code=ExitCode.USAGE,
        )

    def _edit(self, name: str, change: Change) -> bool:
        """Whether the document was still the one that the change was made for."""
        thing = self._object(name)
        if thing is None:
            raise self._absent(name)
        patch = change({key: thing.get(key) for key in ("apiVersion", "kind", "metadata", "spec")})
        version = {"resourceVersion": (thing["metadata"] or {}).get("resourceVersion")}
        body = {**patch, "metadata": {**(patch.get("metadata") or {}), **version}}
        try:
            self.kube.merge(self._path(name), body)
        except KubeError as error:
            if error.status == CONFLICT:
                return False
            if error.reason in BROKEN:
                raise self._wrong(error, name) from error
            raise
        return True

    async def remove(self, name: str, progress: TargetProgress) -> bool:
        """Keep copies of its runs, delete it, wait until its pods are gone too."""
        with contextlib.suppress(P2pnetError, TimeoutError):
            progress.waiting("copies of its runs")
            await asyncio.wait_for(self.collect(name), COLLECT_S)
        was = await asyncio.to_thread(self.kube.delete, self._path(name))
        return await self._until_gone(name, progress) or was

    async def _until_gone(self, name: str, progress: TargetProgress, *, ended: bool = False) -> bool:
        """Whether there was anything to wait for. With `ended`, an object that is not being deleted is none."""
        deadline, was = time.monotonic() + GONE_S, False
        while True:
            thing = await in_daemon(self._object, name)
            if ended and thing is not None and not thing["metadata"].get("deletionTimestamp"):
                return was
            pods = await in_daemon(self._pods, name)
            if thing is None and not pods:
                return was
            was = True
            if time.monotonic() > deadline:
                left = ", ".join(map(name_of, pods[:5])) or f"the Subnet {name} itself"
                raise TargetError(
                    f"{name} is deleted, but after {GONE_S:.0f} s there still is {left}",
                    where=self.where,
                    hint=f"kubectl describe pods -n {self.kube.namespace} -l {SUBNET_LABEL}={name}",
                    exit_code=ExitCode.NOT_READY,
                )
            progress.waiting(f"{len(pods)} pods of {name} to end")
            await asyncio.sleep(POLL_S)

    def _apply(self, document: dict[str, Any]) -> None:
        name = document["metadata"]["name"]
        kept = kept_annotations(document["metadata"].get("annotations"))
        body = {**document, "metadata": {"name": name, "namespace": self.kube.namespace, **kept}}
        try:
            found = self.kube.apply(self._path(name), body)
            if _fault_names(found) != _fault_names(document):  # those that `edit` wrote: an apply leaves them there
                self.kube.merge(
                    self._path(name), {"spec": {"faults": (document.get("spec") or {}).get("faults") or []}}
                )
        except KubeError as error:
            if error.status == 404:
                missing = f"namespaces {self.kube.namespace!r}" if "namespaces" in str(error) else ""
                raise (self._no_namespace() if missing else self._not_installed()) from error
            if error.reason in BROKEN:
                raise self._wrong(error, name) from error
            raise

    def _wrong(self, error: KubeError, name: str) -> TargetError:
        """The error for a document that the API server refuses: it is the user's (exit 2)."""
        hint = "correct it; p2pnet schema subnet shows what is known"
        return TargetError(str(error), where=f"Subnet {name}, {self.where}", hint=hint, exit_code=ExitCode.USAGE)

    # --- the API server ---

    def _path(self, name: str = "") -> str:
        return f"{API}/namespaces/{self.kube.namespace}/subnets" + (f"/{name}" if name else "")

    def _object(self, name: str) -> Object | None:
        return self.kube.get(self._path(name))

    def _pods(self, name: str) -> list[Object]:
        selector = f"{SUBNET_LABEL}={name},{ROLE_LABEL} in (node,lab)"
        return self.kube.find(f"/api/v1/namespaces/{self.kube.namespace}/pods", selector)

    def _injections(self) -> list[Object]:
        return self.kube.find(f"/apis/p2pnet.io/v1alpha1/namespaces/{self.kube.namespace}/injections")

    def _token(self, name: str) -> str:
        secret = f"{name}-lab-token"
        try:
            found = self.kube.get(f"/api/v1/namespaces/{self.kube.namespace}/secrets/{secret}")
        except KubeError as error:
            if error.status == 403:
                error.hint = (
                    f"ask for a Role in {self.kube.namespace} for this subnet alone: get Secret {secret} and Subnet {name},"
                    f" and get, create, update, patch, delete services/proxy {name}-lab:http; docs/kubernetes.md has it"
                    " written out"
                )
            raise
        try:
            token = base64.b64decode(((found or {}).get("data") or {}).get("token") or "").decode().strip()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            token = ""
        if not token:
            raise LabAwayError(f"the lab of {name} has no token yet (Secret {secret})")
        return token

    def _absent(self, name: str) -> TargetError:
        try:
            others = self.names()
        except KubeError:
            others = []  # who may use one subnet may not see the others
        here = f" (there: {', '.join(others[:8])})" if others else ""
        return TargetError(
            f"there is no subnet {name}{here}",
            where=self.where,
            hint=f"p2pnet up {name} --on {self.kind}",
            exit_code=ExitCode.NOT_FOUND,
        )

    def _not_installed(self) -> TargetError:
        return TargetError(
            f"p2pnet is not installed in context {self.kube.context}: it knows no Subnets",
            where=self.where,
            hint=self.install_command,
            exit_code=ExitCode.NOT_FOUND,
        )

    def _no_namespace(self) -> TargetError:
        return TargetError(
            f"there is no namespace {self.kube.namespace}",
            where=self.where,
            hint=f"kubectl create namespace {self.kube.namespace}",
            exit_code=ExitCode.NOT_FOUND,
        )


def _fault_names(document: Object) -> set[str]:
    return {fault["name"] for fault in (document.get("spec") or {}).get("faults") or []}
