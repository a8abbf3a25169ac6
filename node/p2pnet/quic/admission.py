"""What a stranger's first packet is worth: a handshake, a Retry, a refusal, or nothing.

A spoofed Initial costs its sender nothing and a server two milliseconds and some state. So handshakes for unproven
addresses are rationed; above the ration a stranger must first show, by echoing a token, that it is where it says.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import Datagram

CID_BYTES = 8  # of all our connection ids
VERSIONS = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]


@dataclass(frozen=True, slots=True)
class Admission:
    """A handshake that may begin: the cids its server end must know."""

    destination_cid: bytes
    original_cid: bytes
    retry_cid: bytes | None


class Gate:
    """Judges Initials. `send` takes the few datagrams it answers by itself."""

    def __init__(self, settings: Settings, send: Callable[[list[Datagram]], None]) -> None:
        self._settings = settings
        self._send = send
        self._tokens = QuicRetryTokenHandler()
        self._allowance = float(settings.initials_burst)
        self._counted_at = 0.0
        self.retries = 0
        """Retry packets sent."""
        self.refused = 0
        """Strangers turned away because the endpoint is full."""

    def judge(self, data: bytes, address: Any, *, now: float, handshakes: int, connections: int) -> Admission | None:
        """Whether this datagram, for no known connection, starts one. `now` is monotonic seconds."""
        header = _header(data)
        if header is None or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        if header.version is not None and header.version not in VERSIONS:
            if header.packet_type is not QuicPacketType.VERSION_NEGOTIATION:
                answer = encode_quic_version_negotiation(header.destination_cid, header.source_cid, list(VERSIONS))
                self._send([(answer, address)])
            return None
        if header.packet_type is not QuicPacketType.INITIAL:
            return None
        original, retry_cid = header.destination_cid, None
        if header.token:
            try:
                original = self._tokens.validate_token(
                    address=address, destination_cid=header.destination_cid, token=header.token, now=now
                )
            except ValueError:
                self._close(header, address, QuicErrorCode.INVALID_TOKEN)
                return None
            retry_cid = header.destination_cid
        elif handshakes >= self._settings.handshakes_max // 4 or not self._spend(now):
            self._retry(header, address, now)
            return None
        if handshakes >= self._settings.handshakes_max or connections >= self._settings.connections_max:
            self.refused += 1
            self._close(header, address, QuicErrorCode.CONNECTION_REFUSED)
            return None
        return Admission(header.destination_cid, original, retry_cid)

    def _spend(self, now: float) -> bool:
        """Take one handshake from the ration, which refills at `initials_per_s`."""
        earned = (now - self._counted_at) * self._settings.initials_per_s
        self._allowance = min(self._allowance + earned, float(self._settings.initials_burst))
        self._counted_at = now
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True

    def _retry(self, header: QuicHeader, address: Any, now: float) -> None:
        self.retries += 1
        cid = os.urandom(CID_BYTES)
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=cid,
            now=now,
        )
        answer = encode_quic_retry(
            version=header.version or VERSIONS[0],
            source_cid=cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._send([(answer, address)])

    def _close(self, header: QuicHeader, address: Any, code: QuicErrorCode) -> None:
        """Close without state: an Initial packet whose keys follow from the stranger's own cid."""
        crypto = CryptoPair()
        version = header.version or VERSIONS[0]
        crypto.setup_initial(cid=header.destination_cid, is_client=False, version=version)
        builder = QuicPacketBuilder(
            host_cid=header.destination_cid,
            is_client=False,
            max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
            peer_cid=header.source_cid,
            version=version,
        )
        builder.start_packet(QuicPacketType.INITIAL, crypto)
        buf = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY)
        buf.push_uint_var(code)
        buf.push_uint_var(QuicFrameType.PADDING)
        buf.push_uint_var(0)
        datagrams, _ = builder.flush()
        self._send([(datagrams[0], address)])


def destination_cid(data: bytes) -> bytes:
    """The cid a datagram is for, without parsing the rest; empty for one too short."""
    if not data:
        return b""
    if not data[0] & 0x80:
        return data[1 : 1 + CID_BYTES]
    return data[6 : 6 + data[5]] if len(data) > 6 else b""


def _header(data: bytes) -> QuicHeader | None:
    try:
        return pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
    except ValueError:  # includes BufferReadError
        return None
