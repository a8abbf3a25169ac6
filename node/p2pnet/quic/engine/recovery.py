"""Loss recovery and congestion control according to RFC 9002, where aioquic deviates from it.

The window grows only while it limits the sender (section 7.8), a new path starts without history (RFC 9000 section 9.4), and the
loss of a probe for a larger path MTU is no sign of congestion (RFC 8899 section 3).
"""

# ruff: noqa: SLF001  # aioquic's recovery has no public way to any of this; it is pinned to its minor version

import math
from collections.abc import Callable, Iterable
from typing import Any

from aioquic.quic.congestion.base import K_GRANULARITY, K_INITIAL_WINDOW
from aioquic.quic.congestion.cubic import CubicCongestionControl
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace
from aioquic.tls import Epoch

from p2pnet.quic.engine.mtu import PathMtu

INITIAL_WINDOW_BYTES = 14_720
"""RFC 9002 section 7.2, for datagrams of up to half of it."""
QUIET_PACKETS_MAX = 16
"""Sent packets remembered that are not ack-eliciting: an end that only receives sends nothing else."""
_BURST_PACKETS = 64  # one sendmsg carries 44 datagrams
_QUANTUM_S = 0.001  # as fine as an event loop's timers are
_QUANTUM_PACKETS = 16
_UNPACED_RTT_S = 0.003
_NUMBERS = 2 * MAX_ACK_RANGES  # as far back as the ranges of an acknowledgement may go
_ALL_NUMBERS = (1 << _NUMBERS) - 1


class _Reno(RenoCongestionControl):
    app_limited = False

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        if self.app_limited:
            self.bytes_in_flight -= packet.sent_bytes
        else:
            super().on_packet_acked(now=now, packet=packet)


class _Cubic(CubicCongestionControl):
    app_limited = False

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        if self.app_limited:
            self.bytes_in_flight -= packet.sent_bytes
            self.last_ack = packet.sent_time or 0.0
        else:
            super().on_packet_acked(now=now, packet=packet)


_CONTROLS: dict[str, Callable[..., Any]] = {"reno": _Reno, "cubic": _Cubic}


