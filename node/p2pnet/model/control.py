"""What the lab asks of a node: msgpack payloads of the `/control/*` routes, each a request and its reply on one stream.

Only a leaf whose URI is exactly the subnet's `/lab` may use them. Every reply is either the shape named here or a
`ControlRefusal`.
"""

import msgspec

from p2pnet.model.events import Event
from p2pnet.model.registry import Membership

ROUTE_INJECT = b"/control/inject"
"""An `InjectRequest`; the reply is `Injected`."""
ROUTE_GET = b"/control/get"
"""A `GetRequest`; the reply is `Got`."""
ROUTE_WITHDRAW = b"/control/withdraw"
"""A `WithdrawRequest`; the reply is `Withdrawn`."""
ROUTE_EVENTS = b"/control/events"
"""An `EventsRequest`; the reply is `Events`."""
ROUTE_PEERS = b"/control/peers"
"""A `PeersRequest`; the reply is `PeersReply`."""
ROUTE_MEMBERS = b"/control/members"
"""A `MembersPush`; the reply is `MembersTaken`."""
ROUTE_CLOCK = b"/control/clock"
"""A `ClockRequest`; the reply is `Clock`."""


class ControlRefusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The node could not do it. `code`: unknown-client | unknown-artifact | too-large | no-slot | older-version |
    bad-request | not-yet.
    """

    code: str
    message: str


class InjectItem(msgspec.Struct, frozen=True, array_like=True):
    """One artifact to publish: the user's bytes under a name, with a 16-byte nonce that makes it unique."""

    name: str
    data: bytes
    nonce: bytes


class InjectRequest(msgspec.Struct, frozen=True):
    """Publish these items in this order. One request carries at most 1 MiB of items, or a single larger one."""

    items: list[InjectItem]
    client: str = "blob"


class Injected(msgspec.Struct, frozen=True, tag="injected"):
    """One result per item, in order: the artifact id (32 bytes) or a ControlRefusal."""

    results: list[bytes | ControlRefusal]


class GetRequest(msgspec.Struct, frozen=True):
    """A range of the user's bytes of an artifact in the validated pool, at most GET_RANGE_BYTES."""

    artifact: bytes
    offset: int = 0
    length: int = 1 << 20
    client: str = "blob"


class Got(msgspec.Struct, frozen=True, tag="got"):
    """The range asked for, shorter at the end; `size`: bytes of the whole artifact."""

    name: str
    size: int
    data: bytes


class WithdrawRequest(msgspec.Struct, frozen=True):
    """Remove an artifact from the validated pool, whoever published it; its id stays refused until it would have expired."""

    artifact: bytes
    client: str = "blob"


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn"):
    """`held`: whether the node held it."""

    held: bool


class EventsRequest(msgspec.Struct, frozen=True):
    """Events from `cursor` (a seq) on. Waits up to `wait_ms` for the first one. `incarnation` empty: the present one."""

    cursor: int = 0
    incarnation: str = ""
    wait_ms: int = 0
    limit: int = 5_000


class Events(msgspec.Struct, frozen=True, tag="events"):
    """`missed`: events before the first one that had left the ring. For another incarnation all of this one's are returned."""

    incarnation: str
    boot_id: str
    events: list[Event]
    cursor: int
    """The next request's `cursor`."""
    missed: int = 0


class PeersRequest(msgspec.Struct, frozen=True):
    """Asks for the node's state."""


class PeerState(msgspec.Struct, frozen=True):
    """One authenticated peer: bytes are UDP payload of its current connection."""

    name: str
    connection: int
    rtt_ms: float
    sent: int
    received: int
    address: str = ""


class PeersReply(msgspec.Struct, frozen=True, tag="peers"):
    """A node's state. UDP byte counters cover the whole incarnation and exclude the lab's connections."""

    name: str
    incarnation: str
    boot_id: str
    pid: int
    registry_version: int
    wanted: list[str]
    peers: list[PeerState]
    udp_sent: int
    udp_received: int
    cpu_s: float
    cert_not_after: float
    """Unix seconds."""
    started_mono_ns: int
    event_cursor: int
    ready: bool = False
    pool: dict[str, int] = {}
    """Per client: artifacts in the validated pool."""
    address: str = ""
    trusted: list[str] = []
    """Authorities of the bundle in force: SHA-256 of each, the first 16 hex digits."""
    leaf: str = ""
    """SHA-256 of the leaf in use, the first 16 hex digits."""


class MembersPush(msgspec.Struct, frozen=True):
    """A newer registry; an older version is answered with a ControlRefusal."""

    membership: Membership


class MembersTaken(msgspec.Struct, frozen=True, tag="members"):
    """The version now in force."""

    version: int


class ClockRequest(msgspec.Struct, frozen=True):
    """Asks for the node's clocks."""


class Clock(msgspec.Struct, frozen=True, tag="clock"):
    """CLOCK_MONOTONIC and CLOCK_REALTIME, nanoseconds, read together."""

    mono_ns: int
    wall_ns: int
    boot_id: str


ControlReply = Injected | Got | Withdrawn | Events | PeersReply | MembersTaken | Clock | ControlRefusal
