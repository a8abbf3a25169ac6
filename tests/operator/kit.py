"""An API server in memory, with a kubelet, a lab and a clock that only tests move: the operator's world in tests."""

import copy
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from p2pnet.model.errors import TargetError
from p2pnet.model.registry import Membership
from p2pnet.model.report import CertificateCounts, FaultStatus, LinkCounts, MemberStatus, NodeCounts, RunSummary, Status
from p2pnet.operator.kube.api import (
    CONFIG_MAP,
    EVENT,
    NODE,
    POD,
    SECRET,
    ApiError,
    BusyError,
    ConflictError,
    ForbiddenError,
    Object,
    ResourceKind,
    decoded,
    meta,
    name_of,
    time_text,
)
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet.context import CHILDREN, SUBNET, Observed, PodDefaults, SubnetContext
from p2pnet.operator.subnet.observe import context_of
from p2pnet.operator.subnet.plan.configmaps import read_membership
from p2pnet.operator.subnet.plan.leaves import short
from p2pnet.operator.subnet.reconcile import Reconciler
from p2pnet.subnet.document import digest_of, load_subnet
from p2pnet.trust import Bundle, Identity

T = TypeVar("T")

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
NAMESPACE = "lab-of-ada"
KEY = Key(SUBNET, NAMESPACE, "demo")
IMAGE = "p2pnet-node:test"


class Killed(BaseException):
    """The process was killed right after a write."""


