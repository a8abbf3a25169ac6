"""aioquic's connection with fixed bounds: its own streams, its own judge of certificates, nothing that grows.

aioquic's limit writers double a window by themselves on the highest offset *seen*; here credit is given only for bytes
that left memory, in windows of fixed size. aioquic walks every stream for each packet; here only streams with something
to send are looked at, the most urgent first. aioquic is pinned to its minor version for this.
"""

# ruff: noqa: SLF001  # the loss recovery and the ciphers of our own connection

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.buffer import UINT_VAR_MAX, size_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    RESET_STREAM_FRAME_CAPACITY,
    STOP_SENDING_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionId,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
    stream_is_client_initiated,
    stream_is_unidirectional,
)
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicPacketType,
    QuicStreamFrame,
    get_spin_bit,
    pull_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import FinalSizeError, StreamFinishedError

from p2pnet.quic.engine.mtu import BASE, PathMtu
from p2pnet.quic.engine.recovery import Recovery
from p2pnet.quic.engine.streams import Stream
from p2pnet.quic.engine.tls import CID_BYTES, Admit, JudgingContext

CRYPTO_PENDING_MAX = 64 * 1024  # out-of-order handshake bytes of one stranger
CRYPTO_PIECES_MAX = 64  # and the pieces they may be in: keeping them in order costs time by their number
CONNECTION_CIDS = 3  # of ours that a peer may hold: one in use, two to move to
SEQUENCE_NUMBERS_MAX = 64  # of a peer's cids that are remembered
STOPS_REPEATED_MAX = 512  # STOP_SENDING frames that go with every packet until one is acknowledged
_ROOM_MIN = 48  # bytes of a packet below which no further stream is begun; STOP_SENDING and RESET_STREAM fit


if (_aioquic := logging.getLogger("quic")).level == logging.NOTSET:
    _aioquic.setLevel(logging.ERROR)  # it warns of each mistake of each stranger; ends of connections are told here


class Happening(IntEnum):
    """What may happen to a stream."""

    READABLE = 1
    SENT = 2
    RESET = 3
    STOPPED = 4


@dataclass(frozen=True, slots=True)
class Windows:
    """What a peer may send, in bytes and streams, before anything more is granted."""

    connection: int
    uni: int
    """Each stream that only the peer sends on."""
    inbound: int
    """Each two-way stream the peer opened."""
    reply: int
    """Each two-way stream we opened."""
    streams: int
    """Streams of each kind."""
    gaps: int
    """Pieces that came too early, over all streams."""


