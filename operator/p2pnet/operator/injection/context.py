"""What is known of an Injection when it is decided on: its object and document, its Subnet, the lab, who is ahead. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from p2pnet.model.jobs import RunState
from p2pnet.operator.kube.api import Object, ResourceKind, meta, name_of, parse_time, uid_of
from p2pnet.subnet.injection import Injection, load_injection

INJECTION = ResourceKind("p2pnet.io/v1alpha1", "Injection", "injections")

WAITING, STARTING, RUNNING = "Waiting", "Starting", "Running"
"""States before the end. Starting: a run is asked for, or has been, and the lab's answer is not known yet."""
PROPAGATED, FAILED, INVALID = "Propagated", "Failed", "Invalid"
ENDED = (PROPAGATED, FAILED, INVALID)
"""States at the end, each also a condition; nothing follows them."""


class Reason(NamedTuple):
    """Why an Injection is in its state: in one word, and in a sentence."""

    word: str
    sentence: str


@dataclass(frozen=True)
class SubnetFacts:
    """The Subnet of an Injection as its object says. `hindrance`: why no run may begin now."""

    uid: str
    hindrance: Reason | None = None
    address: tuple[str, str] | None = None
    """`host:port` and token of its lab; None: it is not ready."""


@dataclass(frozen=True)
class LabFacts:
    """What the lab answered. `process` names the lab's process; `run` is the Injection's run there, None: it knows none."""

    process: str = ""
    run: RunState | None = None
    problem: str = ""
    """Why it could not be asked; empty: it answered."""


@dataclass
class InjectionObserved:
    """Everything that is decided by. What an Injection's state makes irrelevant is not looked at, and stays as it is here."""

    subnet: SubnetFacts | None = None
    """None: there is none of this name, or it is being deleted."""
    lab: LabFacts = field(default_factory=LabFacts)
    files: Reason | None = None
    """Why the files are not to be had; None: they are, or none are asked for."""
    ahead: tuple[str, ...] = ()
    """Injections of the Subnet that come first, in their order."""


@dataclass(frozen=True)
class InjectionContext:
    """An Injection object with its document."""

    thing: Object
    injection: Injection

    @classmethod
    def of(cls, thing: Object) -> "InjectionContext":
        """Read an object. Raises SpecError for what its definition let pass though it should not."""
        metadata = {"name": name_of(thing), "namespace": meta(thing).get("namespace")}
        document = {"apiVersion": thing.get("apiVersion"), "kind": thing.get("kind"), "metadata": metadata}
        return cls(thing, load_injection({**document, "spec": thing.get("spec") or {}}))

    @property
    def namespace(self) -> str:
        """Its namespace, which is its Subnet's."""
        return str(meta(self.thing)["namespace"])

    @property
    def name(self) -> str:
        """Its name."""
        return name_of(self.thing)

    @property
    def uid(self) -> str:
        """Its uid: the idempotency key of its run."""
        return uid_of(self.thing)

    @property
    def subnet(self) -> str:
        """The name of its Subnet."""
        return self.injection.spec.subnet

    @property
    def status(self) -> Object:
        """What the operator has said of it so far."""
        return status_in(self.thing)

    @property
    def is_started(self) -> bool:
        """Whether a run has been asked for, or may have been."""
        return self.status.get("state") in (STARTING, RUNNING)

    @property
    def run(self) -> str:
        """The id of its run; empty while it is not known."""
        return str(self.status.get("run") or "")


def status_in(thing: Object) -> dict[str, Any]:
    """The status of an Injection object."""
    return thing.get("status") or {}


def is_over(thing: Object) -> bool:
    """Whether an Injection has ended: then it never runs again."""
    return status_in(thing).get("state") in ENDED


def is_gone(thing: Object | None, uid: str) -> bool:
    """Whether the Injection of this uid is deleted, or being deleted; `thing` is what has its name now."""
    return thing is None or uid_of(thing) != uid or bool(meta(thing).get("deletionTimestamp"))


def deletion_due(thing: Object) -> datetime | None:
    """When an Injection that has ended is to be deleted; None: never, or it has not ended."""
    return parse_time(status_in(thing).get("expiresAt")) if is_over(thing) else None


def ahead_of(context: InjectionContext, others: list[Object]) -> tuple[str, ...]:
    """Which of all Injections of the namespace come before this one at its Subnet: those started, then the older ones.

    One that waits for files is passed: nobody knows when they come.
    """
    mine = _order(context.thing)
    found = [
        other for other in others
        if (other.get("spec") or {}).get("subnet") == context.subnet and uid_of(other) != context.uid
        and not is_over(other) and not meta(other).get("deletionTimestamp")
        and (_is_started(other) or (_order(other) < mine and not status_in(other).get("blocked")))
    ]  # fmt: skip
    return tuple(name_of(one) for one in sorted(found, key=lambda one: (not _is_started(one), _order(one))))


def _is_started(thing: Object) -> bool:
    return status_in(thing).get("state") in (STARTING, RUNNING)


def _order(thing: Object) -> tuple[str, str, str]:
    """By age; of the same second by name."""
    return str(meta(thing).get("creationTimestamp") or ""), name_of(thing), uid_of(thing)
