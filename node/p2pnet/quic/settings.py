"""What an endpoint may be told when it is bound. Defaults are the bounds of `model.limits`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pnet.model import limits
from p2pnet.quic.retry import Retry

HEADER_BYTES_MAX = 64 * limits.KIB  # the triple's header and destination: routes and names, not content
DATAGRAM_BYTES = 1452  # fits IPv6 and UDP headers into Ethernet's 1500
LOOPBACK_DATAGRAM_BYTES = 8900  # loopback carries 64 KiB; jumbo size halves the per-packet cost several times


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it optional, each with its unit."""

    idle_s: float | None = limits.IDLE_S
    """Silence that ends a connection; the smaller of both ends counts. None: never."""
    keep_alive: bool = True
    """The dialer pings after a third of the idle time in silence."""
    handshake_s: float = limits.HANDSHAKE_S
    """How long a handshake may take, at either end."""

    stream_window_bytes: int = limits.STREAM_WINDOW_BYTES
    connection_window_bytes: int = limits.CONNECTION_WINDOW_BYTES
    streams_max: int = limits.STREAMS_MAX
    """Streams a peer may have open, for each of the two kinds."""
    opens_queued_max: int = 65_536
    """Requests and sends of one connection that wait for the peer to allow another stream."""
    gaps_max: int = 4_096
    """Out-of-order pieces kept per connection; a loss leaves one, and a window of jumbo packets holds fewer."""
    assembly_bytes_max: int = 2 * limits.ARTIFACT_BYTES_MAX
    """Announced bytes of messages larger than a stream window that one connection may be receiving at a time."""
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
    header_bytes_max: int = HEADER_BYTES_MAX
    """For the header and for the destination, each."""
    empty_payloads: bool | None = None
    """Whether a message may have an empty payload. None: yes, except under Trust.anyone, where qp2p's rule holds: no."""

    max_datagram_bytes: int = DATAGRAM_BYTES
    loopback_datagram_bytes: int = LOOPBACK_DATAGRAM_BYTES
    """Used instead when both ends are loopback addresses."""
    socket_buffer_bytes: int = 4 * limits.MIB
    segmentation: bool = True
    """GSO and GRO where the kernel has them; False: one datagram per call, as on macOS."""
    congestion: str = "reno"
    """`reno` or `cubic`."""
    retry: Retry | None = None
    """Used by `connect` where the call names none."""
    qlog_dir: Path | None = None
    """Where to write one qlog file per connection; costly, for diagnosis."""

    @property
    def announced_bytes_max(self) -> int:
        """The largest payload any route takes: the bound before the route is known."""
        return max(self.message_bytes_max, *self.route_caps.values()) if self.route_caps else self.message_bytes_max

    def cap(self, header: bytes) -> int:
        """The payload bytes a message with this header may have."""
        return self.route_caps.get(header, self.message_bytes_max)
