"""kopf's part: a watch event puts a key into the queue. Nothing is decided here, nothing can fail.

Only low-level event handlers are used: kopf's others write annotations and finalizers into the objects they watch, and with
a finalizer a resource could not be deleted while the operator is away.
"""

from collections.abc import Sequence
from typing import Any

import kopf

from p2pnet.operator.kube.api import MANAGED_BY, MANAGER, ResourceKind
from p2pnet.operator.kube.desired import digest
from p2pnet.operator.kube.queue import Controller, Key, Workers

SILENCE_S = 70.0  # a watch that has been silent for this long is dead: the server sends a bookmark every minute
SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""Label selector of what the operator made."""


class Triggers:
    """Turns watch events into keys of the queue. A person's edit is urgent; our own status writes are ignored."""

    def __init__(self, workers: Workers, controllers: Sequence[Controller]) -> None:
        self._workers = workers
        self._controllers = controllers
        self._seen: dict[Key, str] = {}

    def resource(self, kind: ResourceKind, event_type: str | None, body: Any) -> None:
        """A resource with a controller was added, changed or deleted (`event_type`; None while kopf lists)."""
        metadata = body.get("metadata") or {}
        key = Key(kind, str(metadata.get("namespace", "")), str(metadata.get("name", "")))
        # A status write changes none of these; the generation counts edits of the spec alone.
        parts = [metadata.get(part) for part in ("uid", "generation", "deletionTimestamp")]
        edited = digest([*parts, dict(metadata.get("annotations") or {})])
        if event_type == "DELETED":
            self._seen.pop(key, None)
        elif self._seen.get(key) == edited:
            return
        else:
            self._seen[key] = edited
        self._workers.add(key, urgent=True)

    def child(self, body: Any) -> None:
        """An object that belongs to a resource with a controller was added, changed or deleted."""
        metadata = body.get("metadata") or {}
        labels = metadata.get("labels") or {}
        for controller in self._controllers:
            name = labels.get(controller.name_label)
            if name:
                self._workers.add(Key(controller.kind, str(metadata.get("namespace", "")), str(name)))


def register(registry: kopf.OperatorRegistry, triggers: Triggers, controllers: Sequence[Controller]) -> None:
    """Watch every kind of resource that has a controller, and their children."""
    for controller in controllers:
        _watch_resource(registry, controller.kind, triggers)
    for kind in _children(controllers):
        _watch_child(registry, kind, triggers)


def _watch_resource(registry: kopf.OperatorRegistry, kind: ResourceKind, triggers: Triggers) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"on_{kind.plural}")
    async def on_resource(event: Any, **_: Any) -> None:
        triggers.resource(kind, event.get("type"), event.get("object") or {})


def _watch_child(registry: kopf.OperatorRegistry, kind: ResourceKind, triggers: Triggers) -> None:
    @kopf.on.event(
        kind.group, kind.version, kind.plural, registry=registry, labels={MANAGED_BY: MANAGER}, id=f"on_{kind.plural}"
    )
    async def on_child(body: Any, **_: Any) -> None:
        triggers.child(body)


def configure(settings: kopf.OperatorSettings, controllers: Sequence[Controller]) -> None:
    """Kopf's settings. Each is set because its default fails in some cluster."""
    settings.scanning.disabled = True  # needs the right to read CRDs and namespaces; start-up checks our own CRDs
    settings.peering.standalone = True  # which replica acts is decided by the Lease
    settings.posting.enabled = False  # the operator writes its own events, on transitions
    for kind in _children(controllers):  # selected by the server: Secrets of others never reach this process
        settings.watching.label_selectors[kind.plural] = SELECTOR
    settings.watching.chunk_size = 500  # objects per page of a LIST: bounds memory
    settings.watching.connect_timeout = 5
    settings.watching.inactivity_timeout = SILENCE_S
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5  # an address that drops packets must not cost minutes
    settings.networking.enforce_retry_after = True
    # A quarter of an hour of errors, then the process ends and is started again; longer would hide a missing right.
    settings.networking.error_backoffs = [1, 2, 5, 10] + [15] * 56
    settings.process.ultimate_exiting_timeout = None  # a SIGKILL to itself, which a container's first process ignores


def _children(controllers: Sequence[Controller]) -> list[ResourceKind]:
    return list(dict.fromkeys(kind for controller in controllers for kind in controller.children))
