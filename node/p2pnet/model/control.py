"""What the lab asks of a node: msgpack payloads of the `/control/*` routes, each a request and its reply on one stream.

Only a leaf whose URI is exactly the subnet's `/lab` may use them. Every reply is either the shape named here or a
`ControlRefusal`.
"""

import msgspec

from p2pnet.model.events import Event
from p2pnet.model.network import NodeNetwork
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
ROUTE_NETWORK = b"/control/network"
"""A `NetworkPush`; the reply is `NetworkTaken`."""
ROUTE_PROBE = b"/control/probe"
"""A `ProbeOrder`; the reply is `ProbesOrdered`."""
ROUTE_PROBES = b"/control/probes"
"""A `ProbesRequest`; the reply is `Probes`."""
ROUTE_SAMPLES = b"/control/samples"
"""A `SamplesRequest`; the reply is `Samples`."""

PROBES_PER_ORDER_MAX = 5_000
"""Probe datagrams that one order may ask of one node."""
PROBES_KEPT_MAX = 50_000
"""Arrived probes that a node keeps for the lab; the oldest go first, counted as `missed`."""
SAMPLES_KEPT_MAX = 600
"""Samples that a node keeps: ten minutes of one a second."""


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
    network_version: int = 0
    """Version of the `NodeNetwork` in force."""
    unfinished: int = 0
    """Fetches, artifacts not judged yet, and those that wait for a slot, all clients together."""


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


class NetworkPush(msgspec.Struct, frozen=True, omit_defaults=True):
    """Put this network in force. With `lease_s` it holds for so long unless it is pushed again; then `healed` is in force."""

    network: NodeNetwork
    lease_s: float | None = None
    healed: NodeNetwork | None = None
    """The network without what is leased: what stays when the lab is silent for the length of the lease."""


class NetworkTaken(msgspec.Struct, frozen=True, tag="network"):
    """The version now in force."""

    version: int


class ProbeTrain(msgspec.Struct, frozen=True):
    """Probe datagrams for one peer, one every `interval_ns`, each of `size` bytes of UDP payload. 0: all at once."""

    peer: str
    count: int
    interval_ns: int = 0
    size: int = 64
    train: int = 0
    """A number of the lab's own, which comes back with every probe that arrives."""


class ProbeOrder(msgspec.Struct, frozen=True):
    """Send these trains, all of them from now on, each on its own. At most PROBES_PER_ORDER_MAX datagrams."""

    trains: list[ProbeTrain]


class ProbesOrdered(msgspec.Struct, frozen=True, tag="probes-ordered"):
    """Datagrams that will be sent; trains for peers without a link are left out, and named."""

    count: int
    unlinked: list[str] = []


class ProbesRequest(msgspec.Struct, frozen=True):
    """Probes sent and arrived from `cursor` on."""

    cursor: int = 0
    limit: int = 5_000


class ProbeSent(msgspec.Struct, frozen=True, array_like=True):
    """A train that this node has sent to its end. Times are its CLOCK_MONOTONIC."""

    peer: str
    train: int
    count: int
    first_ns: int
    last_ns: int
    late_ns: int
    """The longest that a probe was offered to the seam after it was due: a starved process, not a slow network."""


class ProbeArrived(msgspec.Struct, frozen=True, array_like=True):
    """One probe that arrived here. `sent_ns` is the sender's CLOCK_MONOTONIC when it offered the probe to its seam."""

    peer: str
    train: int
    seq: int
    sent_ns: int
    arrived_ns: int
    size: int


class Probes(msgspec.Struct, frozen=True, tag="probes"):
    """`cursor` asks for what follows; `missed`: entries that had to go before they were read."""

    incarnation: str
    boot_id: str
    sent: list[ProbeSent]
    arrived: list[ProbeArrived]
    cursor: int
    missed: int = 0


class LinkSample(msgspec.Struct, frozen=True, array_like=True):
    """One second of the link with one peer; bytes are of UDP payload, counters are growth within the second."""

    peer: str
    sent_bytes: int
    received_bytes: int
    lost: int
    """Datagrams that QUIC declared lost."""
    dropped: int
    """Datagrams that the emulated path dropped: lost, overflowed, too large or blocked."""
    queued_bytes: int
    """Bytes that wait in the emulated path's queue now."""
    rtt_ms: float
    window_bytes: int
    """QUIC's congestion window now."""
    unsent_bytes: int = 0
    """The most that waited in QUIC for its window, its turn or the peer in this second; looked at 20 times."""


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One second of a node. Links without traffic in it are left out."""

    mono_ns: int
    """CLOCK_MONOTONIC at its end."""
    span_s: float
    lag_s: float
    """The longest that the event loop came late."""
    cpu_s: float
    handlers: int = 0
    """Messages that wait for, or are in, handlers."""
    slots: int = 0
    """Slots in use, all clients together."""
    fetches: int = 0
    up_queued_bytes: int = 0
    """Bytes that wait for the node's uplink now."""
    down_queued_bytes: int = 0
    up_bytes: int = 0
    """Bytes that passed the uplink."""
    down_bytes: int = 0
    up_dropped: int = 0
    down_dropped: int = 0
    links: list[LinkSample] = []


class SamplesRequest(msgspec.Struct, frozen=True):
    """Samples that end after this time."""

    after_ns: int = 0


class Samples(msgspec.Struct, frozen=True, tag="samples"):
    """In order of time."""

    incarnation: str
    boot_id: str
    samples: list[Sample]


ControlReply = (
    Injected | Got | Withdrawn | Events | PeersReply | MembersTaken | Clock | NetworkTaken | ProbesOrdered | Probes | Samples
    | ControlRefusal
)  # fmt: skip
