"""One QUIC connection without sockets and clocks: datagrams and times in, datagrams and events out.

The interface between connections and a QUIC implementation: nothing of aioquic shows through, so another may take its place.
"""

# ruff: noqa: SLF001  # the state of our own subclass

from collections.abc import Callable
from typing import Any

from aioquic.quic.events import ConnectionIdIssued, ConnectionIdRetired, ConnectionTerminated, HandshakeCompleted
from aioquic.quic.packet import QuicErrorCode

from p2pnet.model.errors import P2pnetError, TrustError
from p2pnet.quic.engine import short
from p2pnet.quic.engine.flow import FlowEvent, Windows
from p2pnet.quic.engine.streams import Stream
from p2pnet.quic.engine.tls import REFUSAL_ALERTS, Admit, Configurations
from p2pnet.quic.engine.transport import PacketTransport
from p2pnet.quic.errors import CloseCode, CloseReason, HandshakeFailed
from p2pnet.quic.settings import Settings

Datagram = tuple[bytes, Any]
"""(payload, raw address)."""

ERROR_CODE_MAX = (1 << 62) - 1  # RFC 9000 section 20.2: a variable-length integer
CLOSE_REASON_BYTES_MAX = 200
"""A close reason must fit into one packet."""

_TIMER_EARLY_S = 0.00005  # an event loop may call a timer this much before its time
_ROUNDING_S = 1e-6  # aioquic compares a sum with its parts: by rounding, nothing might be due at its own time
_CRYPTO_ERRORS = 0x100  # RFC 9001 section 4.8: TLS alerts as transport errors


