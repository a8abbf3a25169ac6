"""Control frames: what a 1-RTT packet may hold besides stream data and acknowledgements, and when any of it is due.

Path validation, connection ids, limits, pings, HANDSHAKE_DONE, and the probes of a path's MTU. They are rare, so aioquic's
packet builder writes them; packets without any take the short way (`short.py`). The functions work on the state of the
`PacketTransport` they are given.
"""

# ruff: noqa: SLF001  # the frame writers and pending lists of our own subclass of aioquic's connection

from typing import Any

from aioquic import tls
from aioquic.quic.connection import END_STATES, QuicNetworkPath
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace

from p2pnet.quic.engine.mtu import BASE
from p2pnet.quic.engine.short import Quic


def control_due(quic: Quic) -> bool:
    """Whether any control frame waits to be sent on the path in use; limits (`FlowControl.limits_due`) do not count."""
    path = quic._network_paths[0]
    if (
        quic._probe_pending
        or quic._ping_pending
        or quic.flow.stops_due
        or quic._handshake_done_pending
        or quic._retire_connection_ids
        or path.remote_challenges
        or not path.is_validated
        or not quic._crypto_streams[tls.Epoch.ONE_RTT].sender.buffer_is_empty
    ):
        return True
    return not all([one.was_sent for one in quic._host_cids])  # noqa: C419  # a list of three is faster


def write_control(
    quic: Quic, builder: QuicPacketBuilder, path: QuicNetworkPath, space: QuicPacketSpace, now: float
) -> None:
    """Write the control frames that are due, in aioquic's order. Raises QuicPacketBuilderStop when the packet is full."""
    if path.remote_challenges or not path.is_validated:
        _write_path_validation(quic, builder, path, now)
    if quic._handshake_done_pending:
        quic._write_handshake_done_frame(builder=builder)
        quic._handshake_done_pending = False
    for connection_id in quic._host_cids:
        if not connection_id.was_sent:
            quic._write_new_connection_id_frame(builder=builder, connection_id=connection_id)
    while quic._retire_connection_ids:
        quic._write_retire_connection_id_frame(builder=builder, sequence_number=quic._retire_connection_ids[0])
        quic._retire_connection_ids.pop(0)
    quic.flow.write_limits(builder)
    if quic._ping_pending:
        quic._write_ping_frame(builder, quic._ping_pending)
        quic._ping_pending.clear()
    if quic._probe_pending:
        quic._write_ping_frame(builder, comment="probe")
        quic._probe_pending = False
    crypto_stream = quic._crypto_streams[tls.Epoch.ONE_RTT]
    if not crypto_stream.sender.buffer_is_empty:
        quic._write_crypto_frame(builder=builder, space=space, stream=crypto_stream)


def _write_path_validation(quic: Quic, builder: QuicPacketBuilder, path: QuicNetworkPath, now: float) -> None:
    """PATH_CHALLENGE for a path that is new to us, PATH_RESPONSE for one that is new to the peer."""
    if not (path.is_validated or path.local_challenge_sent):
        quic._write_path_challenge_frame(builder=builder, network_path=path)
        if path.validation_deadline is None:
            # RFC 9000 section 8.2.4: three times the larger of the PTOs of the old path and a new one.
            pto = max(quic._loss.get_probe_timeout(), 2 * quic._configuration.initial_rtt)
            path.validation_deadline = now + 3 * pto
    if path.remote_challenges:
        # RFC 9000 section 8.2.2: a response fills 1,200 bytes, and need not fit the MTU of the path in use.
        builder._buffer_capacity = min(builder._buffer_capacity, BASE)
        builder._flight_capacity = min(builder._flight_capacity, BASE)
    while path.remote_challenges:
        quic._write_path_response_frame(builder=builder, challenge=path.remote_challenges[0])
        path.remote_challenges.popleft()


# The path's MTU


def mtu_probe_due(quic: Quic, now: float) -> bool:
    """Whether a probe of the path's MTU may leave: one is due, and the congestion window has room for it."""
    at = quic.mtu.next_at
    return bool(
        at is not None
        and at <= now
        and quic._handshake_confirmed
        and quic._state not in END_STATES
        and quic._close_event is None
        and quic._network_paths[0].is_validated
        and quic._loss.congestion_window - quic._loss.bytes_in_flight >= quic._max_datagram_size
    )


def probe_mtu(quic: Quic, size: int, now: float) -> list[tuple[bytes, Any]]:
    """One packet of PING and PADDING that fills `size` bytes (RFC 9000 section 14.4)."""
    builder = new_builder(quic, size)
    builder.start_packet(QuicPacketType.ONE_RTT, quic.keys)
    number = builder.packet_number

    def on_delivery(delivery: QuicDeliveryState) -> None:
        if delivery is QuicDeliveryState.ACKED:
            quic.mtu.on_probe_acked(size, number, quic.now)
        else:
            quic.mtu.on_probe_lost(size, number, quic.now)

    builder.start_frame(QuicFrameType.PING, handler=on_delivery)
    builder._datagram_needs_padding = True
    path = quic._network_paths[0]
    datagrams: list[tuple[bytes, Any]] = quic._flush_builder(
        builder=builder, network_path=path, peer_cid=quic._peer_cid.cid, now=now
    )
    return datagrams


def new_builder(quic: Quic, size: int) -> QuicPacketBuilder:
    """Aioquic's builder for one datagram of at most `size` bytes on the path in use."""
    return QuicPacketBuilder(
        host_cid=quic.host_cid,
        is_client=quic._is_client,
        max_datagram_size=size,
        packet_number=quic._packet_number,
        peer_cid=quic._peer_cid.cid,
        quic_logger=quic._quic_logger,
        spin_bit=quic._spin_bit,
        version=quic._version or 0,
    )
