"""The API server as the operator sees it: kinds, the `Cluster` protocol, its errors, and helpers to read objects. Pure."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from p2pnet.model.errors import TargetError

Object = dict[str, Any]
"""A Kubernetes object as JSON values."""

MANAGER = "p2pnet-operator"
"""The operator's name: as field manager, as value of `MANAGED_BY`, of its Lease, its roles and as source of its events."""
MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label of every object that the operator makes; watches select by it."""
VERSION_LABEL = "app.kubernetes.io/version"
RECOMMENDED_LABELS = (
    *(f"app.kubernetes.io/{part}" for part in ("name", "instance", "component", "part-of")),
    VERSION_LABEL,
)
"""Labels by which tools of any kind group objects; nothing here selects by them, so they may come to what is there already."""


class ResourceKind(NamedTuple):
    """A kind of resource: `api` as in `apiVersion` (`v1` or `group/version`), `plural` as in URLs."""

    api: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version without its group, such as `v1`."""
        return self.api.rpartition("/")[2]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, or of an object and one of its subresources."""
        parts = ["/apis" if self.group else "/api", self.api]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


POD = ResourceKind("v1", "Pod", "pods")
SECRET = ResourceKind("v1", "Secret", "secrets")
CONFIG_MAP = ResourceKind("v1", "ConfigMap", "configmaps")
SERVICE = ResourceKind("v1", "Service", "services")
CLAIM = ResourceKind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NODE = ResourceKind("v1", "Node", "nodes")
EVENT = ResourceKind("v1", "Event", "events")
BUDGET = ResourceKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
POLICY = ResourceKind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
CERTIFICATE = ResourceKind("cert-manager.io/v1", "Certificate", "certificates")
LEASE = ResourceKind("coordination.k8s.io/v1", "Lease", "leases")


class ApiError(TargetError):
    """The API server refused: HTTP `status`, its `reason` word, and `verb resource` of what was asked."""

    def __init__(self, status: int, reason: str, message: str, *, what: str = "") -> None:
        super().__init__(f"{what}: {message}" if what else message)
        self.status = status
        self.reason = reason
        self.what = what
        self.progress = False
        """Whether anything was written before the failure: the next attempt has less to do, and may come soon."""


class ConflictError(ApiError):
    """409: the object exists already, has been written since it was read, or is another one by now. Reconcile again."""

    wait_s_max = 5.0
    """Longest back-off: a conflict rarely lasts."""


class EndingError(ConflictError):
    """The namespace is being deleted and takes nothing new. The resource goes with it: there is nothing left to do."""

    wait_s_max = 60.0


class ForbiddenError(ApiError):
    """403: a right is missing, or a quota is used up (`quota`)."""

    @property
    def quota(self) -> bool:
        """Whether a ResourceQuota is the reason."""
        return "quota" in str(self).lower()


class BusyError(ApiError):
    """429 or 5xx, a timeout or no connection at all: try again, after `retry_after_s` seconds if the server named them."""

    retry_after_s: float | None = None
    wait_s_max = 20.0
    """Longest back-off: an outage ends for all resources at once, and no event announces it."""


class Cluster(Protocol):
    """The requests the operator makes to an API server. Objects are raw JSON; a missing one is None, other failures ApiErrors."""

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        """Read one object."""
        ...

    async def find(self, kind: ResourceKind, namespace: str = "", selector: str = "") -> list[Object]:
        """List the objects that match a label selector; an empty `namespace` means all namespaces."""
        ...

    async def names(self, kind: ResourceKind, namespace: str) -> list[Object]:
        """List only the metadata of all objects of a namespace, whatever their labels."""
        ...

    async def create(self, kind: ResourceKind, namespace: str, body: Object) -> Object:
        """Create an object. Raises ConflictError when it exists."""
        ...

    async def apply(self, kind: ResourceKind, namespace: str, body: Object, subresource: str = "") -> Object:
        """Server-side apply of a whole desired object, forced. With `metadata.uid` it never creates a new one."""
        ...

    async def patch(self, kind: ResourceKind, namespace: str, name: str, body: Object) -> Object:
        """JSON merge patch (RFC 7386). With `metadata.resourceVersion` a ConflictError when the object was written since."""
        ...

    async def delete(
        self, kind: ResourceKind, namespace: str, name: str, uid: str, *, force: bool = False
    ) -> bool:  # fmt: skip
        """Delete the object with this uid; False when it is gone. Raises ConflictError when another one has its name.

        `force`: without waiting for the kubelet of a pod, which may go on running there.
        """
        ...


def meta(thing: Object) -> Object:
    """An object's metadata."""
    found: Object = thing.get("metadata") or {}
    return found


def name_of(thing: Object) -> str:
    """An object's name."""
    return str(meta(thing).get("name", ""))


def uid_of(thing: Object) -> str:
    """An object's uid."""
    return str(meta(thing).get("uid", ""))


def annotations_of(thing: Object) -> dict[str, str]:
    """An object's annotations."""
    return dict(meta(thing).get("annotations") or {})


def owned_by(thing: Object, uid: str) -> bool:
    """Whether an ownerReference of the object names this uid."""
    return any(owner.get("uid") == uid for owner in meta(thing).get("ownerReferences") or [])


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    """Bytes as a Secret's `data` holds them."""
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def decoded(secret: Object | None) -> dict[str, bytes]:
    """A Secret's `data` as bytes; what is no base64 is left out, as if it were missing."""
    found = {}
    for key, value in ((secret or {}).get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found


def parse_time(text: object) -> datetime | None:
    """An RFC 3339 moment; None for anything else."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    except (ValueError, OverflowError):  # the latter of a year that UTC is beyond
        return None


def time_text(moment: datetime) -> str:
    """RFC 3339 with whole seconds, as the API server writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def earliest(*moments: datetime | None) -> datetime | None:
    """The first of those that are."""
    return min((moment for moment in moments if moment is not None), default=None)
