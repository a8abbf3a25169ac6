"""Events about a resource, and the same story in the log: a line each, once, whoever was killed in between.

An event's name follows from what it says, so that the API server refuses one that is there already. What this process has
told it does not tell again; and a resource that changes all the time is told of no more often than it can be read.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from p2pnet.operator.kube.api import (
    EVENT,
    MANAGER,
    ApiError,
    Cluster,
    ConflictError,
    Object,
    ResourceKind,
    meta,
    name_of,
    time_text,
    uid_of,
)
from p2pnet.operator.kube.desired import digest

MESSAGE_CHARS_MAX = 1024  # the API server's limit of an event's message; conditions keep to it, too
BURST = 25  # events of one resource at once, as other controllers have it
REFILL_S = 30.0  # then one more in this time
NAMES_MAX = 64  # of events of one resource that are remembered
RESOURCES_MAX = 2048  # remembered at all; forgetting one costs requests that are refused

log = logging.getLogger("p2pnet.operator.story")


@dataclass(frozen=True)
class ObjectEvent:
    """An event about a resource. `since` tells two occurrences of the same apart."""

    reason: str
    message: str
    since: str
    warning: bool = False


@dataclass
class _Told:
    """What was told of a resource lately, and how much more may be. Times are of the recorder's clock."""

    at: float
    names: OrderedDict[str, None] = field(default_factory=OrderedDict)
    left: float = float(BURST)
    unsaid: int = 0

    def take(self, now: float) -> bool:
        """Whether another event may be told now."""
        self.left = min(float(BURST), self.left + (now - self.at) / REFILL_S)
        self.at = now
        if self.left < 1:
            self.unsaid += 1
            return False
        self.left -= 1
        return True

    def add(self, name: str) -> None:
        self.names[name] = None
        while len(self.names) > NAMES_MAX:
            self.names.popitem(last=False)


class EventRecorder:
    """Writes events about resources of one kind and logs each. `clock` gives seconds that only grow."""

    def __init__(self, cluster: Cluster, kind: ResourceKind, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._kind = kind
        self._clock = clock
        self._told: OrderedDict[str, _Told] = OrderedDict()

    async def post(self, thing: Object, events: Iterable[ObjectEvent]) -> None:
        """Tell of a resource, each event once. Failures are ignored: nothing depends on events."""
        for event in events:
            told = self._told_of(uid_of(thing))
            name = f"{name_of(thing)}.{digest([uid_of(thing), event.reason, event.since])}"
            if name in told.names:
                continue
            told.add(name)
            if told.take(self._clock()):
                more, told.unsaid = told.unsaid, 0
                await self._tell(thing, event, name, f" (and {more} events before that came too fast)" if more else "")

    async def _tell(self, thing: Object, event: ObjectEvent, name: str, more: str) -> None:
        namespace = str(meta(thing)["namespace"])
        message = event.message[: MESSAGE_CHARS_MAX - len(more)] + more
        try:
            await self._cluster.create(EVENT, namespace, _event(self._kind, thing, event, name, message))
        except ConflictError:
            return  # told by a process before this one
        except ApiError as error:
            log.debug("event %s was not written: %s", name, error)
        level = logging.WARNING if event.warning else logging.INFO
        log.log(level, "%s %s/%s: %s: %s", self._kind.kind, namespace, name_of(thing), event.reason, message)

    def _told_of(self, uid: str) -> _Told:
        if uid not in self._told:
            self._told[uid] = _Told(self._clock())
            while len(self._told) > RESOURCES_MAX:
                self._told.popitem(last=False)
        self._told.move_to_end(uid)
        return self._told[uid]


def _event(kind: ResourceKind, thing: Object, event: ObjectEvent, name: str, message: str) -> Object:
    namespace = str(meta(thing)["namespace"])
    moment = time_text(datetime.now(UTC))
    about = {
        "apiVersion": kind.api,
        "kind": kind.kind,
        "namespace": namespace,
        "name": name_of(thing),
        "uid": uid_of(thing),
    }
    return {
        "apiVersion": EVENT.api, "kind": EVENT.kind, "metadata": {"name": name, "namespace": namespace},
        "involvedObject": about, "reason": event.reason, "message": message,
        "type": "Warning" if event.warning else "Normal",
        "firstTimestamp": moment, "lastTimestamp": moment, "count": 1, "source": {"component": MANAGER},
        "reportingComponent": MANAGER, "reportingInstance": MANAGER,
    }  # fmt: skip
