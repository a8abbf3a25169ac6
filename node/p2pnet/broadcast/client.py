"""`Client`: an application of the broadcast, such as the shipped `blob` and `beacon`, or a user's own class."""

from collections.abc import Callable
from enum import Enum
from typing import Literal, Protocol

from p2pnet.broadcast.context import SECOND, Context, EventBudgets
from p2pnet.broadcast.pool import Artifact, Change, ChangeAction, Inspected, PoolView
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId

Stripped = bytes
"""A stripped form: bytes of the client's own making, in which ids stand for artifacts that peers likely hold."""
Relay = Literal["none", "auto", "advert", "push", "scatter"]
FAILURES_REPORTED = 20
"""Failures of one client reported at once, then one a second; what is left out is counted."""


class Bounce(Enum):
    """What a bouncer decides about an id."""

    UNWANTED = "unwanted"
    """The artifact is not taken; the peer does not send it again."""
    MAYBE_LATER = "maybe_later"
    """Pushed bytes are dropped; the bouncer is asked again after the client has run."""
    WANTS = "wants"
    """The artifact is taken, or fetched if it was only advertised."""


class Client(Protocol):
    """One application of the broadcast.

    `on_state_change` is called from one thread at a time and must keep no reference to the pool. For a user's own client that
    is a worker thread, while `inspect`, `bouncer`, `is_urgent` and `relay` may be called on the node's loop meanwhile: they
    must be cheap, and read nothing that `on_state_change` leaves half done. What a method raises is reported, and never ends
    the node.
    """

    name: str
    """Letters only: it names routes and is hashed into ids. It must not change once a Broadcast is made of the client."""

    @property
    def tick_s(self) -> float | None:
        """Seconds after which to call `on_state_change` even if nothing changed; None: only on changes."""

    def make(self, name: str, data: bytes, *, nonce: bytes, now: float, keep_s: float) -> bytes:
        """Encode a user's bytes as an artifact that lives for `keep_s` seconds. Raises LocalError.

        `nonce`: 16 bytes that make the same bytes published twice two artifacts. `now`: Unix seconds.
        """

    def inspect(self, data: bytes) -> Inspected:
        """Read an encoded artifact without validating it; cheap. Raises MalformedError."""

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        """Decide what to do about the changes since the last call. `now`: Unix seconds. It must not change the pool itself."""

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        """Whether to take an artifact of `size` encoded bytes with this key of its publisher's. Cheap and pure."""

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        """Whether to push this artifact of this node's own at any size, and before others."""

    def relay(self, artifact: ArtifactId, key: bytes) -> Relay | None:
        """How to relay a peer's artifact; None: as the subnet's settings say."""


class StrippingClient(Client, Protocol):
    """A client whose artifacts hold what peers likely have already, and that sends them without it.

    A class with both methods is one. They are called on the node's loop and must be cheap; `pool` is the one of this moment.
    """

    def strip(self, artifact: ArtifactId, data: bytes, pool: PoolView) -> Stripped | None:
        """What a peer gets in place of the encoded artifact `data`; None: the whole. It must be shorter."""

    def assemble(self, stripped: Stripped, pool: PoolView) -> bytes | list[ArtifactId]:
        """The encoded artifact of a form that a peer made, or the ids of artifacts in it that are missing in the pool.

        `stripped` may be any bytes. The result is checked against the artifact's id. Missing ones are fetched, and it is called
        again with a pool that has them; what it raises, or an empty list, makes the node fetch the whole artifact.
        """


class ClientRaisedError(Exception):
    """A method of the client raised; that has been counted and reported."""


class ClientCalls:
    """The client as the core calls it: what it raises becomes `ClientRaisedError`, or the most careful answer there is."""

    __slots__ = ("_assemble", "_budget", "_client", "_context", "_strip")

    def __init__(self, context: Context, client: Client) -> None:
        self._context = context
        self._client = client
        # Looked up once: a client without them costs nothing.
        self._strip: Callable[[ArtifactId, bytes, PoolView], object] | None = getattr(client, "strip", None)
        self._assemble: Callable[[bytes, PoolView], object] | None = getattr(client, "assemble", None)
        self._budget = EventBudgets(FAILURES_REPORTED, 1.0)

    @property
    def tick_ns(self) -> int | None:
        """`tick_s` in nanoseconds."""
        tick_s = self._client.tick_s
        return None if tick_s is None else int(tick_s * SECOND)

    def inspect(self, data: bytes) -> Inspected:
        """As `Client.inspect`. Raises MalformedError and ClientRaisedError."""
        try:
            return self._client.inspect(data)
        except MalformedError:
            raise
        except Exception as error:
            raise self._failed("inspect", error) from error

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        """As `Client.bouncer`. Raises ClientRaisedError."""
        try:
            return self._client.bouncer(artifact, key, size)
        except Exception as error:
            raise self._failed("bouncer", error) from error

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        """As `Client.is_urgent`; False when that raises."""
        try:
            return self._client.is_urgent(artifact, inspected)
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            self._failed("is_urgent", error)
            return False

    def relay(self, artifact: ArtifactId, key: bytes) -> Relay | None:
        """As `Client.relay`; None, so what the settings say, when that raises."""
        try:
            return self._client.relay(artifact, key)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed("relay", error)
            return None

    @property
    def can_assemble(self) -> bool:
        """Whether the client has the method `assemble`."""
        return self._assemble is not None

    def strip(self, artifact: Artifact, pool: PoolView) -> Stripped | None:
        """As `StrippingClient.strip`; None for a client without it, when it raises, and for what is no shorter."""
        if self._strip is None:
            return None
        try:
            form = self._strip(artifact.id, artifact.data, pool)
            if form is not None and not isinstance(form, bytes):
                raise TypeError(f"a {type(form).__name__} is no stripped form")
        except Exception as error:  # noqa: BLE001 - as above
            self._failed("strip", error)
            return None
        return form if form is not None and len(form) < len(artifact.data) else None

    def assemble(self, form: Stripped, pool: PoolView) -> bytes | list[ArtifactId]:
        """As `StrippingClient.assemble`. Raises ClientRaisedError."""
        try:
            made = self._assemble(form, pool) if self._assemble is not None else []
            if isinstance(made, bytes):
                return made
            if not isinstance(made, list):
                raise TypeError(f"a {type(made).__name__} is neither an artifact nor a list of ids")
        except Exception as error:
            raise self._failed("assemble", error) from error
        # What stands in a form is the peer's word: ids that are none are not this client's fault.
        return made if all(isinstance(one, bytes) and len(one) == ARTIFACT_ID_BYTES for one in made) else []

    def raised(self, detail: str) -> None:
        """Count and report what a method raised."""
        self._context.count("client_failures")
        self._context.count("client_raised")
        if self._budget.take("", self._context.now):
            self._context.emit(EventKind.CLIENT_FAILED, None, detail=detail)
        else:
            self._context.count("events_left_out")

    def _failed(self, method: str, error: Exception) -> ClientRaisedError:
        detail = f"{method}: {type(error).__name__}: {error}"
        # A user's exception may have any text: it must not fill the event log.
        self.raised(detail[:500])
        return ClientRaisedError(detail)