class Transport(QuicConnection):
    """A QuicConnection that keeps to its windows, and notes what happened to streams instead of raising events."""

    _streams: dict[int, Any]  # Stream in place of aioquic's
    _loss: Recovery

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        windows: Windows,
        largest_datagram: int,
        admit: Admit,
        ask_client: bool,
        chance: Callable[[int], bytes],
        reset_token: Callable[[bytes], bytes],
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.windows = windows
        self.credited = 0
        """Stream bytes that have left memory for good."""
        self.extra = 0
        """Bytes granted beyond the window."""
        self.withheld_streams = 0
        """One-way streams the peer may not open anew while the messages of as many lie untaken."""
        self.gaps = 0
        self.exchanges = 0
        """Two-way streams of ours that are open."""
        self.happenings: list[tuple[Happening, Stream, int]] = []
        self.mtu = PathMtu(largest=largest_datagram)
        self.now = 0.0
        """The caller's time, for what aioquic does not hand on."""
        self.unheard = False
        """The peer acknowledged nothing for the idle time."""
        self.close_heard = False
        """The peer has said that it knows of the end, or ended it itself."""
        self._queues: dict[int, deque[Stream]] = {}
        self._announcing: deque[Stream] = deque()
        self._stopping: dict[int, int] = {}  # stream id -> code, until acknowledged
        self._stops_due = False
        self._starved: list[Stream] = []  # have data, wait for connection credit
        self._admit = admit
        self._ask_client = ask_client
        self._chance = chance
        self._reset_token = reset_token
        self._echo_close = False
        self._key_phase_began = 0
        self._local_active_connection_id_limit = CONNECTION_CIDS
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            limit.value = limit.sent = windows.streams
        self._local_max_data.value = self._local_max_data.sent = windows.connection
        self._local_max_stream_data_uni = windows.uni
        self._local_max_stream_data_bidi_remote = windows.inbound
        self._local_max_stream_data_bidi_local = windows.reply
        self._loss = Recovery(
            congestion=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            datagram_bytes=self._max_datagram_size,
            peer_completed_address_validation=not self._is_client,
            send_probe=self._send_probe,
            mtu=self.mtu,
            quic_logger=self._quic_logger,
        )
        self._name_first_cid()

    # What the engine asks

    @property
    def streams(self) -> dict[int, Stream]:
        """Those with a half that is not over."""
        return self._streams

    def may_open(self, *, uni: bool) -> bool:
        """Whether the peer allows one more stream of this kind now."""
        if uni:
            return bool(self._local_next_stream_id_uni >> 2 < self._remote_max_streams_uni)
        return bool(self._local_next_stream_id_bidi >> 2 < self._remote_max_streams_bidi)

    def open(self, *, uni: bool, priority: int) -> Stream:
        """A new stream of ours. Ask `may_open` first."""
        stream_id = self._local_next_stream_id_uni if uni else self._local_next_stream_id_bidi
        stream = self._streams[stream_id] = Stream(
            stream_id,
            local=0 if uni else self.windows.reply,
            remote=self._remote_max_stream_data_uni if uni else self._remote_max_stream_data_bidi_remote,
            readable=not uni,
            writable=True,
        )
        if uni:
            self._local_next_stream_id_uni = stream_id + 4
        else:
            self._local_next_stream_id_bidi = stream_id + 4
            self.exchanges += 1
        stream.priority = priority
        return stream

    def enqueue(self, stream: Stream) -> None:
        """The stream has something to send."""
        if stream.queued:
            return
        stream.queued = True
        queue = self._queues.get(stream.priority)
        if queue is None:
            queue = self._queues[stream.priority] = deque()
            if len(self._queues) > 1:
                self._queues = dict(sorted(self._queues.items(), reverse=True))
        queue.append(stream)

    def widen(self, stream: Stream, size: int) -> None:
        """Let the peer send the first `size` bytes of this stream."""
        if size > stream.max_stream_data_local:
            stream.max_stream_data_local = size
            self._announcing.append(stream)

    def give_up(self, stream: Stream, code: int) -> None:
        """Reset our half."""
        if stream.sender.reset(code):
            self.enqueue(stream)

    def stop(self, stream: Stream, code: int) -> None:
        """Ask the peer to stop its half; what still comes is thrown away, and its credit returned."""
        gaps = stream.receiver.gaps
        if not stream.receiver.stop(code):
            return
        self._forget_received(stream, gaps)
        if len(self._stopping) < STOPS_REPEATED_MAX:
            self._stopping[stream.stream_id] = code
            self._stops_due = True
        self._settle(stream)

    def return_stream(self, *, uni: bool) -> None:
        """The peer may open one more stream of this kind."""
        limit = self._local_max_streams_uni if uni else self._local_max_streams_bidi
        limit.value += 1

    def acknowledge_now(self) -> None:
        """Do not wait out the delay for the acknowledgement that is due."""
        space = self._spaces[tls.Epoch.ONE_RTT]
        if space.ack_at is not None:
            space.ack_at = 0.0

    def wants_to_send(self, now: float) -> bool:
        """Whether `datagrams_to_send` could return anything: building a packet in vain is dear."""
        if self._state in END_STATES:
            return self._echo_close
        if self._close_pending or not self._handshake_confirmed or len(self._network_paths) > 1:
            return True
        if self._mtu_probe_due(now):
            return True
        if self._has_application_data(self._spaces[tls.Epoch.ONE_RTT], self._network_paths[0], now):
            return True
        # What held a packet back is over; left in the past, this time would make the timer ring without end.
        self._pacing_at = None
        return False

    def reset_tokens(self) -> list[bytes]:
        """By which the peer may say that it has forgotten this connection (RFC 9000 section 10.3)."""
        token = self._peer_cid.stateless_reset_token
        return [] if token is None else [token]

    def handle_timer(self, now: float) -> None:
        """As aioquic; a peer that talks but acknowledges nothing is given up like a silent one."""
        super().handle_timer(now)
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if (
            space is not None
            and self._handshake_confirmed
            and self._close_event is None
            and space.ack_eliciting_in_flight
            and now - self._loss.waiting_since > self._idle_timeout()
        ):
            self.unheard = True
            self.close(QuicErrorCode.NO_ERROR, QuicFrameType.PADDING, "the peer acknowledges nothing")

    def renew_keys(self, after_packets: int) -> None:
        """Start new keys when so many packets were sent under the present ones (RFC 9001 section 6.6)."""
        if self._handshake_confirmed and self._packet_number - self._key_phase_began >= after_packets:
            self._key_phase_began = self._packet_number
            self.request_key_update()

    def hear_close(self, data: bytes) -> None:
        """While closing: take note of a CONNECTION_CLOSE of the peer's, all that matters now."""
        crypto = self._cryptos.get(tls.Epoch.ONE_RTT)
        if crypto is None or len(data) <= 1 + CID_BYTES or data[0] & 0xC0 != 0x40:
            return
        try:
            _, payload, _ = crypto.decrypt_packet(
                data, 1 + CID_BYTES, self._spaces[tls.Epoch.ONE_RTT].expected_packet_number
            )
        except CryptoError:
            return
        self.close_heard = payload[:1] in (b"\x1c", b"\x1d")

    def end_trace(self) -> None:
        """Write the qlog file, if there is one, also when the end of the closing period is not waited for."""
        if self._quic_logger is not None and self._configuration.quic_logger is not None:
            self._configuration.quic_logger.end_trace(self._quic_logger)
            self._quic_logger = None

    def too_big(self, size: int) -> None:
        """The system does not take datagrams of this size for the present path."""
        self.mtu.on_too_big(size, self.now)

    # Receiving

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
            return
        path = self._network_paths[0] if self._network_paths else None
        super().receive_datagram(data, addr, now)
        if path is not None and self._network_paths[0] is not path:
            self._loss.start_anew()
            self.mtu.reset(now, self._packet_number)

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
            self._streams[new_id] = Stream(
                new_id,
                local=self.windows.uni if uni else self.windows.inbound,
                remote=0 if uni else self._remote_max_stream_data_bidi_local,
                readable=True,
                writable=not uni,
            )
        limit.used = count
        return self._streams[stream_id]

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        stream_id = buf.pull_uint_var()
        offset = buf.pull_uint_var() if frame_type & 4 else 0
        length = buf.pull_uint_var() if frame_type & 2 else buf.capacity - buf.tell()
        end = offset + length
        if end > UINT_VAR_MAX:
            raise _violation(QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "offset + length cannot exceed 2^62 - 1")
        frame = QuicStreamFrame(offset=offset, data=buf.pull_bytes(length), fin=bool(frame_type & 1))
        if self._quic_logger is not None and context.quic_logger_frames is not None:
            context.quic_logger_frames.append(self._quic_logger.encode_stream_frame(frame, stream_id=stream_id))
        self._assert_stream_can_receive(frame_type, stream_id)
        stream = self._get_or_create_stream(frame_type, stream_id)
        receiver = stream.receiver
        newly = self._newly_received(stream, end, frame_type)
        gaps = receiver.gaps
        try:
            changed = receiver.handle_frame(frame)
        except FinalSizeError as error:
            raise _violation(QuicErrorCode.FINAL_SIZE_ERROR, frame_type, str(error)) from error
        self._local_max_data.used += newly
        if receiver.stop_code is not None:
            self._forget_received(stream, gaps)
        elif receiver.gaps != gaps:
            self.gaps += receiver.gaps - gaps
            if self.gaps > self.windows.gaps:
                raise _violation(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Too many gaps")
        if changed and not stream.noted:
            stream.noted = True
            self.happenings.append((Happening.READABLE, stream, 0))
        self._settle(stream)

    def _handle_reset_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        del context
        stream_id = buf.pull_uint_var()
        code = buf.pull_uint_var()
        final_size = buf.pull_uint_var()
        self._assert_stream_can_receive(frame_type, stream_id)
        stream = self._get_or_create_stream(frame_type, stream_id)
        newly = self._newly_received(stream, final_size, frame_type)
        gaps = stream.receiver.gaps
        try:
            ended = stream.receiver.handle_reset(final_size=final_size)
        except FinalSizeError as error:
            raise _violation(QuicErrorCode.FINAL_SIZE_ERROR, frame_type, str(error)) from error
        self._local_max_data.used += newly
        if ended:
            self._forget_received(stream, gaps)
            self.happenings.append((Happening.RESET, stream, code))
        self._settle(stream)

    def _handle_stop_sending_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        del context
        stream_id = buf.pull_uint_var()
        code = buf.pull_uint_var()
        self._assert_stream_can_send(frame_type, stream_id)
        stream = self._get_or_create_stream(frame_type, stream_id)
        # RFC 9000 section 3.5: the answer is a reset with the same code.
        if stream.sender.reset(code):
            self.enqueue(stream)
            self.happenings.append((Happening.STOPPED, stream, code))

    def _newly_received(self, stream: Stream, end: int, frame_type: int) -> int:
        """The bytes a frame that ends at `end` adds to the connection's account. Raises when over a window."""
        if end > stream.max_stream_data_local:
            raise _violation(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over stream data limit")
        newly = max(0, end - stream.receiver.highest_offset)
        if self._local_max_data.used + newly > self._local_max_data.value:
            raise _violation(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over connection data limit")
        return newly

    def _forget_received(self, stream: Stream, gaps: int) -> None:
        """What came on this stream and was not taken is thrown away: its credit goes back to the peer."""
        receiver = stream.receiver
        self.gaps += receiver.gaps - gaps
        self.credited += receiver.highest_offset - receiver.handed
        receiver.handed = receiver.highest_offset

    def _settle(self, stream: Stream) -> None:
        """Forget a stream both halves of which are over, and let the peer open another."""
        if not (stream.receiver.is_finished and stream.sender.is_finished):
            return
        stream_id = stream.stream_id
        if self._streams.pop(stream_id, None) is None:
            return
        if stream_is_client_initiated(stream_id) == self._is_client:
            self.exchanges -= not stream.uni
        elif not stream.counts:
            self._stream_limit(stream_id).value += 1

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(position)
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.sender.buffer_is_empty:
            self.enqueue(stream)

    def _handle_max_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        starved, self._starved = self._starved, []
        for stream in starved:
            self.enqueue(stream)

    def _handle_new_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_new_connection_id_frame(context, frame_type, buf)
        self._forget_old_sequence_numbers()
        # Only a server may send a reset token with its first cid (RFC 9000 section 18.2): to learn that a client has
        # forgotten the connection, its server must use one of the later ones.
        if not self._is_client and self._peer_cid.stateless_reset_token is None:
            self.change_connection_id()

    def _forget_old_sequence_numbers(self) -> None:
        """Aioquic remembers every number a peer ever gave to a cid: below the ones in use, none is new any more."""
        if len(self._peer_cid_sequence_numbers) <= SEQUENCE_NUMBERS_MAX:
            return
        reserved = [path.peer_cid for path in self._network_paths if path.peer_cid is not None]
        lowest = min(one.sequence_number for one in [self._peer_cid, *self._peer_cid_available, *reserved])
        self._peer_retire_prior_to = max(self._peer_retire_prior_to, lowest)
        self._peer_cid_sequence_numbers = {one for one in self._peer_cid_sequence_numbers if one >= lowest}

    def _consume_peer_cid(self) -> None:
        if not self._peer_cid_available:
            raise _violation(
                QuicErrorCode.CONNECTION_ID_LIMIT_ERROR, QuicFrameType.NEW_CONNECTION_ID, "No connection id left"
            )
        super()._consume_peer_cid()

    def _handle_connection_close_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_connection_close_frame(context, frame_type, buf)
        # RFC 9000 section 10.2.2: one packet in answer, so that the peer need not repeat itself.
        self._echo_close = not self.close_heard and context.epoch is tls.Epoch.ONE_RTT
        self.close_heard = True

    # Sending

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """As aioquic, with a probe of the path's MTU when one is due, and an answer to a close."""
        if self._echo_close:
            self._echo_close = False
            return self._answer_close(now)
        self._follow_mtu()
        datagrams = super().datagrams_to_send(now)
        if self._mtu_probe_due(now) and (size := self.mtu.probe(now)) is not None:
            datagrams += self._probe_mtu(size, now)
        return datagrams

    def _mtu_probe_due(self, now: float) -> bool:
        at = self.mtu.next_at
        return (
            at is not None
            and at <= now
            and self._handshake_confirmed
            and self._state not in END_STATES
            and self._close_event is None
            and self._network_paths[0].is_validated
            and self._loss.congestion_window - self._loss.bytes_in_flight >= self._max_datagram_size
        )

    def _probe_mtu(self, size: int, now: float) -> list[tuple[bytes, Any]]:
        """One packet of PING and PADDING that fills `size` bytes (RFC 9000 section 14.4)."""
        builder = self._builder(size)
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
        builder.start_frame(
            QuicFrameType.PING, handler=self._on_mtu_probe_delivery, handler_args=(size, builder.packet_number)
        )
        builder._datagram_needs_padding = True
        path = self._network_paths[0]
        return self._flush_builder(builder=builder, network_path=path, peer_cid=self._peer_cid.cid, now=now)

    def _answer_close(self, now: float) -> list[tuple[bytes, Any]]:
        builder = self._builder(BASE)
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
        self._write_connection_close_frame(
            builder=builder,
            epoch=tls.Epoch.ONE_RTT,
            error_code=QuicErrorCode.NO_ERROR,
            frame_type=QuicFrameType.PADDING,
            reason_phrase="",
        )
        path = self._network_paths[0]
        return self._flush_builder(builder=builder, network_path=path, peer_cid=self._peer_cid.cid, now=now)

    def _builder(self, size: int) -> QuicPacketBuilder:
        return QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            quic_logger=self._quic_logger,
            spin_bit=self._spin_bit,
            version=self._version or 0,
        )

    def _has_application_data(self, space: QuicPacketSpace, path: QuicNetworkPath, now: float) -> bool:
        if space.ack_at is not None and space.ack_at <= now:
            return True
        if self._probe_pending:
            return True
        if self._loss.congestion_window - self._loss.bytes_in_flight < _ROOM_MIN:
            return False
        if self._queues or self._announcing or self._stops_due or self._ping_pending or self._handshake_done_pending:
            return True
        if self._retire_connection_ids or path.remote_challenges or not path.is_validated:
            return True
        if not self._crypto_streams[tls.Epoch.ONE_RTT].sender.buffer_is_empty:
            return True
        return self._limits_due() or any(not one.was_sent for one in self._host_cids)

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        crypto = self._cryptos[tls.Epoch.ONE_RTT]
        if not crypto.send.is_valid():
            return
        space = self._spaces[tls.Epoch.ONE_RTT]
        loss = self._loss
        pacer = loss._pacer
        loss.app_limited = False
        while self._has_application_data(space, network_path, now):
            if space.ack_at is None or space.ack_at > now:
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            # Before the acknowledgement, and with each until one is heard: a sender must not take a refused message
            # for a delivered one.
            if self._stopping:
                self._write_stops(builder)
            # An acknowledgement travels with whatever leaves: that spares the timer and the packet of its own.
            if space.ack_at is not None:
                self._write_ack_frame(builder=builder, space=space, now=now)
            if self._handshake_complete:
                self._write_control(builder, network_path, space, now)
            self._write_streams(builder, space)
            if builder.packet_is_empty:
                return
            pacer.update_after_send(now=now)
        # Nothing more to say although the window has room: its size proves nothing (RFC 9002 section 7.8).
        flight = loss.bytes_in_flight + builder._flight_bytes
        loss.app_limited = loss.congestion_window - flight >= self._max_datagram_size

    def _write_control(
        self, builder: QuicPacketBuilder, path: QuicNetworkPath, space: QuicPacketSpace, now: float
    ) -> None:
        """Everything that is no stream data, in aioquic's order. Stops the packet when there is no room."""
        if not (path.is_validated or path.local_challenge_sent):
            self._write_path_challenge_frame(builder=builder, network_path=path)
            if path.validation_deadline is None:
                # RFC 9000 section 8.2.4: three times the larger of the PTOs of the old path and a new one.
                pto = max(self._loss.get_probe_timeout(), 2 * self._configuration.initial_rtt)
                path.validation_deadline = now + 3 * pto
        if path.remote_challenges:
            # An answer is as large as RFC 9000 section 8.2.2 asks, not as the path would carry.
            builder._buffer_capacity = min(builder._buffer_capacity, BASE)
            builder._flight_capacity = min(builder._flight_capacity, BASE)
        if self._handshake_done_pending:
            self._write_handshake_done_frame(builder=builder)
            self._handshake_done_pending = False
        while path.remote_challenges:
            self._write_path_response_frame(builder=builder, challenge=path.remote_challenges[0])
            path.remote_challenges.popleft()
        for connection_id in self._host_cids:
            if not connection_id.was_sent:
                self._write_new_connection_id_frame(builder=builder, connection_id=connection_id)
        while self._retire_connection_ids:
            self._write_retire_connection_id_frame(builder=builder, sequence_number=self._retire_connection_ids[0])
            self._retire_connection_ids.pop(0)
        self._write_connection_limits(builder=builder, space=space)
        while self._announcing and builder.remaining_flight_space >= _ROOM_MIN:
            self._write_stream_limits(builder=builder, space=space, stream=self._announcing.popleft())
        if self._ping_pending:
            self._write_ping_frame(builder, self._ping_pending)
            self._ping_pending.clear()
        if self._probe_pending:
            self._write_ping_frame(builder, comment="probe")
            self._probe_pending = False
        crypto_stream = self._crypto_streams[tls.Epoch.ONE_RTT]
        if not crypto_stream.sender.buffer_is_empty:
            self._write_crypto_frame(builder=builder, space=space, stream=crypto_stream)

    def _write_streams(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """Fill the packet from the queue: the most urgent first, equals in turn."""
        while self._queues and builder.remaining_flight_space >= _ROOM_MIN:
            priority, queue = next(iter(self._queues.items()))
            stream = queue[0]
            sender = stream.sender
            if sender.reset_pending:
                self._write_reset(builder, stream)
            elif not sender.buffer_is_empty and not self._write_data(builder, space, stream):
                return
            queue.popleft()
            if not sender.buffer_is_empty and stream.queued:
                queue.append(stream)
                continue
            stream.queued = False
            if not queue:
                del self._queues[priority]

    def _write_data(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: Stream) -> bool:
        """One STREAM frame. False when the packet has no room; without credit the stream leaves the queue."""
        sender = stream.sender
        credit = self._remote_max_data - self._remote_max_data_used
        highest = sender.highest_offset
        if sender.next_offset == highest and sender.has_unsent:
            if credit <= 0:
                self._starved.append(stream)
                stream.queued = False
                return True
            if stream.max_stream_data_remote <= highest:
                stream.queued = False
                return True
        before = builder.remaining_buffer_space
        self._remote_max_data_used += self._write_stream_frame(
            builder=builder,
            space=space,
            stream=stream,
            max_offset=min(highest + credit, stream.max_stream_data_remote),
        )
        return bool(builder.remaining_buffer_space < before)

    def _write_stream_frame(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: Any, max_offset: int
    ) -> int:
        """As aioquic, with the stream's halves as pure data."""
        del space
        sender = stream.sender
        position = sender.next_offset
        overhead = 3 + size_uint_var(stream.stream_id) + (size_uint_var(position) if position else 0)
        highest = sender.highest_offset
        frame = sender.get_frame(builder.remaining_flight_space - overhead, max_offset)
        if frame is None:
            return 0
        data = frame.data
        buf = builder.start_frame(
            QuicFrameType.STREAM_BASE | 2 | (4 if frame.offset else 0) | (1 if frame.fin else 0),
            capacity=overhead,
            handler=self._on_data_delivery,
            handler_args=(stream, frame.offset, frame.offset + len(data), frame.fin),
        )
        buf.push_uint_var(stream.stream_id)
        if frame.offset:
            buf.push_uint_var(frame.offset)
        buf.push_uint16(len(data) | 0x4000)
        buf.push_bytes(data)
        if self._quic_logger is not None and builder.quic_logger_frames is not None:
            builder.quic_logger_frames.append(self._quic_logger.encode_stream_frame(frame, stream_id=stream.stream_id))
        return int(sender.highest_offset - highest)

    def _write_reset(self, builder: QuicPacketBuilder, stream: Stream) -> None:
        buf = builder.start_frame(
            QuicFrameType.RESET_STREAM,
            capacity=RESET_STREAM_FRAME_CAPACITY,
            handler=self._on_reset_delivery,
            handler_args=(stream,),
        )
        stream.sender.reset_pending = False
        buf.push_uint_var(stream.stream_id)
        buf.push_uint_var(stream.sender.reset_code or 0)
        buf.push_uint_var(stream.sender.highest_offset)

    def _write_stops(self, builder: QuicPacketBuilder) -> None:
        self._stops_due = False
        for stream_id, code in self._stopping.items():
            if builder.remaining_flight_space < _ROOM_MIN:
                return
            buf = builder.start_frame(
                QuicFrameType.STOP_SENDING,
                capacity=STOP_SENDING_FRAME_CAPACITY,
                handler=self._on_stop_delivery,
                handler_args=(stream_id,),
            )
            buf.push_uint_var(stream_id)
            buf.push_uint_var(code)

    def _limits_due(self) -> bool:
        window = self.windows.connection
        if self.credited + window + self.extra - self._local_max_data.sent >= window // 8:
            return True
        return self._streams_due(self._local_max_streams_bidi) or self._streams_due(self._local_max_streams_uni)

    def _streams_allowed(self, limit: Limit) -> int:
        return int(limit.value) - (self.withheld_streams if limit is self._local_max_streams_uni else 0)

    def _streams_due(self, limit: Limit) -> bool:
        value = self._streams_allowed(limit)
        # In batches: when the peer has fewer streams left to open than the update would grant.
        return bool(value > limit.sent and limit.sent - limit.used < value - limit.sent)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        del space
        max_data = self._local_max_data
        window = self.windows.connection
        target = self.credited + window + self.extra
        if target - max_data.sent >= window // 8:
            max_data.value = max(max_data.value, target)
            self._write_limit(builder, max_data, max_data.value)
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            if self._streams_due(limit):
                self._write_limit(builder, limit, self._streams_allowed(limit))

    def _write_limit(self, builder: QuicPacketBuilder, limit: Limit, value: int) -> None:
        buf = builder.start_frame(
            limit.frame_type,
            capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
            handler=self._on_connection_limit_delivery,
            handler_args=(limit,),
        )
        buf.push_uint_var(value)
        limit.sent = value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: Any) -> None:
        del space
        if stream.receiver.is_finished:
            return
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buf.push_uint_var(stream.stream_id)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local

    # What became of what was sent

    def _on_data_delivery(self, delivery: QuicDeliveryState, stream: Stream, start: int, stop: int, fin: bool) -> None:
        if delivery is QuicDeliveryState.ACKED:
            if stream.sender.handle_ack(start, stop, fin):
                self.happenings.append((Happening.SENT, stream, 0))
                self._settle(stream)
        elif stream.sender.handle_loss(start, stop, fin):
            self.enqueue(stream)

    def _on_reset_delivery(self, delivery: QuicDeliveryState, stream: Stream) -> None:
        if stream.sender.handle_reset_delivery(acked=delivery is QuicDeliveryState.ACKED):
            self.enqueue(stream)
        else:
            self._settle(stream)

    def _on_stop_delivery(self, delivery: QuicDeliveryState, stream_id: int) -> None:
        if delivery is QuicDeliveryState.ACKED:
            self._stopping.pop(stream_id, None)
        elif stream_id in self._stopping:
            self._stops_due = True

    def _on_max_stream_data_delivery(self, delivery: Any, stream: Any) -> None:
        if delivery is not QuicDeliveryState.ACKED:
            self._announcing.append(stream)

    def _on_mtu_probe_delivery(self, delivery: QuicDeliveryState, size: int, number: int) -> None:
        if delivery is QuicDeliveryState.ACKED:
            self.mtu.on_probe_acked(size, number, self.now)
        else:
            self.mtu.on_probe_lost(size, number, self.now)

    def _follow_mtu(self) -> None:
        if self._max_datagram_size != self.mtu.size:
            self._max_datagram_size = self.mtu.size
            self._loss.set_datagram_bytes(self.mtu.size)

    # Handshake

    def _name_first_cid(self) -> None:
        """Aioquic draws cids and tokens from the system; here chance is an argument, and tokens follow from cids."""
        first = self._host_cids[0]
        first.cid = self._chance(CID_BYTES)
        if not self._is_client:
            first.stateless_reset_token = self._reset_token(first.cid)
        self.host_cid = self._local_initial_source_connection_id = first.cid
        if self._is_client:
            self._peer_cid.cid = self._original_destination_connection_id = self._chance(CID_BYTES)

    def _replenish_connection_ids(self) -> None:
        while len(self._host_cids) < min(CONNECTION_CIDS, self._remote_active_connection_id_limit):
            cid = self._chance(CID_BYTES)
            self._host_cids.append(QuicConnectionId(cid, self._host_cid_seq, self._reset_token(cid)))
            self._host_cid_seq += 1

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        JudgingContext.adopt(self.tls, self._admit, ask_client=self._ask_client)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        # aioquic reads the peer's limit on what it can take in one datagram, and forgets it.
        limit = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if limit is not None:
            self.mtu.limit(limit)

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        largest = buf.pull_uint_var()
        buf.seek(position)
        # aioquic would believe it, and take every packet from then on for lost. It numbers all spaces in one row.
        if largest >= self._packet_number:
            raise _violation(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Acknowledged a packet never sent")
        super()._handle_ack_frame(context, frame_type, buf)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(position)
        receiver = self._crypto_streams[context.epoch].receiver
        # aioquic would let each stranger make it allocate half a megabyte per epoch, in as many pieces as it likes.
        if end - receiver.starting_offset() > CRYPTO_PENDING_MAX or len(receiver._ranges) > CRYPTO_PIECES_MAX:
            raise _violation(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too much crypto buffering")
        super()._handle_crypto_frame(context, frame_type, buf)

    def _idle_timeout(self) -> float:
        ours = self._configuration.idle_timeout
        # 0 means none (RFC 9000 section 18.2); aioquic takes it for zero seconds.
        theirs = self._remote_max_idle_timeout
        return float(max(min(ours, theirs) if theirs else ours, 3 * self._loss.get_probe_timeout()))

    @property
    def is_closing(self) -> bool:
        """We have said that it ends, and wait for the peer to know."""
        return self._state is QuicConnectionState.CLOSING


def _violation(code: QuicErrorCode, frame_type: int, reason: str) -> QuicConnectionError:
    return QuicConnectionError(error_code=code, frame_type=frame_type, reason_phrase=reason)
