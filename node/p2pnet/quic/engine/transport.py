"""aioquic's connection with bounds: which of its packets and frames are handled how, connection ids, and the end.

Streams are kept by `FlowControl` and sent by `SendQueue`: frames about them are parsed here and passed on to these two. What is
sent is put into packets in the order of `_write_application`. aioquic is pinned to its minor version for what is overridden.
"""

# ruff: noqa: SLF001  # the loss recovery and the ciphers of our own connection

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    END_STATES,
    QuicConnectionId,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicPacketType,
    QuicStreamFrame,
    pull_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace

from p2pnet.quic.engine.control import control_due, mtu_probe_due, new_builder, probe_mtu, write_control
from p2pnet.quic.engine.flow import ROOM_MIN, FlowControl, FlowEvent, PeerLimits, Windows, violation
from p2pnet.quic.engine.handshake import Handshake
from p2pnet.quic.engine.mtu import BASE, PathMtu
from p2pnet.quic.engine.recovery import Recovery
from p2pnet.quic.engine.sending import SendQueue
from p2pnet.quic.engine.short import write
from p2pnet.quic.engine.tls import CID_BYTES, Admit

CRYPTO_PENDING_MAX = 64 * 1024
"""Out-of-order handshake bytes kept of an unauthenticated peer."""
CRYPTO_PIECES_MAX = 64
"""Pieces that these bytes may be in: keeping them in order takes time in proportion to their number."""
CONNECTION_CIDS = 3
"""Connection ids of ours that a peer may have: one in use, two to move to."""
PROBE_TIMEOUT_MAX_S = 3.0
"""The probe timeout counts at most so much in idle and closing times, for a peer can lengthen it by its delays."""
EXCUSED_S_MIN = 1.0
"""After this process stood still a peer has at least so long to be heard before it counts as silent."""
SEQUENCE_NUMBERS_MAX = 64
"""Sequence numbers of the peer's connection ids that are remembered."""
_PEER_LIMITS = tuple(one.name for one in fields(PeerLimits))

if (_aioquic := logging.getLogger("quic")).level == logging.NOTSET:
    _aioquic.setLevel(
        logging.ERROR
    )  # it warns of every mistake of every peer; how connections end is reported by `Engine.end`


