"""What an application of the broadcast is: a `Client`. A user's own is a class with these methods."""

from enum import Enum
from typing import Literal, Protocol

from p2pnet.broadcast.context import SECOND, Context, EventBudget
from p2pnet.broadcast.pool import Change, ChangeAction, Inspected, PoolView
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

Relay = Literal["none", "auto", "advert", "push"]
FAILURES_REPORTED = 20  # of one client at once, and one a second; what is left out is counted


class Bounce(Enum):
    """A bouncer's word on an id."""

    UNWANTED = "unwanted"
    MAYBE_LATER = "maybe_later"
    """Pushed bytes are dropped; it is asked again after the client has run."""
    WANTS = "wants"


class Client(Protocol):
    """One application.

    `on_state_change` is called from one thread at a time and keeps no reference to the pool; a user's own client runs it on
    a worker thread, while `inspect`, `bouncer`, `is_urgent` and `relay` may be called on the node's loop: they are cheap, and
    read nothing that `on_state_change` leaves half done. What a method raises is reported, and never ends the node.
    """

    name: str
    """Letters only: it names routes and is hashed into ids. Fixed before a Broadcast is made of it."""

    @property
    def tick_s(self) -> float | None:
        """Run this often even if nothing changed; None: only on changes."""

    def make(self, name: str, data: bytes, *, nonce: bytes, now: float, keep_s: float) -> bytes:
        """An encoded artifact around a user's bytes. `now` in Unix seconds. Raises LocalError."""

    def inspect(self, data: bytes) -> Inspected:
        """What stands in an encoded artifact. Cheap; raises MalformedError."""

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        """What to do about the changes since the last call. `now` in Unix seconds. Changes nothing by itself."""

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        """Whether to take an artifact of `size` encoded bytes, whose publisher gave it `key`. Cheap and pure."""

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        """Whether to push this own product at any size."""

    def relay(self, artifact: ArtifactId, key: bytes) -> Relay | None:
        """How to pass on a peer's artifact; None: as the subnet's settings say."""


class ClientRaisedError(Exception):
    """A client's method raised; it is counted and reported already."""


class ClientCalls:
    """The client as the core calls it: what it raises becomes `ClientRaisedError`, or the most careful answer."""

    __slots__ = ("_budget", "_client", "_context")

    def __init__(self, context: Context, client: Client) -> None:
        self._context = context
        self._client = client
        self._budget = EventBudget(FAILURES_REPORTED, 1.0)

    @property
    def tick_ns(self) -> int | None:
        """`tick_s` in nanoseconds."""
        tick_s = self._client.tick_s
        return None if tick_s is None else int(tick_s * SECOND)

    def inspect(self, data: bytes) -> Inspected:
        """Raises MalformedError and ClientRaisedError."""
        try:
            return self._client.inspect(data)
        except MalformedError:
            raise
        except Exception as error:
            raise self._failed("inspect", error) from error

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        """Raises ClientRaisedError."""
        try:
            return self._client.bouncer(artifact, key, size)
        except Exception as error:
            raise self._failed("bouncer", error) from error

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        """False when it raises."""
        try:
            return self._client.is_urgent(artifact, inspected)
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            self._failed("is_urgent", error)
            return False

    def relay(self, artifact: ArtifactId, key: bytes) -> Relay | None:
        """As the settings say when it raises."""
        try:
            return self._client.relay(artifact, key)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed("relay", error)
            return None

    def raised(self, detail: str) -> None:
        """Count and report what a method raised."""
        self._context.count("client_failures")
        self._context.count("client_raised")
        if self._budget.take(self._context.now):
            self._context.emit(EventKind.CLIENT_FAILED, None, detail=detail)
        else:
            self._context.count("events_left_out")

    def _failed(self, method: str, error: Exception) -> ClientRaisedError:
        detail = f"{method}: {type(error).__name__}: {error}"
        self.raised(detail[:500])
        return ClientRaisedError(detail)
