"""The short way: reads and writes 1-RTT packets of a confirmed connection without aioquic's parser and builder.

Nearly all packets have a short header and hold only stream data, its limits and acknowledgements. Other frames (`control.py`),
and packets of any other kind, of other paths, or for a qlog, are left to aioquic. These functions take the steps of aioquic's
`receive_datagram`, `_payload_received` and `datagrams_to_send` that apply, in its order, and work on its state.
"""

# ruff: noqa: SLF001  # the state of PacketTransport, our own subclass of aioquic's connection

from typing import Any

from aioquic._crypto import CryptoError
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import StreamFinishedError
from aioquic.tls import Epoch

from p2pnet.quic.engine.flow import ROOM_MIN, violation
from p2pnet.quic.engine.packets import (
    ACK,
    STREAM,
    OnDelivery,
    Sealer,
    SentPacket,
    ack_frame,
    read_ack,
    read_stream_head,
    skip_numbers,
    unseal,
)
from p2pnet.quic.engine.tls import CID_BYTES

Quic = Any
"""A `transport.PacketTransport`, which imports this module and so cannot be named here."""

FLIGHT_PACKETS = 44
"""Packets built before they are handed to the socket: as many as one sendmsg carries."""
FLIGHT_BYTES = 128 * 1024
"""Their bytes: a few sendmsg's worth, so that the peer has something to work on meanwhile."""
ACK_DELAY_S = 0.008
"""How long the acknowledgement of a lone packet may wait; peers are told to expect up to 0.025."""
ACK_PACKETS = 10
"""Packets for which an acknowledgement leaves at once."""
_PING = b"\x01"
_NUMBERS: dict[int, int] = {
    QuicFrameType.PING: 0,
    QuicFrameType.RESET_STREAM: 3,
    QuicFrameType.STOP_SENDING: 2,
    QuicFrameType.MAX_DATA: 1,
    QuicFrameType.MAX_STREAM_DATA: 2,
    QuicFrameType.MAX_STREAMS_BIDI: 1,
    QuicFrameType.MAX_STREAMS_UNI: 1,
}
"""Frame type -> the number of integers it consists of."""


