"""What an endpoint may be told when it is bound. Defaults are the bounds of `model.limits`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pnet.model import limits
from p2pnet.quic.retry import Retry

HEADER_BYTES_MAX = 64 * limits.KIB  # the triple's header and destination: routes and names, not content
DATAGRAM_BYTES_MAX = 8_900  # fits jumbo Ethernet; beyond, a packet costs more time than it saves
KEY_UPDATE_PACKETS = 1 << 21  # a quarter of what AES-GCM may encrypt under one key (RFC 9001 section 6.6)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it optional, each with its unit."""

    idle_s: float | None = limits.IDLE_S
    """Silence that ends a connection; the smaller of both ends counts. None: never."""
    keep_alive: bool = True
    """The dialer pings after a third of the idle time in silence."""
    handshake_s: float = limits.HANDSHAKE_S
    """How long a handshake may take, at either end."""

    connection_window_bytes: int = limits.CONNECTION_WINDOW_BYTES
    """What a connection holds of messages that are not whole, or wait, at most; and one message beside."""
    streams_max: int = limits.STREAMS_MAX
    """Streams a peer may have open, for each of the two kinds."""
    opens_queued_max: int = 65_536
    """Requests and sends of one connection that wait for the peer to allow another stream."""
    gaps_max: int = 4_096
    """Out-of-order pieces kept per connection; a loss leaves one, and a window of jumbo packets holds fewer."""
    inbox_messages_max: int = 1_024
    """Messages of one connection that wait for `messages()`; beyond, the peer gets no new streams."""

    connections_max: int = limits.CONNECTIONS_MAX
    handshakes_max: int = limits.HANDSHAKES_MAX
    initials_per_s: float = 200.0
    """New handshakes begun for unproven addresses; above it they are asked for a Retry token first."""
    initials_burst: int = 128
    accept_queue_max: int = 10_000

    message_bytes_max: int = limits.UPDATE_BODY_BYTES_MAX
    """Payload of a message whose header is not in `route_caps`."""
    route_caps: Mapping[bytes, int] = field(default_factory=dict)
    """Payload bytes by exact header; a cap may be above or below `message_bytes_max`."""
    reply_bytes_max: int = limits.UPDATE_BODY_BYTES_MAX
    send_bytes_max: int = limits.UPDATE_BODY_BYTES_MAX + HEADER_BYTES_MAX
    """A whole message of ours, head included: a larger one is refused before it is sent."""
    header_bytes_max: int = HEADER_BYTES_MAX
    """For the header and for the destination, each."""
    empty_payloads: bool | None = None
    """Whether a message may have an empty payload. None: yes, except under Trust.anyone, where qp2p's rule holds: no."""

    max_datagram_bytes: int = DATAGRAM_BYTES_MAX
    """The largest a path is probed for; every path starts at 1,200, which all carry."""
    key_update_packets: int = KEY_UPDATE_PACKETS
    """New keys after so many packets sent under the old ones."""
    socket_buffer_bytes: int = 4 * limits.MIB
    segmentation: bool = True
    """GSO and GRO where the kernel has them; False: one datagram per call, as on macOS."""
    congestion: str = "reno"
    """`reno` or `cubic`."""
    retry: Retry | None = None
    """Used by `connect` where the call names none."""
    key_log: Path | None = None
    """Where to add the secrets of every connection, for Wireshark to read (SSLKEYLOGFILE's format): for diagnosis."""
    qlog_dir: Path | None = None
    """Where to write one qlog file per connection; costly, for diagnosis."""

    @property
    def announced_bytes_max(self) -> int:
        """The largest payload any route takes: the bound before the route is known."""
        return max(self.message_bytes_max, *self.route_caps.values()) if self.route_caps else self.message_bytes_max

    def cap(self, header: bytes) -> int:
        """The payload bytes a message with this header may have."""
        return self.route_caps.get(header, self.message_bytes_max)