@dataclass
class Api:
    """`Cluster` in memory: uids, resource versions, server-side apply with removal of what is no longer applied."""

    now: Callable[[], datetime]
    objects: dict[tuple[ResourceKind, str, str], Object] = field(default_factory=dict)
    applied: dict[tuple[ResourceKind, str, str], Object] = field(default_factory=dict)
    writes: list[tuple[str, ResourceKind, str]] = field(default_factory=list)
    reads: int = 0
    kill_after: int | None = None
    fault: Callable[[str, ResourceKind, str], Exception | None] = lambda *_: None
    """Asked before every write; an exception with `late = True` is raised after it has been done."""
    graceful: bool = False
    """Whether deleted pods stay, terminating, until the kubelet lets them go."""
    reading: Callable[[ResourceKind], Exception | None] = lambda _: None
    """Asked before an object is read by its name."""
    machines: dict[str, Object] = field(default_factory=dict)
    """Node objects by name."""
    deletions: list[tuple[ResourceKind, str, str]] = field(default_factory=list)
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        self.reads += 1
        if (refusal := self.reading(kind)) is not None:
            raise refusal
        if kind == NODE:
            return copy.deepcopy(self.machines.get(name))
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def find(self, kind: ResourceKind, namespace: str = "", selector: str = "") -> list[Object]:
        self.reads += 1
        wanted = [part.split("=") for part in selector.split(",") if part]
        return [{key: copy.deepcopy(value) for key, value in one.items() if key not in ("apiVersion", "kind")}
                for one in self.all(kind, namespace)  # as a real one leaves them out of lists
                if all((meta(one).get("labels") or {}).get(key) == value for key, value in wanted)]  # fmt: skip

    async def names(self, kind: ResourceKind, namespace: str) -> list[Object]:
        self.reads += 1
        return [{"metadata": copy.deepcopy(meta(one))} for one in self.all(kind, namespace)]

    async def create(self, kind: ResourceKind, namespace: str, body: Object) -> Object:
        with_place = (kind, namespace, name_of(body))

        def do() -> Object:
            if with_place in self.objects:
                raise ConflictError(409, "AlreadyExists", f"{name_of(body)} exists")
            self.put(kind, namespace, body)
            return self.objects[with_place]

        return self._write("create", kind, name_of(body), do)

    async def apply(self, kind: ResourceKind, namespace: str, body: Object, subresource: str = "") -> Object:
        place = (kind, namespace, name_of(body))
        uid = meta(body).get("uid")

        def do() -> Object:
            found = self.objects.get(place)
            if found is None and subresource:
                raise ApiError(404, "NotFound", "gone")
            if (found is None and uid) or (found and uid and meta(found)["uid"] != uid):
                raise ConflictError(409, "Conflict", "uid mismatch")
            if found is None:
                self.put(kind, namespace, body)
            else:
                before = self.applied.get((kind, namespace, f"{name_of(body)}/{subresource}"), {})
                self._change(found, _merge(_without(found, before, body), body))
            self.applied[(kind, namespace, f"{name_of(body)}/{subresource}")] = copy.deepcopy(body)
            return self.objects[place]

        return self._write("apply", kind, f"{name_of(body)}{'/' if subresource else ''}{subresource}", do)

    async def patch(self, kind: ResourceKind, namespace: str, name: str, body: Object) -> Object:
        def do() -> Object:
            found = self.objects.get((kind, namespace, name))
            if found is None:
                raise ApiError(404, "NotFound", "gone")
            version = meta(body).get("resourceVersion")
            if version and version != meta(found)["resourceVersion"]:
                raise ConflictError(409, "Conflict", "written since")
            self._change(found, _merge_patch(found, body))
            return found

        return self._write("patch", kind, name, do)

    async def delete(self, kind: ResourceKind, namespace: str, name: str, uid: str, *, force: bool = False) -> bool:
        assert uid, "every deletion names a uid"

        def do() -> bool:
            found = self.objects.get((kind, namespace, name))
            if found is None:
                return False
            if meta(found)["uid"] != uid:
                raise ConflictError(409, "Conflict", "uid mismatch")
            self.deletions.append((kind, name, uid))
            if self.graceful and kind == POD and not force:
                meta(found)["deletionTimestamp"] = time_text(self.now())
            else:
                del self.objects[(kind, namespace, name)]
            return True

        return self._write("delete", kind, name, do)

    # What others do

    def all(self, kind: ResourceKind, namespace: str = NAMESPACE) -> list[Object]:
        return [one for (k, n, _), one in self.objects.items() if k == kind and (not namespace or n == namespace)]

    def one(self, kind: ResourceKind, name: str) -> Object:
        return self.one_in(kind, NAMESPACE, name)

    def one_in(self, kind: ResourceKind, namespace: str, name: str) -> Object:
        return self.objects[(kind, namespace, name)]

    def put(self, kind: ResourceKind, namespace: str, body: Object) -> Object:
        stored = copy.deepcopy(body)
        version = next(self._versions)
        meta(stored).update(
            namespace=namespace, uid=f"uid-{version}", resourceVersion=str(version), generation=1,
            creationTimestamp=time_text(self.now()),
        )  # fmt: skip
        if kind.kind == "Service":  # servers add to what they are given
            stored["spec"]["sessionAffinity"] = "None"
        self.objects[(kind, namespace, name_of(body))] = stored
        return stored

    def edit(self, kind: ResourceKind, name: str, **spec: Any) -> None:
        found = self.one(kind, name)
        self._change(found, {**found, "spec": {**found["spec"], **spec}})

    def annotate(self, name: str, **annotations: str) -> None:
        found = self.one(SUBNET, name)
        meta(found).setdefault("annotations", {}).update(
            {f"p2pnet.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        )

    def remove(self, kind: ResourceKind, name: str) -> None:
        del self.objects[(kind, NAMESPACE, name)]

    def _change(self, found: Object, changed: Object) -> None:
        if changed == found:
            return
        if changed.get("spec") != found.get("spec"):
            changed["metadata"] = {**meta(changed), "generation": meta(found).get("generation", 1) + 1}
        found.update(changed)
        found["metadata"] = {**meta(found), "resourceVersion": str(next(self._versions))}

    def _write(self, verb: str, kind: ResourceKind, name: str, do: Callable[[], T]) -> T:
        if self.kill_after is not None and len(self.writes) >= self.kill_after:
            raise Killed  # writes that were on their way together die together
        fault = self.fault(verb, kind, name)
        if fault is not None and not getattr(fault, "late", False):
            raise fault
        result = do()
        self.writes.append((verb, kind, name))
        if fault is not None:
            raise fault
        if self.kill_after is not None and len(self.writes) >= self.kill_after:
            raise Killed
        return copy.deepcopy(result)


def _without(found: Any, before: Any, desired: Any) -> Any:
    """What was applied before and is not any more goes."""
    if not isinstance(found, dict) or not isinstance(before, dict):
        return found
    kept = {}
    for key, value in found.items():
        if key in before and (not isinstance(desired, dict) or key not in desired):
            continue
        kept[key] = _without(value, before.get(key), (desired or {}).get(key)) if key in before else value
    return kept


def _merge(found: Any, desired: Any) -> Any:
    if isinstance(found, dict) and isinstance(desired, dict):
        return {**found, **{key: _merge(found.get(key), value) for key, value in desired.items()}}
    return copy.deepcopy(desired)


def _merge_patch(found: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(found) if isinstance(found, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key != "resourceVersion":
            merged[key] = _merge_patch(merged.get(key), value)
    return merged


class World:
    """An API server with a kubelet and a lab, and an operator that can be killed and started again."""

    def __init__(self, name: str = "demo", annotations: dict[str, str] | None = None, **spec: Any) -> None:
        self.now = NOW
        self.api = Api(lambda: self.now)
        self.lab = FakeLab(self)
        self.key = Key(SUBNET, NAMESPACE, name)
        body = {
            "apiVersion": SUBNET.api,
            "kind": "Subnet",
            "metadata": {"name": name, "annotations": annotations or {}},
        }
        self.api.put(SUBNET, NAMESPACE, {**body, "spec": spec})
        self.start()

    def start(self) -> None:
        """A new operator process."""
        self.operator = Reconciler(self.api, self.lab, image=IMAGE, now=lambda: self.now)

    @property
    def subnet(self) -> Object:
        return self.api.one(SUBNET, self.key.name)

    @property
    def status(self) -> Object:
        return self.subnet.get("status") or {}

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(one for one in self.status["conditions"] if one["type"] == kind)
        return found["status"], found["reason"]

    def context(self) -> SubnetContext:
        return context_of(self.subnet, PodDefaults(IMAGE))

    def observed(self) -> Observed:
        kinds = {kind for kind, _, _ in self.api.objects} - {SUBNET, EVENT}
        return Observed(self.subnet, {kind: {name_of(one): one for one in self.api.all(kind)} for kind in kinds})

    async def reconcile(self, times_: int = 1) -> float | None:
        again = None
        for _ in range(times_):
            again = await self.operator.reconcile(self.key)
        return again

    async def converge(self, limit: int = 60, *, kubelet: bool = True) -> int:
        """Reconcile, with the kubelet at work between, until nothing is written any more; how many reconciliations that took."""
        for count in range(1, limit + 1):
            before = len(self.api.writes)
            try:
                await self.operator.reconcile(self.key)
            except (ConflictError, BusyError):
                continue
            moved = self.kubelet() if kubelet else False
            self.now += timedelta(seconds=6)
            if len(self.api.writes) == before and not moved:
                return count
        raise AssertionError(f"not at rest after {limit} reconciliations: {self.api.writes[-5:]}")

    def kubelet(self, *, ready: bool = True) -> bool:
        """Start what was created, end what is terminating; whether anything moved."""
        moved = False
        for index, pod in enumerate(self.api.all(POD)):
            if meta(pod).get("deletionTimestamp"):
                self.api.remove(POD, name_of(pod))
                moved = True
            elif (pod.get("status") or {}).get("phase") != "Running":
                self.set_ready(pod, ready=ready)
                pod["status"]["podIP"] = f"10.0.0.{index + 1}"
                moved = True
                self.lab.mount(name_of(pod))
        return moved

    def set_ready(self, pod: Object, *, ready: bool = True, **more: Any) -> None:
        since = time_text(self.now - timedelta(seconds=5))
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
        pod["status"] = {**(pod.get("status") or {}), "phase": "Running", "conditions": [condition], **more}


class FakeLab:
    """What a lab would say: all edges up, identities as the pods have loaded them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.silent = False
        self.auto_mount = True
        """Whether pods see a changed Secret at once, as if the kubelet were infinitely quick."""
        self.mounted: dict[str, dict[str, bytes]] = {}
        self.pushed: list[Membership] = []
        self.document: Object | None = None
        """Pushed last; the ConfigMap's has not got there."""
        self.asked = 0
        self.runs: list[RunSummary] = []
        self.faults: list[FaultStatus] = []
        self.revision_now = ""
        self.mounted_document = ""
        """Digest of the document mounted when the lab started; empty: it reports none."""
        self.links: LinkCounts | None = None
        self.stuck: Status | None = None
        """A status that it goes on reporting, whatever is pushed to it."""

    def mount(self, pod: str) -> None:
        """The pod reads its identity now: a Secret, or parts of several."""
        [volume] = [one for one in self._world.api.one(POD, pod)["spec"]["volumes"] if one["name"] == "identity"]
        secret = {"name": pod, "items": None}
        sources = [one["secret"] for one in volume.get("projected", {}).get("sources", [{"secret": secret}])]
        held: dict[str, bytes] = {}
        for source in sources:
            data = decoded(self._world.api.objects.get((SECRET, NAMESPACE, source["name"])))
            items = source["items"] or [{"key": key, "path": key} for key in data]
            held |= {item["path"]: data[item["key"]] for item in items if item["key"] in data}
        self.mounted[pod] = held

    async def summary(self, address: str, token: str) -> Status:
        self.asked += 1
        world = self._world
        if self.silent:
            raise TargetError("the lab is silent")
        if self.stuck is not None:
            return self.stuck
        context = world.context()
        if self.auto_mount:
            for pod in world.api.all(POD):
                self.mount(name_of(pod))
        there = {name_of(pod) for pod in world.api.all(POD) if (pod.get("status") or {}).get("phase") == "Running"}
        members = [
            self._member(name, placed.group, placed.pod)
            for placed in context.placements if placed.pod in there for name in placed.members
        ]  # fmt: skip
        written = read_membership(world.api.objects.get((CONFIG_MAP, NAMESPACE, context.members_map)))
        known = max([one.registry.version for one in self.pushed], default=written.registry.version if written else 0)
        edges = written.edge_count() if written else 0
        up = edges if len(members) == len(context.members) else 0
        lab = self.mounted.get(context.lab, {})
        return Status(
            name=context.name, target="cluster", nodes=NodeCounts(len(context.members), len(members), len(members), len(members)),
            links=self.links or LinkCounts(edges, up), certificates=CertificateCounts(len(members), None), members=members,
            document=digest_of(load_subnet(self.document)) if self.document else self.mounted_document,
            registry_version=known, runs=self.runs, faults=self.faults,
            revision=self.revision_now, trusted=_trusted(lab), leaf=_leaf(lab, "tls"),
        )  # fmt: skip

    def _member(self, name: str, group: str, pod: str) -> MemberStatus:
        held = self.mounted.get(pod, {})
        return MemberStatus(
            name=name, group=group, state="connected", address="", peers=0, restarts=0, cert_not_after=None,
            trusted=_trusted(held), leaf=_leaf(held, name),
        )  # fmt: skip

    async def revision(self, address: str, token: str, after: str) -> str:
        return self.revision_now

    async def members(self, address: str, token: str) -> Membership:
        if self.silent or not self.pushed:
            raise TargetError("the lab knows no members")
        return self.pushed[-1]

    async def push_members(self, address: str, token: str, members: Membership) -> None:
        if self.silent:
            raise TargetError("the lab is silent")
        self.pushed.append(members)

    async def push_document(self, address: str, token: str, document: Object) -> None:
        self.document = document


def _trusted(held: dict[str, bytes]) -> list[str]:
    pem = held.get("ca.crt", b"") + held.get("lab-ca.crt", b"")
    return [short(one) for one in Bundle.from_pem(pem).fingerprints] if pem else []


def _leaf(held: dict[str, bytes], stem: str) -> str:
    if f"{stem}.crt" not in held:
        return ""
    return short(Identity(held[f"{stem}.crt"], held[f"{stem}.key"], held["ca.crt"]).fingerprint)


def subnet_context(
    name: str = "demo", annotations: dict[str, str] | None = None, created: datetime = NOW, **spec: Any
) -> SubnetContext:
    """A Subnet in its place, without any world."""
    metadata = {
        "name": name, "namespace": NAMESPACE, "uid": "uid-0", "generation": 1, "annotations": annotations or {},
        "creationTimestamp": time_text(created),
    }  # fmt: skip
    return context_of(
        {"apiVersion": SUBNET.api, "kind": "Subnet", "metadata": metadata, "spec": spec}, PodDefaults(IMAGE)
    )


def counted(api: Api) -> Counter[str]:
    """How many objects of each kind there are."""
    return Counter(kind.kind for kind, _, _ in api.objects)


FAULTS = {"busy": BusyError(503, "Busy", "later"), "forbidden": ForbiddenError(403, "Forbidden", "no")}


def members_of(world: World) -> Membership:
    found = read_membership(world.api.one(CONFIG_MAP, "demo-members"))
    assert found is not None
    return found


def pods_of(world: World) -> dict[str, str]:
    return {name_of(pod): meta(pod)["uid"] for pod in world.api.all(POD)}


def check_whole(world: World) -> None:
    """Exactly the objects of the spec, all of them the Subnet's, all leaves of one authority."""
    context = world.context()
    pods = {placed.pod for placed in context.placements}
    assert {name_of(one) for one in world.api.all(POD)} == {*pods, "demo-lab"}
    assert {name_of(one) for one in world.api.all(SECRET)} == {*pods, "demo-lab", "demo-ca", "demo-lab-token"}
    for kind in CHILDREN:
        for one in world.api.all(kind):
            owner = meta(one)["ownerReferences"][0]
            assert (owner["uid"], owner["controller"]) == (context.uid, True)
            assert "finalizers" not in meta(one)
    authority = decoded(world.api.one(SECRET, "demo-ca"))["ca.crt"]
    for placed in context.placements:
        held = decoded(world.api.one(SECRET, placed.pod))
        assert set(held) == {"ca.crt", *(f"{name}.{end}" for name in placed.members for end in ("crt", "key"))}
        for name in placed.members:
            peer = Identity(held[f"{name}.crt"], held[f"{name}.key"], authority).verify(now=world.now)
            assert peer.uri == context.uri(name)
    assert [one.name for one in members_of(world).registry.members] == [name for name, _ in context.members]


def container(pod: Object) -> Object:
    found: Object = pod["spec"]["containers"][0]
    return found
