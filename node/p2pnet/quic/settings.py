"""The settings of an endpoint. The defaults are the bounds of `model.limits`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pnet.model import limits
from p2pnet.quic.retry import Retry

HEADER_BYTES_MAX = 64 * limits.KIB
"""A message's header and destination are routes and names, not content."""
DATAGRAM_BYTES_MAX = 8_900
"""Fits jumbo Ethernet; a larger packet takes more time than it saves."""
KEY_UPDATE_PACKETS = 1 << 21
"""A quarter of what AES-GCM may encrypt under one key (RFC 9001 section 6.6)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How an endpoint and its connections behave; every setting has a default, and its unit in its name."""

    idle_s: float | None = limits.IDLE_S
    """Seconds of silence that end a connection; the smaller value of both ends counts. None: it is never ended by silence."""
    keep_alive: bool = True
    """The dialer pings after a third of the idle time without a datagram of the peer."""
    handshake_s: float = limits.HANDSHAKE_S
    """Seconds that a handshake may take, at either end."""

    connection_window_bytes: int = limits.CONNECTION_WINDOW_BYTES
    """Bytes that a connection may hold of messages that are incomplete or wait; and one large message beside them."""
    streams_max: int = limits.STREAMS_MAX
    """Streams that a peer may have open, of each of the two kinds."""
    opens_queued_max: int = 65_536
    """Requests and sends of one connection that may wait until the peer allows another stream."""
    gaps_max: int = 4_096
    """Out-of-order pieces kept per connection: a loss leaves one, and a window of jumbo packets has fewer."""
    inbox_messages_max: int = 1_024
    """Messages of one connection that may wait for `messages()`; beyond, the peer gets no new streams."""

    connections_max: int = limits.CONNECTIONS_MAX
    handshakes_max: int = limits.HANDSHAKES_MAX
    initials_per_s: float = 200.0
    """Handshakes per second begun for addresses that are not validated; above it clients get a Retry first."""
    initials_burst: int = 128
    """Handshakes that may begin at once beyond that rate."""
    accept_queue_max: int = 10_000
    """Inbound connections that may wait for `accept`; more are closed."""

    message_bytes_max: int = limits.UPDATE_BODY_BYTES_MAX
    """Payload bytes of an inbound message whose header is not in `route_caps`."""
    route_caps: Mapping[bytes, int] = field(default_factory=dict)
    """Header -> payload bytes of an inbound message; a cap may be above or below `message_bytes_max`."""
    reply_bytes_max: int = limits.UPDATE_BODY_BYTES_MAX
    """Payload bytes of a reply, unless the request says otherwise."""
    send_bytes_max: int = limits.UPDATE_BODY_BYTES_MAX + HEADER_BYTES_MAX
    """Bytes of a whole outbound message: a larger one is refused before it is sent."""
    header_bytes_max: int = HEADER_BYTES_MAX
    """Bytes of the header, and of the destination."""
    empty_payloads: bool | None = None
    """Whether a message may have an empty payload. None: yes, but no under Trust.anyone, as qp2p has it."""

    max_datagram_bytes: int = DATAGRAM_BYTES_MAX
    """The largest datagram for which a path is probed; every path starts at 1,200 bytes, which all paths carry."""
    key_update_packets: int = KEY_UPDATE_PACKETS
    """Packets sent under one key before it is updated."""
    socket_buffer_bytes: int = 4 * limits.MIB
    """Asked of the system for each direction of the socket; it may give less."""
    segmentation: bool = True
    """GSO and GRO where the kernel has them; False: one datagram per call, as on macOS."""
    congestion: str = "reno"
    """`reno` or `cubic`."""
    retry: Retry | None = None
    """The schedule of connects and sends that name none; None: they are not retried."""
    key_log: Path | None = None
    """For diagnosis: a file to which the secrets of every connection are added, in SSLKEYLOGFILE's format for Wireshark."""
    qlog_dir: Path | None = None
    """For diagnosis: a folder for one qlog file per connection; costly."""

    @property
    def announced_bytes_max(self) -> int:
        """The largest cap of any route: the bound of a payload before its route is known."""
        return max(self.message_bytes_max, *self.route_caps.values()) if self.route_caps else self.message_bytes_max

    def cap(self, header: bytes) -> int:
        """The payload bytes that an inbound message with this header may have."""
        return self.route_caps.get(header, self.message_bytes_max)
