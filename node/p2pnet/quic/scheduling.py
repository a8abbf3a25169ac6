"""What leaves in the next packet: aioquic's writers with fixed windows and a send queue.

aioquic's limit writers double a window by themselves on the highest offset *seen*; here credit is given only for bytes
that were consumed, stopped or reset, in windows of fixed size. aioquic walks every stream for each packet; here only
streams with something to send are looked at, the most urgent first. aioquic is pinned to its minor version for this.
"""

# ruff: noqa: SLF001  # the loss recovery of our own connection

from collections import deque
from typing import Any

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicNetworkPath,
)
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketSpace

from p2pnet.quic.settings import Settings
from p2pnet.quic.streams import BoundedStream

_ROOM_MIN = 48  # bytes of a packet below which no further stream is begun; STOP_SENDING and RESET_STREAM fit
_BURST_PACKETS = 64


class ScheduledConnection(QuicConnection):
    """A QuicConnection that writes from a queue, and gives credit for `consumed` bytes only."""

    _streams: dict[int, Any]  # BoundedStream in place of aioquic's

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        limits: Settings,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.limits = limits
        self.consumed = 0
        """Stream bytes that have left the connection's window for good."""
        self.withheld = 0
        """Bytes of complete messages nobody has taken yet: they keep the window shut."""
        self.withheld_streams = 0
        """Streams the peer may not open anew while the messages of as many lie untaken."""
        self._queues: dict[int, deque[BoundedStream]] = {}
        self._announcing: deque[BoundedStream] = deque()
        self.stopping: deque[BoundedStream] = deque()
        """Streams whose STOP_SENDING has to leave."""
        self._starved: list[BoundedStream] = []  # have data, wait for connection credit
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            limit.value = limit.sent = limits.streams_max
        self._loss._pacer = _BurstPacer(max_datagram_size=configuration.max_datagram_size)

    def wants_to_send(self, now: float) -> bool:
        """Whether `datagrams_to_send` could return anything: building a packet in vain is dear."""
        if self._state in END_STATES:
            return False
        if self._close_pending or not self._handshake_confirmed or len(self._network_paths) > 1:
            return True
        return self._has_application_data(self._spaces[tls.Epoch.ONE_RTT], self._network_paths[0], now)

    def acknowledge_now(self) -> None:
        """Do not wait out the delay for the acknowledgement that is due."""
        space = self._spaces[tls.Epoch.ONE_RTT]
        if space.ack_at is not None:
            space.ack_at = 0.0

    def enqueue(self, stream: BoundedStream) -> None:
        """The stream has something to send."""
        stream.queued = True
        queue = self._queues.get(stream.priority)
        if queue is None:
            queue = self._queues[stream.priority] = deque()
            if len(self._queues) > 1:
                self._queues = dict(sorted(self._queues.items(), reverse=True))
        queue.append(stream)

    def announce(self, stream: BoundedStream) -> None:
        """The stream's window has moved on far enough to tell the peer."""
        stream.max_stream_data_local_sent = stream.max_stream_data_local
        self._announcing.append(stream)

    def _has_application_data(self, space: QuicPacketSpace, path: QuicNetworkPath, now: float) -> bool:
        if space.ack_at is not None and space.ack_at <= now:
            return True
        if self._probe_pending:
            return True
        if self._loss.congestion_window - self._loss.bytes_in_flight < _ROOM_MIN:
            return False
        if self._queues or self._announcing or self.stopping or self._ping_pending or self._handshake_done_pending:
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
        pacer = self._loss._pacer
        while self._has_application_data(space, network_path, now):
            if space.ack_at is None or space.ack_at > now:
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    break
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            # Before the acknowledgement: a sender must not take a refused message for a delivered one.
            while self.stopping and builder.remaining_flight_space >= _ROOM_MIN:
                stopped: Any = self.stopping.popleft()
                self._write_stop_sending_frame(builder=builder, stream=stopped)
            # An acknowledgement travels with whatever leaves: that spares the timer and the packet of its own.
            if space.ack_at is not None:
                self._write_ack_frame(builder=builder, space=space, now=now)
            if self._handshake_complete:
                self._write_control(builder, network_path, space, now)
            self._write_streams(builder, space)
            if builder.packet_is_empty:
                break
            pacer.update_after_send(now=now)

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
            stream: Any = queue[0]
            sender = stream.sender
            if sender.reset_pending:
                self._write_reset_stream_frame(builder=builder, stream=stream)
            elif not sender.buffer_is_empty and not self._write_data(builder, space, stream):
                return
            queue.popleft()
            if not sender.buffer_is_empty and stream.queued:
                queue.append(stream)
                continue
            stream.queued = False
            if not queue:
                del self._queues[priority]

    def _write_data(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: Any) -> bool:
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

    def _limits_due(self) -> bool:
        window = self.limits.connection_window_bytes
        if self.consumed + window - self.withheld - self._local_max_data.sent >= window // 4:
            return True
        return self._streams_due(self._local_max_streams_bidi) or self._streams_due(self._local_max_streams_uni)

    def _streams_due(self, limit: Limit) -> bool:
        value = limit.value - self.withheld_streams
        # In batches: when the peer has fewer streams left to open than the update would grant.
        return bool(value > limit.sent and limit.sent - limit.used < value - limit.sent)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        del space
        max_data = self._local_max_data
        window = self.limits.connection_window_bytes
        target = self.consumed + window - self.withheld
        if target - max_data.sent >= window // 4:
            max_data.value = max(max_data.value, target)
            self._write_limit(builder, max_data, max_data.value)
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            if self._streams_due(limit):
                self._write_limit(builder, limit, limit.value - self.withheld_streams)

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

    def _on_max_stream_data_delivery(self, delivery: Any, stream: Any) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        if stream.max_stream_data_local_sent == 0:
            self.announce(stream)


class _BurstPacer(QuicPacketPacer):
    """aioquic's pacer with larger bursts: its timers tick in milliseconds, and one sendmsg carries 44 datagrams."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(congestion_window, smoothed_rtt)
        size = self._max_datagram_size
        rate = congestion_window / max(smoothed_rtt, 1e-6)
        self.bucket_max = max(2 * size, min(congestion_window // 2, _BURST_PACKETS * size)) / rate
