"""What an application of the broadcast is: a `Client`. A user's own is a class with these methods."""

from enum import Enum
from typing import Literal, Protocol

from p2pnet.broadcast.pool import Change, ChangeAction, Inspected, PoolView
from p2pnet.model.ids import ArtifactId

Relay = Literal["none", "auto", "advert", "push"]


class Bounce(Enum):
    """A bouncer's word on an id."""

    UNWANTED = "unwanted"
    MAYBE_LATER = "maybe_later"
    """Pushed bytes are dropped; it is asked again after the client has run, and every 3 s."""
    WANTS = "wants"


class Client(Protocol):
    """One application. It is called from one thread at a time and keeps no reference to the pool."""

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