class PacketTransport(Handshake):
    """A QuicConnection that enforces its windows; stream events are noted in `flow`."""

    _streams: dict[int, Any]  # the same object as the flow control's, as are the limits: aioquic reads them
    _loss: Recovery

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        windows: Windows,
        largest_datagram: int,
        admit: Admit,
        ask_client: bool,
        random_bytes: Callable[[int], bytes],
        reset_token: Callable[[bytes], bytes],
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
            admit=admit,
            ask_client=ask_client,
        )
        self.flow = FlowControl(windows, is_client=self._is_client)
        self.sending = SendQueue(self.flow.peer, self.flow.on_sent, self._quic_logger)
        self.mtu = PathMtu(largest=largest_datagram)
        self.space = QuicPacketSpace(is_application_data=True)
        """The packet number space of 1-RTT packets; aioquic's own, once the connection is initialised."""
        self.keys = CryptoPair()
        """The keys of 1-RTT packets, likewise."""
        self.now = 0.0
        """The time of the present call, where aioquic does not pass it on; monotonic seconds."""
        self.heard_at = -1.0
        """When a packet was last received by the short way."""
        self.has_more = False
        """Whether the last flight was full: more may leave at once."""
        self.unacknowledged = 0
        """Ack-eliciting packets received by the short way since an acknowledgement was last planned."""
        self.unheard = False
        """Whether the connection ended because the peer acknowledged nothing for the idle time."""
        self.close_heard = False
        """Whether the peer is known to know of the end."""
        self._random_bytes = random_bytes
        self._reset_token = reset_token
        self._echo_close = False
        self._key_phase_began = 0
        self._local_active_connection_id_limit = CONNECTION_CIDS
        # aioquic's frame handlers look streams and limits up under these names.
        self._streams = self.flow.streams
        self._local_max_data = self.flow.max_data
        self._local_max_streams_bidi = self.flow.max_streams_bidi
        self._local_max_streams_uni = self.flow.max_streams_uni
        self._local_max_stream_data_uni = windows.uni
        self._local_max_stream_data_bidi_remote = windows.inbound
        self._local_max_stream_data_bidi_local = windows.reply
        self._excused_until = -1.0
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

    # For the engine

    def acknowledge_now(self) -> None:
        """Send the acknowledgement that is due without its delay."""
        space = self.space
        if space.ack_at is not None:
            space.ack_at = 0.0

    def handle_timer(self, now: float) -> None:
        """As aioquic; a peer that sends but acknowledges nothing is given up like a silent one."""
        super().handle_timer(now)
        if (
            self._handshake_confirmed
            and self._close_event is None
            and self.space.ack_eliciting_in_flight
            and now - self._loss.waiting_since > self._idle_timeout()
        ):
            self.unheard = True
            self.close(QuicErrorCode.NO_ERROR, QuicFrameType.PADDING, "the peer acknowledges nothing")

    def excuse_silence(self, stalled_s: float, now: float) -> None:
        """This process stood still for so many seconds, and has not read what came meanwhile: give the peer time to be heard.

        It gets three probe timeouts, and a second at least; but once until something is received.
        """
        if self._close_event is not None or self._close_at is None or self._close_at == self._excused_until:
            return
        self._loss.waiting_since = min(now, self._loss.waiting_since + stalled_s)
        self._excused_until = self._close_at = max(
            self._close_at, now + max(EXCUSED_S_MIN, self._three_probe_timeouts())
        )
        self.send_ping(0)

    def renew_keys(self, after_packets: int) -> None:
        """Update the keys after so many packets under the present ones (RFC 9001 section 6.6).

        Not before one of those was acknowledged (section 6.1).
        """
        if (
            self._handshake_confirmed
            and self._packet_number - self._key_phase_began >= after_packets
            and self._spaces[tls.Epoch.ONE_RTT].largest_acked_packet >= self._key_phase_began
        ):
            self._key_phase_began = self._packet_number
            self.request_key_update()

    def too_big(self, size: int) -> None:
        """The system refuses datagrams of this size on the present path: those in flight never left."""
        self.mtu.on_too_big(size, self.now)
        space = self.space
        gone = [packet for packet in space.sent_packets.values() if packet.sent_bytes == size]
        self._loss._on_packets_lost(congestion_event=False, now=self.now, packets=gone, space=space)

    def end_trace(self) -> None:
        """Write the qlog file, if there is one: aioquic would do so only at the end of the closing period."""
        if self._quic_logger is not None and self._configuration.quic_logger is not None:
            self._configuration.quic_logger.end_trace(self._quic_logger)
            self._quic_logger = None

    # Packets that come

    def takes_short_way_in(self, data: bytes, address: Any) -> bool:
        """Whether a datagram is what nearly all are: one 1-RTT packet on the path in use, for `short.receive`."""
        return (
            self._handshake_confirmed
            and len(data) > 1 + CID_BYTES
            and data[0] & 0xC0 == 0x40  # short header, fixed bit
            and data[1 : 1 + CID_BYTES] == self.host_cid
            and self._network_paths[0].addr == address
            and self._network_paths[0].is_validated
            and self._quic_logger is None
        )

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """As aioquic; on another path recovery and the search for the MTU start anew (RFC 9000 section 9.4)."""
        path = self._network_paths[0] if self._network_paths else None
        super().receive_datagram(data, addr, now)
        if path is not None and self._network_paths[0] is not path:
            self._loss.start_anew()
            self.mtu.reset(now, self._packet_number)

    # Frames that come

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        largest = buf.pull_uint_var()
        buf.seek(position)
        self.check_acknowledged(frame_type, largest)
        super()._handle_ack_frame(context, frame_type, buf)

    def check_acknowledged(self, frame_type: int, largest: int) -> None:
        """Check the largest number that a peer acknowledges. Raises QuicConnectionError if it was never sent."""
        # aioquic would believe it, and take every packet from then on for lost. It numbers all spaces in one sequence.
        if largest >= self._packet_number:
            raise violation(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Acknowledged a packet never sent")

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(position)
        receiver = self._crypto_streams[context.epoch].receiver
        # aioquic would let an unauthenticated peer make it allocate half a megabyte per epoch, in any number of pieces.
        if end - receiver.starting_offset() > CRYPTO_PENDING_MAX or len(receiver._ranges) > CRYPTO_PIECES_MAX:
            raise violation(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too much crypto buffering")
        super()._handle_crypto_frame(context, frame_type, buf)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> Any:
        return self.flow.find(frame_type, stream_id)

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        stream_id = buf.pull_uint_var()
        offset = buf.pull_uint_var() if frame_type & 4 else 0
        length = buf.pull_uint_var() if frame_type & 2 else buf.capacity - buf.tell()
        data = buf.pull_bytes(length)
        if self._quic_logger is not None and context.quic_logger_frames is not None:
            frame = QuicStreamFrame(offset=offset, data=data, fin=bool(frame_type & 1))
            context.quic_logger_frames.append(self._quic_logger.encode_stream_frame(frame, stream_id=stream_id))
        self.flow.on_data(frame_type, stream_id, offset, data)

    def _handle_reset_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        del context
        stream_id = buf.pull_uint_var()
        code = buf.pull_uint_var()
        self.flow.on_reset(frame_type, stream_id, code, buf.pull_uint_var())

    def _handle_stop_sending_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        del context
        stream_id = buf.pull_uint_var()
        code = buf.pull_uint_var()
        self._assert_stream_can_send(frame_type, stream_id)
        stream = self.flow.find(frame_type, stream_id)
        # RFC 9000 section 3.5: the answer is a reset with the same code.
        # A repeated STOP_SENDING, or one for a finished half, is no event.
        if self.sending.reset(stream, code):
            self.flow.events.append((FlowEvent.STOPPED, stream, code))

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        position = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(position)
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self.sending.on_stream_credit(stream)

    def _handle_max_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        self._learn_peer_limits()
        self.sending.on_connection_credit()

    def _handle_max_streams_bidi_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_streams_bidi_frame(context, frame_type, buf)
        self._learn_peer_limits()

    def _handle_max_streams_uni_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_streams_uni_frame(context, frame_type, buf)
        self._learn_peer_limits()

    def _learn_peer_limits(self) -> None:
        """Copy the peer's limits, which aioquic has read, into the flow control."""
        for name in _PEER_LIMITS:
            setattr(self.flow.peer, name, getattr(self, f"_remote_{name}"))

    # Packets that leave

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """As aioquic, but by the short way where it applies, and with a probe of the path's MTU when one is due.

        Up to a flight of packets; `has_more` says whether another may follow at once.
        """
        self._follow_mtu()
        # The packet that pacing held back may leave now; left in the past, this time would make the timer ring without end.
        self._pacing_at = None
        self.has_more = False
        if self._takes_short_way():
            datagrams = super().datagrams_to_send(now) if control_due(self) and self._has_room() else []
            if self._pacing_at is None:
                datagrams += write(self, now)
        elif self._echo_close:
            self._echo_close = False
            return self._answer_close(now)
        elif self._wants_to_send(now):
            datagrams = super().datagrams_to_send(now)
        else:
            datagrams = []
        if mtu_probe_due(self, now) and (size := self.mtu.probe(now)) is not None:
            datagrams += probe_mtu(self, size, now)
        return datagrams

    def _wants_to_send(self, now: float) -> bool:
        """Whether aioquic would have anything to send: building an empty packet is expensive."""
        if self._state in END_STATES:
            return False
        if self._close_pending or not self._handshake_confirmed or len(self._network_paths) > 1:
            return True
        return self._has_application_data(now)

    def _has_room(self) -> bool:
        return self._probe_pending or self._loss.congestion_window - self._loss.bytes_in_flight >= ROOM_MIN

    def _has_application_data(self, now: float) -> bool:
        ack_at = self.space.ack_at
        if ack_at is not None and ack_at <= now:
            return True
        return self._has_room() and (bool(self.sending.queues) or self.flow.limits_due() or control_due(self))

    def _takes_short_way(self) -> bool:
        """Whether packets without control frames may be built by `short.write`.

        aioquic's builder is needed to note frames for a qlog, to count bytes on paths that are not validated, and while a
        STOP_SENDING is not acknowledged, for that goes with every packet.
        """
        return (
            self._handshake_confirmed
            and self._close_event is None
            and self._quic_logger is None
            and not self.flow.stops
            and self._network_paths[0].is_validated
            and len(self._network_paths) == 1
        )

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        crypto = self.keys
        if not crypto.send.is_valid():
            return
        space = self.space
        loss = self._loss
        pacer = loss._pacer
        loss.app_limited = False
        direct = self._takes_short_way()
        while self._has_application_data(now):
            if direct and not control_due(self):
                return
            if space.ack_at is None or space.ack_at > now:
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            # Before the acknowledgement, and with every packet until one is acknowledged: else the peer could take a refused
            # message for a delivered one.
            if self.flow.stops:
                self.flow.write_stops(builder)
            # An acknowledgement goes with whatever leaves: that saves a timer and a packet of its own.
            if space.ack_at is not None:
                self._write_ack_frame(builder=builder, space=space, now=now)
            if self._handshake_complete:
                write_control(self, builder, network_path, space, now)
            self.sending.write(builder)
            if builder.packet_is_empty:
                return
            pacer.update_after_send(now=now)
        # Nothing more to send although the window has room: it must not grow now (RFC 9002 section 7.8).
        flight = loss.bytes_in_flight + builder._flight_bytes
        loss.app_limited = loss.congestion_window - flight >= self._max_datagram_size

    def _send_probing_frames(self, network_path: QuicNetworkPath, now: float) -> list[tuple[bytes, Any]]:
        """As aioquic, but in datagrams that every path carries, and not beyond the congestion window."""
        if self._loss.bytes_in_flight > self._loss.congestion_window:
            network_path.remote_challenges.clear()
            return []
        size, self._max_datagram_size = self._max_datagram_size, BASE
        try:
            return super()._send_probing_frames(network_path, now)
        finally:
            self._max_datagram_size = size

    # The path's MTU

    def _follow_mtu(self) -> None:
        if self._max_datagram_size != self.mtu.size:
            # aioquic builds every packet up to this.
            self._max_datagram_size = self.mtu.size
            self._loss.set_datagram_bytes(self.mtu.size)

    # Handshake and connection ids

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.space, self.keys = self._spaces[tls.Epoch.ONE_RTT], self._cryptos[tls.Epoch.ONE_RTT]

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        # aioquic reads the peer's max_udp_payload_size, and ignores it.
        limit = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if limit is not None:
            self.mtu.limit(limit)
        self._learn_peer_limits()

    def _name_first_cid(self) -> None:
        """Draw the first connection ids from `random_bytes`, not from the system as aioquic; reset tokens follow from them."""
        first = self._host_cids[0]
        first.cid = self._random_bytes(CID_BYTES)
        if not self._is_client:
            first.stateless_reset_token = self._reset_token(first.cid)
        self.host_cid = self._local_initial_source_connection_id = first.cid
        if self._is_client:
            self._peer_cid.cid = self._original_destination_connection_id = self._random_bytes(CID_BYTES)

    def _replenish_connection_ids(self) -> None:
        while len(self._host_cids) < min(CONNECTION_CIDS, self._remote_active_connection_id_limit):
            cid = self._random_bytes(CID_BYTES)
            self._host_cids.append(QuicConnectionId(cid, self._host_cid_seq, self._reset_token(cid)))
            self._host_cid_seq += 1

    def _handle_new_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_new_connection_id_frame(context, frame_type, buf)
        self._forget_old_sequence_numbers()
        # Only a server may send a reset token with its first cid (RFC 9000 section 18.2): to learn that a client has
        # forgotten the connection, its server must use one of the later ones.
        if not self._is_client and self._peer_cid.stateless_reset_token is None:
            self.change_connection_id()

    def _forget_old_sequence_numbers(self) -> None:
        """Forget sequence numbers below those in use, of which none can be new; aioquic would remember all for ever."""
        if len(self._peer_cid_sequence_numbers) <= SEQUENCE_NUMBERS_MAX:
            return
        reserved = [path.peer_cid for path in self._network_paths if path.peer_cid is not None]
        lowest = min(one.sequence_number for one in [self._peer_cid, *self._peer_cid_available, *reserved])
        self._peer_retire_prior_to = max(self._peer_retire_prior_to, lowest)
        self._peer_cid_sequence_numbers = {one for one in self._peer_cid_sequence_numbers if one >= lowest}

    def _consume_peer_cid(self) -> None:
        if not self._peer_cid_available:
            raise violation(
                QuicErrorCode.CONNECTION_ID_LIMIT_ERROR, QuicFrameType.NEW_CONNECTION_ID, "No connection id left"
            )
        super()._consume_peer_cid()

    # The end

    @property
    def is_closing(self) -> bool:
        """Whether this end has sent a close, and waits until the peer knows of it."""
        return self._state is QuicConnectionState.CLOSING

    def close_application(self, code: int, text: str) -> None:
        """Close with an application error code."""
        super().close(error_code=code, frame_type=None, reason_phrase=text)

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        """As aioquic, but always with a frame type: without one, aioquic would send it as the application's close."""
        super().close(error_code, QuicFrameType.PADDING if frame_type is None else frame_type, reason_phrase)

    def hear_close(self, data: bytes) -> None:
        """While closing, look for a CONNECTION_CLOSE in a datagram of the peer's: nothing else matters any more."""
        if len(data) <= 1 + CID_BYTES or data[0] & 0xC0 != 0x40:
            return
        try:
            _, payload, _ = self.keys.decrypt_packet(data, 1 + CID_BYTES, self.space.expected_packet_number)
        except CryptoError:
            return
        self.close_heard = payload[:1] in (b"\x1c", b"\x1d")

    def _handle_connection_close_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_connection_close_frame(context, frame_type, buf)
        # RFC 9000 section 10.2.2: one packet in answer, so that the peer need not repeat itself.
        self._echo_close = not self.close_heard and context.epoch is tls.Epoch.ONE_RTT
        self.close_heard = True

    def _answer_close(self, now: float) -> list[tuple[bytes, Any]]:
        builder = new_builder(self, BASE)
        builder.start_packet(QuicPacketType.ONE_RTT, self.keys)
        self._write_connection_close_frame(
            builder=builder,
            epoch=tls.Epoch.ONE_RTT,
            error_code=QuicErrorCode.NO_ERROR,
            frame_type=QuicFrameType.PADDING,
            reason_phrase="",
        )
        path = self._network_paths[0]
        return self._flush_builder(builder=builder, network_path=path, peer_cid=self._peer_cid.cid, now=now)

    def _idle_timeout(self) -> float:
        ours = self._configuration.idle_timeout
        # 0 means none (RFC 9000 section 18.2); aioquic takes it for zero seconds.
        theirs = self._remote_max_idle_timeout
        return float(max(min(ours, theirs) if theirs else ours, self._three_probe_timeouts()))

    def _close_begin(self, is_initiator: bool, now: float) -> None:
        super()._close_begin(is_initiator, now)
        self._close_at = now + self._three_probe_timeouts()

    def _three_probe_timeouts(self) -> float:
        """The least idle time and the closing period (RFC 9000 sections 10.1 and 10.2), bounded by PROBE_TIMEOUT_MAX_S."""
        return 3 * min(self._loss.get_probe_timeout(), PROBE_TIMEOUT_MAX_S)
