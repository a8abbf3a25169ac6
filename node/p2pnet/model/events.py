"""Events of nodes. A node keeps a bounded ring of them per incarnation; the lab reads it by cursor."""

import re
from enum import StrEnum
from typing import Annotated

import msgspec


class EventKind(StrEnum):
    """Every kind of event, in the order of an artifact's life, then a node's."""

    PUBLISHED = "published"  # this node's client made it: bytes = user's payload
    ADVERTISED = "advertised"  # a peer announced an id this node did not know
    RECEIVED = (
        "received"  # whole bytes arrived; peer = source that completed it, hop = 1 + the source's; detail = FetchTimes
    )
    VALIDATED = "validated"  # the client moved it to the validated pool; peer and hop as at `received`
    DUPLICATE = "duplicate"  # a whole payload for an id already held
    REJECTED = "rejected"  # the client found it invalid, or it matched no id; detail says why
    REMOVED = "removed"  # left the validated pool: detail = withdrawn | expired | purged
    FETCH_FAILED = "fetch-failed"  # one source failed; detail says how
    GIVEN_UP = "given-up"  # an update a peer calls malformed: never silent
    QUEUE_FULL = "queue-full"  # a publication found no free slot, and the queue for slots full
    PEER_UP = "peer-up"
    PEER_DOWN = "peer-down"  # detail = close reason
    REFUSED = "refused"  # a handshake, hello or record was refused; detail = why
    CLIENT_SLOW = "client-slow"  # on_state_change took over 20 ms; bytes = microseconds it took
    CLIENT_FAILED = "client-failed"  # a client's method raised; detail says which, and what
    IDENTITY = "identity"  # a new leaf or bundle is in use; detail says which
    MEMBERS = "members"  # a registry version is in force; bytes = version


class FetchTimes(msgspec.Struct, frozen=True):
    """How long each part of one artifact's fetch took, in microseconds; together from the announcement to the last byte."""

    wait_us: int
    """From the announcement until the first request left: for a source, a stream or quota."""
    request_us: int
    """From there until the first part was here; 0 where the parts came unasked, as stripes do."""
    transfer_us: int
    """From there until the last part was here."""

    def to_detail(self) -> str:
        """As the detail of a `received` event."""
        return f"wait={self.wait_us}us request={self.request_us}us transfer={self.transfer_us}us"

    @classmethod
    def from_detail(cls, detail: str) -> "FetchTimes | None":
        """What `to_detail` gave; None for anything else: a push has no fetch."""
        found = _FETCH_TIMES.fullmatch(detail)
        return None if found is None else cls(*map(int, found.groups()))


_FETCH_TIMES = re.compile(r"wait=(\d{1,15})us request=(\d{1,15})us transfer=(\d{1,15})us")


class Event(msgspec.Struct, array_like=True, frozen=True):
    """One thing that happened at one node, stamped with its CLOCK_MONOTONIC nanoseconds."""

    seq: int
    """Grows by one per event of an incarnation, from 0."""
    mono_ns: int
    kind: EventKind
    client: str = ""
    artifact: str = ""
    """Artifact id in hex, or empty."""
    peer: str = ""
    hop: int = 0
    bytes: int = 0
    detail: str = ""


class Collected(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of events.ndjson: an event with the node and incarnation it came from, on the run's one time axis.

    Lines are read from files of others, too: numbers have bounds.
    """

    node: str
    incarnation: str
    seq: int
    t_ns: Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
    """Nanoseconds on the lab's monotonic clock (the node's, corrected by its offset)."""
    kind: EventKind
    client: str = ""
    artifact: str = ""
    peer: str = ""
    hop: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)] = 0
    bytes: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0
    detail: str = ""


class Gap(msgspec.Struct, frozen=True):
    """Events lost to a full ring or a dead incarnation: `missed` between two cursors, or None when nobody can know."""

    node: str
    incarnation: str
    missed: int | None
    reason: str
