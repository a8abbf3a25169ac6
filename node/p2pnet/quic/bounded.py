"""aioquic's connection with fixed bounds: its own streams, its own judge of certificates, nothing that grows."""

# ruff: noqa: SLF001  # aioquic offers no public way to any of this; it is pinned to its minor version

from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
    stream_is_client_initiated,
    stream_is_unidirectional,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, get_spin_bit
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import StreamFinishedError

from p2pnet.quic.admission import CID_BYTES
from p2pnet.quic.scheduling import ScheduledConnection
from p2pnet.quic.settings import Settings
from p2pnet.quic.streams import BoundedStream
from p2pnet.quic.tls import Admit, JudgingContext

CRYPTO_PENDING_MAX = 64 * 1024  # out-of-order handshake bytes of one stranger
CONNECTION_CIDS = 3  # of ours that a peer may hold: one in use, two to move to


class BoundedConnection(ScheduledConnection):
    """A QuicConnection that keeps to `limits`, and notes what happened to streams instead of raising events."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        limits: Settings,
        admit: Admit,
        ask_client: bool,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            limits=limits,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.gaps = 0
        self.readable: list[BoundedStream] = []
        self.acknowledged: list[BoundedStream] = []
        self.resets: list[tuple[BoundedStream, int]] = []
        self._admit = admit
        self._ask_client = ask_client
        self._local_active_connection_id_limit = CONNECTION_CIDS

    # What the connection above asks

    @property
    def confirmed(self) -> bool:
        """The handshake is complete at both ends: a client has seen HANDSHAKE_DONE."""
        return bool(self._handshake_confirmed)

    @property
    def streams(self) -> dict[int, BoundedStream]:
        """Those with a half that is not over."""
        return self._streams

    @property
    def rtt_s(self) -> float:
        """Smoothed round-trip time in seconds; 0 before the first sample."""
        return float(self._loss._rtt_smoothed)

    @property
    def idle_s(self) -> float:
        """Silence after which the connection is given up: the smaller of both ends' wishes."""
        return self._idle_timeout()

    @property
    def terminated(self) -> bool:
        """Nothing will be sent or received any more."""
        return self._state is QuicConnectionState.TERMINATED

    @property
    def ended_by(self) -> ConnectionTerminated | None:
        """What ends, or has ended, the connection."""
        return self._close_event

    @property
    def ending(self) -> bool:
        """A close was sent, received or brought about by a timer."""
        return self._close_event is not None

    def may_open(self, *, uni: bool) -> bool:
        """Whether the peer allows one more stream of this kind now."""
        if uni:
            return bool(self._local_next_stream_id_uni >> 2 < self._remote_max_streams_uni)
        return bool(self._local_next_stream_id_bidi >> 2 < self._remote_max_streams_bidi)

    def open(self, *, uni: bool, priority: int) -> BoundedStream:
        """A new stream of ours. Ask `may_open` first."""
        stream: BoundedStream = self._get_or_create_stream_for_send(
            self.get_next_available_stream_id(is_unidirectional=uni)
        )
        stream.priority = priority
        return stream

    def discard(self, stream: BoundedStream) -> None:
        """Both halves are over: forget the stream, and let the peer open another."""
        if self._streams.pop(stream.stream_id, None) is not None:
            stream.credit(stream.receiver.highest_offset)
            if stream_is_client_initiated(stream.stream_id) != self._is_client:
                self._stream_limit(stream.stream_id).value += 1

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """As aioquic, with a short way for what nearly all datagrams are: one 1-RTT packet on the path in use."""
        if (
            self._handshake_confirmed
            and len(data) > 1 + CID_BYTES
            and data[0] & 0xC0 == 0x40  # short header, fixed bit
            and data[1 : 1 + CID_BYTES] == self.host_cid
            and self._network_paths[0].addr == addr
            and self._network_paths[0].is_validated
            and self._quic_logger is None
            and self._close_event is None
        ):
            self._receive_short(data, now)
        else:
            super().receive_datagram(data, addr, now)

    def _receive_short(self, data: bytes, now: float) -> None:
        """The steps of aioquic's receive_datagram that apply, in its order."""
        space = self._spaces[tls.Epoch.ONE_RTT]
        try:
            header, payload, number = self._cryptos[tls.Epoch.ONE_RTT].decrypt_packet(
                data, 1 + CID_BYTES, space.expected_packet_number
            )
        except CryptoError:
            return
        if number in space.received_packets:
            return
        if header[0] & 0x18:
            self.close(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Reserved bits must be zero")
            return
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            spin = get_spin_bit(header[0])
            self._spin_bit = not spin if self._is_client else spin
            self._spin_highest_pn = number
        context = QuicReceiveContext(tls.Epoch.ONE_RTT, self.host_cid, self._network_paths[0], None, now, None)
        try:
            is_ack_eliciting, _ = self._payload_received(context, payload)
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
            return
        if self._close_event is not None:
            return
        self._close_at = now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if is_ack_eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay

    # Streams in place of aioquic's

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> Any:
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream
        if self._stream_is_discarded(stream_id):
            raise StreamFinishedError
        if stream_is_client_initiated(stream_id) == self._is_client:
            raise _violation(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Wrong stream initiator")
        uni = stream_is_unidirectional(stream_id)
        limit = self._stream_limit(stream_id)
        count = (stream_id // 4) + 1
        if count > limit.value:
            raise _violation(QuicErrorCode.STREAM_LIMIT_ERROR, frame_type, "Too many streams open")
        # Opening a stream also opens all lower-numbered ones of its type (RFC 9000 section 2.1).
        for new_id in range(limit.used * 4 + stream_id % 4, stream_id + 4, 4):
            stream = self._streams[new_id] = BoundedStream(
                self,
                new_id,
                local=self.limits.stream_window_bytes,
                remote=0 if uni else self._remote_max_stream_data_bidi_local,
                readable=True,
                writable=not uni,
            )
        limit.used = count
        return self._streams[stream_id]

    def _get_or_create_stream_for_send(self, stream_id: int) -> Any:
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream
        if stream_is_client_initiated(stream_id) != self._is_client or self._stream_is_discarded(stream_id):
            raise ValueError("this stream is finished, or the peer's to open")
        uni = stream_is_unidirectional(stream_id)
        stream = self._streams[stream_id] = BoundedStream(
            self,
            stream_id,
            local=0 if uni else self.limits.stream_window_bytes,
            remote=self._remote_max_stream_data_uni if uni else self._remote_max_stream_data_bidi_remote,
            readable=not uni,
            writable=True,
        )
        if uni:
            self._local_next_stream_id_uni = stream_id + 4
        else:
            self._local_next_stream_id_bidi = stream_id + 4
        return stream

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(position)
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.sender.buffer_is_empty:
            stream.enqueue()

    def _handle_max_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        starved, self._starved = self._starved, []
        for stream in starved:
            stream.enqueue()

    # Handshake

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        JudgingContext.adopt(self.tls, self._admit, ask_client=self._ask_client)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(position)
        # aioquic would let each stranger make it allocate half a megabyte per epoch.
        if end - self._crypto_streams[context.epoch].receiver.starting_offset() > CRYPTO_PENDING_MAX:
            raise _violation(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too much crypto buffering")
        super()._handle_crypto_frame(context, frame_type, buf)

    def _idle_timeout(self) -> float:
        ours = self._configuration.idle_timeout
        theirs = (
            self._remote_max_idle_timeout
        )  # 0 means none (RFC 9000 section 18.2); aioquic takes it for zero seconds
        return float(max(min(ours, theirs) if theirs else ours, 3 * self._loss.get_probe_timeout()))


def _violation(code: QuicErrorCode, frame_type: int, reason: str) -> QuicConnectionError:
    return QuicConnectionError(error_code=code, frame_type=frame_type, reason_phrase=reason)
