"""kopf: something happened at an object, so its Subnet is put into the queue. Nothing is decided here, nothing can fail.

Low-level event handlers alone: they write no annotation and no finalizer into anybody's object, so a Subnet can be
deleted while the operator is away.
"""

from typing import Any

import kopf

from p2pnet.operator.kube.api import MANAGED_BY, MANAGER, ResourceKind
from p2pnet.operator.kube.desired import digest
from p2pnet.operator.kube.queue import Key, Workers
from p2pnet.operator.subnet.context import CHILDREN, SUBNET, SUBNET_LABEL

SILENCE_S = 70.0  # a watch that says nothing for so long is dead: bookmarks come every minute
OURS = f"{MANAGED_BY}={MANAGER}"


class Triggers:
    """Turns watch events into keys. A person's edit is urgent; our own status write is nothing new."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._seen: dict[Key, str] = {}

    def subnet(self, kind: str | None, body: Any) -> None:
        """A Subnet was added, changed or deleted."""
        metadata = body.get("metadata") or {}
        key = Key(str(metadata.get("namespace", "")), str(metadata.get("name", "")))
        words = [metadata.get(word) for word in ("uid", "generation", "deletionTimestamp")]
        edited = digest([*words, dict(metadata.get("annotations") or {})])
        if kind == "DELETED":
            self._seen.pop(key, None)
        elif self._seen.get(key) == edited:
            return
        else:
            self._seen[key] = edited
        self._workers.add(key, urgent=True)

    def child(self, body: Any) -> None:
        """Something that belongs to a Subnet was added, changed or deleted."""
        metadata = body.get("metadata") or {}
        name = (metadata.get("labels") or {}).get(SUBNET_LABEL)
        if name:
            self._workers.add(Key(str(metadata.get("namespace", "")), str(name)))


def register(registry: kopf.OperatorRegistry, triggers: Triggers) -> None:
    """Watch Subnets and everything of theirs."""
    group, version = SUBNET.api.split("/")

    @kopf.on.event(group, version, SUBNET.plural, registry=registry)
    async def on_subnet(event: Any, **_: Any) -> None:
        triggers.subnet(event.get("type"), event.get("object") or {})

    for kind in CHILDREN:
        _watch(registry, kind, triggers)


def _watch(registry: kopf.OperatorRegistry, kind: ResourceKind, triggers: Triggers) -> None:
    version = kind.api.rpartition("/")[2]

    @kopf.on.event(
        kind.group, version, kind.plural, registry=registry, labels={MANAGED_BY: MANAGER}, id=f"on_{kind.plural}"
    )
    async def on_child(body: Any, **_: Any) -> None:
        triggers.child(body)


def configure(settings: kopf.OperatorSettings) -> None:
    """Kopf's settings. Each is there because its default fails in some cluster."""
    settings.scanning.disabled = True  # no right to read CRDs and namespaces is needed; start-up checks ours itself
    settings.peering.standalone = True  # who acts is the Lease's matter
    settings.posting.enabled = False  # events are ours, on transitions
    for kind in CHILDREN:  # on the server's side: the Secrets of others never reach this process
        settings.watching.label_selectors[kind.plural] = OURS
    settings.watching.chunk_size = 500
    settings.watching.connect_timeout = 5
    settings.watching.inactivity_timeout = SILENCE_S
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.enforce_retry_after = True
    # A quarter of an hour of errors, then the process ends and is started again; longer would hide a missing right.
    settings.networking.error_backoffs = [1, 2, 5, 10] + [15] * 56
    settings.process.ultimate_exiting_timeout = None  # a SIGKILL to itself, which a container's first process ignores