class Engine:
    """One QUIC connection. `now` is always in seconds of one monotonic clock."""

    __slots__ = ("_flow", "_key_update_packets", "_quic", "_sending", "complete", "new_cids", "old_cids")

    def __init__(
        self,
        *,
        configurations: Configurations,
        settings: Settings,
        windows: Windows,
        is_client: bool,
        admit: Admit,
        ask_client: bool,
        random_bytes: Callable[[int], bytes],
        reset_token: Callable[[bytes], bytes],
        original_cid: bytes | None = None,
        retry_cid: bytes | None = None,
    ) -> None:
        self._quic = PacketTransport(
            configuration=configurations.get(is_client=is_client),
            windows=windows,
            largest_datagram=settings.max_datagram_bytes,
            admit=admit,
            ask_client=ask_client,
            random_bytes=random_bytes,
            reset_token=reset_token,
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
        )
        self._flow = self._quic.flow
        self._sending = self._quic.sending
        self._key_update_packets = settings.key_update_packets
        self.complete = False
        """This end has finished the handshake; a client may still be refused by its server."""
        self.new_cids: list[bytes] = [self._quic.host_cid]
        """Connection ids issued, by which the peer's datagrams are recognised; the caller empties the list."""
        self.old_cids: list[bytes] = []
        """Connection ids retired; the caller empties the list."""

    # Datagrams and time

    def dial(self, address: Any, now: float) -> None:
        """Begin the handshake as a client, with the server at this raw address."""
        self._quic.now = now
        self._quic.connect(address, now=now)

    def receive(self, data: bytes, address: Any, now: float) -> None:
        """Take one datagram of the peer's. `take_events` tells what it changed."""
        quic = self._quic
        quic.now = now
        if quic._close_event is not None:  # after a fatal frame nothing else of the same loop turn counts
            if quic.is_closing:
                quic.hear_close(data)
        elif quic.takes_short_way_in(data, address):
            short.receive(quic, data, now)
        else:
            quic.receive_datagram(data, address, now)

    def datagrams(self, now: float) -> list[Datagram]:
        """The datagrams that may leave now: up to one flight."""
        quic = self._quic
        quic.now = now
        if not quic._network_paths:  # no packet of the peer could be read: there is nobody to answer
            if quic._close_event is not None:
                quic._close_end()
            return []
        # Before building: a flight must not go on under keys that are due for a change.
        quic.renew_keys(self._key_update_packets)
        return quic.datagrams_to_send(now)

    @property
    def has_more(self) -> bool:
        """Whether the last `datagrams` was a full flight: more may leave at once."""
        return self._quic.has_more

    @property
    def events_waiting(self) -> int:
        """How many events `take_events` would return."""
        return len(self._flow.events)

    @property
    def has_data(self) -> bool:
        """Whether any stream has something to send."""
        return bool(self._sending.queues)

    def timer(self) -> float | None:
        """When `on_timer` is due; None once the connection has terminated."""
        at = self._quic.get_timer()
        probe_at = self._quic.mtu.next_at
        # An overdue probe waits for room in the congestion window, which an acknowledgement will bring.
        if probe_at is not None and at is not None and self._quic.now < probe_at < at and self.confirmed:
            return probe_at
        return at

    def on_timer(self, now: float) -> None:
        """Handle what is due at this time: losses, probes, the idle timeout."""
        quic = self._quic
        quic.now = now
        at = quic.get_timer()
        if at is not None and now >= at - _TIMER_EARLY_S:
            # Never earlier than aioquic's own time, or it would find nothing due and ask for the same again.
            quic.handle_timer(max(now, at) + _ROUNDING_S)

    def excuse_silence(self, stalled_s: float, now: float) -> None:
        """This process stood still for so many seconds: do not hold them against the peer, and ask it for a sign of life."""
        self._quic.excuse_silence(stalled_s, now)

    def take_events(self) -> list[tuple[FlowEvent, Stream, int]]:
        """The stream events since the last call, in order, each with its stream and error code (0: none)."""
        quic = self._quic
        while quic._events and (event := quic.next_event()) is not None:
            if isinstance(event, ConnectionIdIssued):
                self.new_cids.append(event.connection_id)
            elif isinstance(event, ConnectionIdRetired):
                self.old_cids.append(event.connection_id)
            elif isinstance(event, HandshakeCompleted):
                self.complete = True
        found, self._flow.events = self._flow.events, []
        return found

    # Streams

    def may_open(self, *, uni: bool) -> bool:
        """Whether the peer allows one more stream of this kind now."""
        return self._flow.may_open(uni=uni)

    def open(self, *, uni: bool, priority: int = 0, in_line: bool = False) -> Stream:
        """A new stream; higher priorities leave first. Call `may_open` before. The peer learns of it with its first bytes.

        `in_line`: after all that was in line before it, not in turn with them.
        """
        return self._flow.open(uni=uni, priority=priority, in_line=in_line)

    def write(self, stream: Stream, pieces: list[bytes], *, end: bool = True) -> None:
        """Add pieces to our half of the stream, which ends there unless `end` is false. They are kept, not copied."""
        last = len(pieces) - 1
        for index, piece in enumerate(pieces):
            stream.sender.write(piece, end_stream=end and index == last)
        # Queued also for an end alone, which has no bytes.
        self._sending.add(stream)

    def read(self, stream: Stream) -> tuple[list[bytes], bool]:
        """What has come in order, and whether the peer's half ends there. The caller must `credit` the bytes later."""
        stream.noted = False
        receiver = stream.receiver
        return receiver.take(), receiver.ended

    def reset(self, stream: Stream, code: int) -> None:
        """Reset our half of the stream; no effect once all of it is acknowledged."""
        self._sending.reset(stream, code)

    def stop(self, stream: Stream, code: int) -> None:
        """Refuse the peer's half of the stream (STOP_SENDING): nothing of it is read any more."""
        self._flow.stop(stream, code)

    def widen(self, stream: Stream, size: int) -> None:
        """Let the peer send the first `size` bytes of this stream."""
        self._flow.widen(stream, size)

    def hold(self, stream: Stream) -> None:
        """Count this stream of the peer's as open until `return_stream`, also when both halves are over."""
        stream.counts = True

    def return_stream(self) -> None:
        """The peer may open another bidirectional stream, in place of one held."""
        self._flow.return_stream(uni=False)

    def credit(self, count: int) -> None:
        """`count` bytes that were read have left memory: the peer may send as many more."""
        self._flow.credited += count

    def grant(self, extra: int) -> None:
        """Let the peer send `extra` bytes beyond the connection's window, in all."""
        self._flow.extra = extra

    def withhold_streams(self, count: int) -> None:
        """Withhold `count` unidirectional streams that the peer could otherwise open now."""
        self._flow.withheld_streams = count

    def acknowledge_now(self) -> None:
        """Send the acknowledgement that is due without its delay."""
        self._quic.acknowledge_now()

    @property
    def exchanges(self) -> int:
        """Bidirectional streams that this end has open."""
        return self._flow.exchanges

    @property
    def streams(self) -> dict[int, Stream]:
        """Streams with a half that is not over, by id."""
        return self._flow.streams

    # The connection as a whole

    def ping(self) -> None:
        """Send a PING, so that the peer acknowledges something."""
        self._quic.send_ping(0)

    def close(self, code: int, text: str) -> None:
        """Close with an application error code; `datagrams` has the packets. Raises ValueError for a code QUIC cannot say."""
        if not 0 <= code <= ERROR_CODE_MAX:
            raise ValueError(f"close code {code}: QUIC says 0 to 2^62-1")
        self._quic.close_application(code, _short(text))

    def give_up_handshake(self, text: str) -> None:
        """Close before the handshake is complete."""
        self._quic.close(QuicErrorCode.NO_ERROR, reason_phrase=_short(text))

    def fail(self, text: str) -> CloseReason:
        """Close with INTERNAL_ERROR: this end has failed by a fault of its own."""
        self._quic.close(error_code=QuicErrorCode.INTERNAL_ERROR, frame_type=0, reason_phrase=_short(text))
        return CloseReason("transport", QuicErrorCode.INTERNAL_ERROR, _short(text))

    def end_trace(self) -> None:
        """Write the qlog file now, if there is one."""
        self._quic.end_trace()

    def too_big(self, size: int) -> None:
        """The system refused a datagram of this many bytes on the present path."""
        self._quic.too_big(size)

    @property
    def confirmed(self) -> bool:
        """Whether the handshake is complete at both ends: a client has seen HANDSHAKE_DONE (RFC 9001 section 4.1.2)."""
        return bool(self._quic._handshake_confirmed)

    @property
    def begun(self) -> bool:
        """Whether any packet of the peer's could be read."""
        return self._quic._peer_cid.sequence_number is not None

    @property
    def cid(self) -> bytes:
        """The first connection id of this end."""
        return self._quic.host_cid

    @property
    def address(self) -> Any:
        """The peer's present raw address; None before the first datagram."""
        return self._quic.get_peer_address()

    @property
    def ending(self) -> bool:
        """Whether a close was sent or received, or a timer has ended the connection."""
        return self._quic._close_event is not None

    @property
    def terminated(self) -> bool:
        """Whether nothing will be sent or received any more."""
        return self._quic._close_event is not None and self._quic._close_at is None

    @property
    def close_heard(self) -> bool:
        """Whether the peer is known to know of the end."""
        return self._quic.close_heard

    @property
    def rtt_s(self) -> float:
        """Smoothed round-trip time in seconds; 0 before the first sample."""
        return float(self._quic._loss._rtt_smoothed)

    @property
    def probe_timeout_s(self) -> float:
        """The probe timeout: after this silence an answer is taken for lost (RFC 9002 section 6.2)."""
        return float(self._quic._loss.get_probe_timeout())

    @property
    def idle_s(self) -> float:
        """The idle timeout in force: the smaller of both ends' settings."""
        return self._quic._idle_timeout()

    @property
    def held_bytes(self) -> int:
        """Stream bytes that have come and not left memory."""
        return self._flow.held_bytes

    @property
    def unsent_bytes(self) -> int:
        """Stream bytes that wait to leave, see `SendQueue`."""
        return self._quic.sending.unsent_bytes

    @property
    def reset_token(self) -> bytes | None:
        """The peer's stateless reset token: a datagram that ends in it means that the peer has forgotten the connection."""
        return self._quic._peer_cid.stateless_reset_token

    def counters(self) -> dict[str, float]:
        """Gauges and totals, by a name that ends in its unit."""
        loss = self._quic._loss
        return {
            "rtt_s": self.rtt_s,
            "mtu_bytes": self._quic.mtu.size,
            "congestion_window_bytes": loss.congestion_window,
            "bytes_in_flight": loss.bytes_in_flight,
            "sent_packets_total": loss.packets_sent,
            "lost_packets_total": loss.packets_lost,
            "held_bytes": self.held_bytes,
        }

    # How it ended

    def end(self, refusal: TrustError | None) -> CloseReason:
        """The reason of an end that `close` did not bring about. `refusal`: this end's, of the peer's certificate."""
        event = self._quic._close_event or ConnectionTerminated(QuicErrorCode.INTERNAL_ERROR, 0, "no reason given")
        code, text = event.error_code, event.reason_phrase
        if refusal is not None:
            return CloseReason("refused", CloseCode.REFUSED, str(refusal))
        if event.frame_type is None:
            return CloseReason("application", code, text)
        # A TLS alert about our certificate: the peer's verdict, not a fault of the transport.
        if code - _CRYPTO_ERRORS in REFUSAL_ALERTS:
            return CloseReason("refused", CloseCode.REFUSED, text)
        # aioquic has no code for its idle timeout, only this text.
        if self._quic.unheard or (self.terminated and text == "Idle timeout"):
            return CloseReason("idle", code, text)
        return CloseReason("transport", code, text)


def failure_of(reason: CloseReason, refusal: TrustError | None) -> P2pnetError:
    """The exception for a dial that ended for this reason: `refusal` if this end refused the peer, else HandshakeFailed."""
    if refusal is not None:
        return refusal
    if reason.kind == "refused" or reason.code == CloseCode.REFUSED:
        return HandshakeFailed("refused", reason.text)
    if reason.kind == "idle":
        return HandshakeFailed("timeout", "the peer fell silent")
    if reason.code == CloseCode.TOO_MANY or (
        reason.kind == "transport" and reason.code == QuicErrorCode.CONNECTION_REFUSED
    ):
        return HandshakeFailed("too-many", reason.text or "the peer takes no more connections for now")
    # QUIC hides an application's close from an end whose handshake is not complete (RFC 9000 section 10.2.3).
    if reason.kind == "transport" and reason.code != QuicErrorCode.APPLICATION_ERROR:
        return HandshakeFailed("protocol", reason.text or f"QUIC error {reason.code:#x}")
    return HandshakeFailed("closed", reason.text or "the peer gave the handshake up")


def _short(text: str) -> str:
    return text.encode(errors="replace")[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