def receive(quic: Quic, data: bytes, now: float) -> None:
    """Handle one datagram that `PacketTransport.takes_short_way_in` has accepted."""
    space = quic.space
    try:
        # Authenticated before anything in it is believed, its number included.
        first, number, payload = unseal(quic.keys, data, 1 + CID_BYTES, space.expected_packet_number)
    except CryptoError:
        return
    # A duplicate: acknowledging it again would tell nothing new.
    if number <= space.largest_received_packet and number in space.received_packets:
        return
    # RFC 9000 section 17.3.1: reserved bits, checked after the packet protection was removed.
    if first & 0x18:
        quic.close(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Reserved bits must be zero")
        return
    if number > space.expected_packet_number:
        space.expected_packet_number = number + 1
    # RFC 9000 section 17.4: the spin bit, for observers of the path.
    if number > quic._spin_highest_pn:
        spin = first & 0x20 != 0
        quic._spin_bit = not spin if quic._is_client else spin
        quic._spin_highest_pn = number
    try:
        eliciting = read_frames(quic, payload, now)
    except QuicConnectionError as error:
        quic.close(error.error_code, error.frame_type, error.reason_phrase)
        return
    if quic._close_event is None:
        _note_received(quic, space, number, now, eliciting=eliciting)


def read_frames(quic: Quic, payload: bytes, now: float) -> bool:
    """Handle the frames of a 1-RTT packet; whether any is ack-eliciting. Raises QuicConnectionError.

    STREAM and ACK are read here. Frames of integers alone, which often come before them, are cut out and left to aioquic one by
    one; from the first frame of any other kind on aioquic reads the rest.
    """
    eliciting = False
    at = 0
    while at < len(payload):
        kind = payload[at]
        if kind & 0xF8 == STREAM:
            eliciting = True
            try:
                stream_id, offset, start, at = read_stream_head(payload, at)
            except IndexError:
                raise _cut_short(kind) from None
            try:
                quic.flow.on_data(kind, stream_id, offset, payload[start:at])
            except StreamFinishedError:
                continue  # a repeated frame of a stream that has finished
        elif kind == ACK:
            at = _take_ack(quic, payload, at, now)
        else:
            stop = _end_of(kind, payload, at)
            eliciting = _leave_to_aioquic(quic, payload[at:stop], now) or eliciting
            at = stop
    return eliciting if payload else _leave_to_aioquic(quic, payload, now)


def _end_of(kind: int, payload: bytes, at: int) -> int:
    """Where a frame of this type ends that starts at `at`; the end of the packet if the type does not tell."""
    numbers = _NUMBERS.get(kind)
    if numbers is None:
        return len(payload)
    try:
        return skip_numbers(payload, at, numbers)
    except IndexError:
        raise _cut_short(kind) from None


def _leave_to_aioquic(quic: Quic, frames: bytes, now: float) -> bool:
    context = QuicReceiveContext(Epoch.ONE_RTT, quic.host_cid, quic._network_paths[0], None, now, None)
    return bool(quic._payload_received(context, frames)[0])


def write(quic: Quic, now: float) -> list[tuple[bytes, Any]]:
    """A flight of packets with due acknowledgements and limits, and stream data as far as window and pacing allow."""
    space, loss, path = quic.space, quic._loss, quic._network_paths[0]
    control, pacer, address = loss._cc, loss._pacer, path.addr
    datagrams: list[tuple[bytes, Any]] = []
    control.app_limited = False
    if not _may_write(quic, space, now):
        return datagrams
    # Once per flight: keys, connection id and spin bit do not change within it.
    sealer = Sealer(quic.keys, quic._peer_cid.cid, spin=quic._spin_bit)
    most = quic._max_datagram_size
    flight = min(FLIGHT_PACKETS, FLIGHT_BYTES // most)
    while True:
        frames: list[bytes] = []
        callbacks: list[OnDelivery] = []
        room = control.congestion_window - control.bytes_in_flight
        room = (most if room > most else room) - sealer.overhead  # noqa: FURB136  # min() takes its time
        eliciting = False
        if space.ack_at is not None:  # an acknowledgement goes with whatever leaves: that saves a timer and a packet
            eliciting = _add_ack(quic, space, frames, callbacks, now)
            room -= sum(map(len, frames))
        acks = len(callbacks)
        if not datagrams or quic.flow.widened:
            room = quic.flow.fill_limits(room, frames, callbacks)
        quic.sending.fill(room, frames, callbacks)
        if not frames:
            break
        eliciting = eliciting or len(callbacks) > acks
        number = quic._packet_number
        data = sealer.seal(number, b"".join(frames))
        quic._packet_number = number + 1
        packet: Any = SentPacket(number, len(data), now, callbacks, eliciting=eliciting)
        loss.on_packet_sent(packet=packet, space=space)
        # Not on short paths, where pacing is off.
        if pacer.packet_time is not None:
            pacer.update_after_send(now=now)
        datagrams.append((data, address))
        path.bytes_sent += len(data)
        # RFC 9000 section 10.1: the first ack-eliciting packet since something was received restarts the idle timer.
        if eliciting and not quic._ack_eliciting_sent_since_receipt:
            quic._close_at = now + quic._idle_timeout()
            quic._ack_eliciting_sent_since_receipt = True
        if not _may_write(quic, space, now):
            break
        if len(datagrams) >= flight:
            quic.has_more = True
            break
    return datagrams


def _may_write(quic: Quic, space: QuicPacketSpace, now: float) -> bool:
    """Whether there is anything to send that window and pacing allow; notes when pacing will allow it."""
    if space.ack_at is not None and space.ack_at <= now:
        return True
    control = quic._loss._cc
    room = control.congestion_window - control.bytes_in_flight
    if not (quic.sending.queues or quic.flow.limits_due()):
        # Nothing more to send although the window has room: it must not grow now (RFC 9002 section 7.8).
        control.app_limited = room >= quic._max_datagram_size
        return False
    if room < ROOM_MIN:
        return False
    pacer = quic._loss._pacer
    if pacer.packet_time is None:
        return True
    quic._pacing_at = pacer.next_send_time(now=now)
    return quic._pacing_at is None


def _add_ack(quic: Quic, space: QuicPacketSpace, frames: list[bytes], callbacks: list[OnDelivery], now: float) -> bool:
    """Add an ACK frame; whether a PING goes with it, so that the peer acknowledges it and old ranges can be dropped."""
    delay = int((now - (space.largest_received_time or now)) * 1_000_000) >> quic._local_ack_delay_exponent
    frames.append(ack_frame(space.ack_queue, delay))
    callbacks.append((quic._on_ack_delivery, (space, space.largest_received_packet)))
    space.ack_at = None
    if len(space.ack_queue) > 1 and quic._packet_number % 8 == 0:
        frames.append(_PING)
        return True
    return False


def _take_ack(quic: Quic, payload: bytes, at: int, now: float) -> int:
    """Handle the ACK frame at `at`; where it ends."""
    try:
        ranges, delay, at = read_ack(payload, at)
    except IndexError:
        raise _cut_short(ACK) from None
    except ValueError as error:
        raise violation(QuicErrorCode.FRAME_ENCODING_ERROR, ACK, str(error)) from error
    quic.check_acknowledged(ACK, ranges[-1].stop - 1)
    # Any acknowledged 1-RTT packet proves it (RFC 9002 section 6.2.2.1).
    quic._loss.peer_completed_address_validation = True
    quic._loss.on_ack_received(
        ack_rangeset=ranges,
        ack_delay=(delay << quic._remote_ack_delay_exponent) / 1_000_000,
        now=now,
        space=quic.space,
    )
    return at


def _note_received(quic: Quic, space: QuicPacketSpace, number: int, now: float, *, eliciting: bool) -> None:
    if quic.heard_at != now:  # once per loop turn
        quic.heard_at = now
        quic._close_at = now + quic._idle_timeout()
    quic._ack_eliciting_sent_since_receipt = False
    before = space.largest_received_packet
    if number > before:
        space.largest_received_packet = number
        space.largest_received_time = now
    # Ranges of numbers: what an ACK frame is written from.
    space.ack_queue.add(number)
    space.received_packets.add(number)
    # The oldest range is dropped: a peer that skips numbers must not make the frame grow without end.
    if len(space.ack_queue) > MAX_ACK_RANGES:
        space.ack_queue.shift()
    if eliciting:
        _plan_ack(quic, space, now, in_order=number == before + 1)


def _plan_ack(quic: Quic, space: QuicPacketSpace, now: float, *, in_order: bool) -> None:
    """Plan when to acknowledge, if no packet leaves before with which the acknowledgement can go (RFC 9000 section 13.2).

    A lone packet can wait: the application's answer will often leave first. Several wait as long as in aioquic, but at most
    ACK_PACKETS of them; a packet out of order is acknowledged at once, for others may be lost.
    """
    if space.ack_at is None:
        quic.unacknowledged = 0
        space.ack_at = now + ACK_DELAY_S
    quic.unacknowledged += 1
    if not in_order or quic.unacknowledged >= ACK_PACKETS:
        space.ack_at = min(space.ack_at, now)
    elif quic.unacknowledged > 1:
        space.ack_at = min(space.ack_at, now + quic._ack_delay)


def _cut_short(frame_type: int) -> QuicConnectionError:
    return violation(QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "Failed to parse frame")