class _BurstPacer(QuicPacketPacer):
    """aioquic's pacer for a program that is woken by timers: it waits rarely, and then for the time of a burst.

    Pacing spares the queues on a path (RFC 9002 section 7.7). On paths with a round trip below three milliseconds it is off:
    there are no queues worth it, and timers are as coarse as the round trip. Only flights limit bursts there.
    """

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]  # None is what aioquic returns too
        if self.packet_time is None:
            return None
        self.update_bucket(now=now)
        if self.bucket_time > 0:
            return None
        quantum = max(_QUANTUM_S, _QUANTUM_PACKETS * self.packet_time)
        return now + max(self.packet_time, min(quantum, self.bucket_max / 2))

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        if smoothed_rtt < _UNPACED_RTT_S:
            self.packet_time = None
            return
        # 5/4 of a window per round trip (RFC 9002 section 7.7): so a sender can catch up after a late timer.
        super().update_rate(congestion_window * 5 // 4, smoothed_rtt)
        size = self._max_datagram_size
        rate = congestion_window * 5 / 4 / smoothed_rtt
        burst = min(congestion_window // 2, _BURST_PACKETS * size)
        self.bucket_max = max(2 * size, burst, 2 * _QUANTUM_S * rate) / rate


class ReceivedNumbers:
    """Which of the newest packet numbers were received, as a bitmap; all older ones count as received.

    aioquic's window of the same size is a set of up to 256 numbers, which takes 24 KiB.
    """

    __slots__ = ("_bits", "_highest")

    def __init__(self) -> None:
        self._bits = 0  # the lowest stands for the highest number
        self._highest = -1

    def add(self, number: int) -> None:
        """A packet with this number was received."""
        ahead = number - self._highest
        if ahead <= 0:
            if ahead > -_NUMBERS:
                self._bits |= 1 << -ahead
            return
        self._bits = (self._bits << ahead | 1) & _ALL_NUMBERS if ahead < _NUMBERS else 1
        self._highest = number

    def __contains__(self, number: int) -> bool:
        behind = self._highest - number
        return behind >= _NUMBERS or (behind >= 0 and self._bits >> behind & 1 != 0)


class Recovery(QuicPacketRecovery):
    """The recovery of one connection. It reports to `mtu` which packets, other than its probes, were acknowledged or lost."""

    def __init__(
        self,
        *,
        congestion: str,
        initial_rtt: float,
        datagram_bytes: int,
        peer_completed_address_validation: bool,
        send_probe: Callable[[], None],
        mtu: PathMtu,
        quic_logger: Any,
    ) -> None:
        super().__init__(
            congestion_control_algorithm=congestion,
            initial_rtt=initial_rtt,
            max_datagram_size=datagram_bytes,
            peer_completed_address_validation=peer_completed_address_validation,
            send_probe=send_probe,
            quic_logger=quic_logger,
        )
        self._congestion = congestion
        self._mtu = mtu
        self._datagram_bytes = datagram_bytes
        self._cc: Any = self._control()
        self._pacer = _BurstPacer(max_datagram_size=datagram_bytes)
        self._quiet: list[tuple[QuicPacketSpace, int]] = []
        self.waiting_since = 0.0
        """When a packet in flight was last acknowledged, or the first was sent, in monotonic seconds."""
        self.packets_sent = 0
        self.packets_lost = 0

    @property
    def app_limited(self) -> bool:
        """Whether the sender has nothing more to send, rather than the window limiting it."""
        return bool(self._cc.app_limited)

    @app_limited.setter
    def app_limited(self, value: bool) -> None:
        self._cc.app_limited = value

    def set_datagram_bytes(self, size: int) -> None:
        """Datagrams have this size from now on; before any loss the initial window follows it (RFC 9002 section 7.2)."""
        control = self._cc
        if control.ssthresh is None:
            initial = min(K_INITIAL_WINDOW * size, max(INITIAL_WINDOW_BYTES, 2 * size))
            control.congestion_window = max(control.congestion_window, initial)
        self._datagram_bytes = size
        control._max_datagram_size = self._pacer._max_datagram_size = size
        if self._rtt_initialized:
            self._pacer.update_rate(control.congestion_window, self._rtt_smoothed)

    def start_anew(self) -> None:
        """Forget what was learned about the old path: the connection has moved to another."""
        control = self._control()
        # What is in flight on the old path is still counted when it is acknowledged or lost.
        control.bytes_in_flight = self._cc.bytes_in_flight
        self._cc = control
        self._pacer = _BurstPacer(max_datagram_size=self._datagram_bytes)
        self._rtt_initialized = False
        self._rtt_latest = self._rtt_smoothed = self._rtt_variance = 0.0
        # As in a new recovery: a shorter old path must not lower the new one's minimum.
        self._rtt_min = math.inf
        self._pto_count = 0

    def keep_only(self, space: QuicPacketSpace) -> None:
        """Drop all other packet number spaces: the handshake is over."""
        self.spaces = [space]
        self._quiet = [one for one in self._quiet if one[0] is space]

    def on_packet_sent(self, *, packet: QuicSentPacket, space: QuicPacketSpace) -> None:
        """As aioquic; counts packets, and bounds the memory of those that are never acknowledged."""
        self.packets_sent += 1
        control = self._cc
        space.sent_packets[packet.packet_number] = packet
        if packet.is_ack_eliciting:
            # Nothing was waiting: the wait begins with this packet.
            if not control.bytes_in_flight:
                self.waiting_since = packet.sent_time or 0.0
            space.ack_eliciting_in_flight += 1
            # What is sent before the handshake is confirmed arms no probe timeout, so it must not delay one.
            if packet.in_flight and (self.handshake_confirmed or not space.is_application_data):
                self._time_of_last_sent_ack_eliciting_packet = packet.sent_time or 0.0
        else:
            self._remember_quiet(packet.packet_number, space)
        if packet.in_flight:
            control.on_packet_sent(packet=packet)
            if self._quic_logger is not None:
                self._log_metrics_updated()

    def _remember_quiet(self, number: int, space: QuicPacketSpace) -> None:
        """Remember a packet that is not ack-eliciting, and forget the oldest: the peer need never acknowledge any."""
        self._quiet.append((space, number))
        if len(self._quiet) > QUIET_PACKETS_MAX:
            oldest_space, oldest = self._quiet.pop(0)
            forgotten = oldest_space.sent_packets.pop(oldest, None)
            if forgotten is not None and forgotten.in_flight:
                self._cc.on_packets_expired(packets=[forgotten])

    def on_loss_detection_timeout(self, *, now: float) -> None:
        """As aioquic; probe timeouts in a row may mean that the path has become narrower."""
        super().on_loss_detection_timeout(now=now)
        if self._pto_count:
            self._mtu.on_timeouts(self._pto_count, now)

    def reschedule_data(self, *, now: float, speed_up_handshake: bool = False) -> None:
        """As aioquic during the handshake; after it a probe is a PING, whose answer shows what was lost.

        aioquic would repeat the oldest packet, but quinn 0.9, and so qp2p, loses a message whose first frame comes twice.
        """
        crypto = any(packet.is_crypto_packet for space in self.spaces for packet in space.sent_packets.values())
        if not self.handshake_confirmed or crypto:
            super().reschedule_data(now=now, speed_up_handshake=speed_up_handshake)
        else:
            self._send_probe()

    def on_ack_received(self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace) -> None:
        """As aioquic (RFC 9002 appendix A.7), in time proportional to the packets newly acknowledged, not to all in flight."""
        largest = ack_rangeset[-1].stop - 1
        space.largest_acked_packet = max(space.largest_acked_packet, largest)
        newly = _take(space.sent_packets, ack_rangeset)
        if not newly:
            return
        eliciting = self._settle_acked(newly, now, space)
        newest = newly[-1]
        if newest.packet_number == largest and eliciting:
            self._measure_rtt(now - (newest.sent_time or 0.0), min(ack_delay, self.max_ack_delay), now)
        # After the acknowledged ones were taken out: only what is left can be lost.
        self._detect_loss(now=now, space=space)
        if self.peer_completed_address_validation:
            self._pto_count = 0
        if self._quic_logger is not None:
            self._log_metrics_updated(log_rtt=newest.packet_number == largest and eliciting)

    def _settle_acked(self, packets: list[QuicSentPacket], now: float, space: QuicPacketSpace) -> bool:
        """Report the arrival of these packets to all concerned; whether any of them was ack-eliciting."""
        eliciting = False
        arrived: dict[int, int] = {}  # the newest of each size
        for packet in packets:
            if packet.is_ack_eliciting:
                eliciting = True
                space.ack_eliciting_in_flight -= 1
            if packet.in_flight:
                self.waiting_since = now
                self._cc.on_packet_acked(packet=packet, now=now)
                arrived[packet.sent_bytes] = packet.packet_number
            for handler, arguments in packet.delivery_handlers:
                handler(QuicDeliveryState.ACKED, *arguments)
        if space.is_application_data:
            for size, number in arrived.items():
                if size <= self._datagram_bytes:
                    self._mtu.on_packet_acked(size, number)
        return eliciting

    def _measure_rtt(self, latest: float, ack_delay: float, now: float) -> None:
        """Update the round-trip time, as aioquic does (RFC 9002 section 5.3)."""
        self._rtt_latest = max(latest, K_GRANULARITY)
        self._rtt_min = min(self._rtt_min, self._rtt_latest)
        if self._rtt_latest > self._rtt_min + ack_delay:
            self._rtt_latest -= ack_delay
        if self._rtt_initialized:
            self._rtt_variance = 3 / 4 * self._rtt_variance + 1 / 4 * abs(self._rtt_min - self._rtt_latest)
            self._rtt_smoothed = 7 / 8 * self._rtt_smoothed + 1 / 8 * self._rtt_latest
        else:
            self._rtt_first_sample_time = now
            self._rtt_initialized = True
            self._rtt_variance = latest / 2
            self._rtt_smoothed = latest
        self._cc.on_rtt_measurement(now=now, rtt=latest)
        self._pacer.update_rate(congestion_window=self._cc.congestion_window, smoothed_rtt=self._rtt_smoothed)

    def _control(self) -> Any:
        return _CONTROLS[self._congestion](max_datagram_size=self._datagram_bytes)

    def _on_packets_lost(
        self,
        *,
        congestion_event: bool = True,
        now: float,
        packets: Iterable[QuicSentPacket],
        persistent_congestion: bool = False,
        space: QuicPacketSpace,
    ) -> None:
        packets = list(packets)
        if not packets:
            return
        if congestion_event:
            # What is larger than the path is known to carry was a probe, or sent before the path shrank.
            # A probe is the only packet larger than the path is known to carry.
            probes = [one for one in packets if one.sent_bytes > self._datagram_bytes]
            if probes:
                super()._on_packets_lost(congestion_event=False, now=now, packets=probes, space=space)
                packets = [one for one in packets if one.sent_bytes <= self._datagram_bytes]
        for one in packets:
            if one.epoch is Epoch.ONE_RTT:
                self._mtu.on_packet_lost(one.sent_bytes, one.packet_number, now)
        if congestion_event:
            self.packets_lost += len(packets)
        super()._on_packets_lost(
            congestion_event=congestion_event,
            now=now,
            packets=packets,
            persistent_congestion=persistent_congestion,
            space=space,
        )


def _take(sent: dict[int, QuicSentPacket], ranges: Iterable[range]) -> list[QuicSentPacket]:
    """Remove and return the packets whose numbers are in `ranges`, in order; both are ascending."""
    taken: list[QuicSentPacket] = []
    for one in ranges:
        oldest = next(iter(sent), one.stop)
        numbers: Iterable[int] = range(max(one.start, oldest), one.stop)
        if one.stop - oldest > len(sent):  # there are holes: the peer may name far more numbers than are left
            numbers = [number for number in sent if number in one]
        taken += [packet for number in numbers if (packet := sent.pop(number, None)) is not None]
    return taken
