"""What a datagram for no known connection is worth: a handshake, a Retry, a refusal, a stateless reset, or nothing.

A spoofed Initial costs its sender nothing and a server two milliseconds and some state. So handshakes for unproven
addresses are rationed; above the ration a stranger must first show, by echoing a token, that it is where it says.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
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

from p2pnet.quic.engine.tls import CID_BYTES
from p2pnet.quic.settings import Settings

VERSIONS = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]
FIRST_CID_BYTES_MIN = 8  # RFC 9000 section 7.2: a client's choice of destination
RESET_TOKEN_BYTES = 16
_RESET_BYTES_MIN = 5 + RESET_TOKEN_BYTES  # RFC 9000 section 10.3: a shorter one is known for what it is
_RESET_BYTES_MAX = 42
_RESETS_PER_S = 100.0  # and as many at once; beyond, the peers' idle timers judge


class Admittance(Enum):
    """What an endpoint's owner may say of a stranger."""

    ACCEPT = "accept"
    RETRY = "retry"
    REFUSE = "refuse"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Admission:
    """A handshake that may begin: the cids its server end must know."""

    destination_cid: bytes
    original_cid: bytes
    retry_cid: bytes | None


class Resets:
    """Stateless resets: how an end that has forgotten a connection says so (RFC 9000 section 10.3)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, cid: bytes) -> bytes:
        """What proves that it was really us who had the connection with this cid."""
        return hmac.digest(self._key, cid, hashlib.sha256)[:RESET_TOKEN_BYTES]

    def answer(self, data: bytes, random_bytes: Callable[[int], bytes]) -> bytes | None:
        """A reset for this short-header datagram; None when it is too short: two ends must not reset each other's."""
        size = min(len(data) - 1, _RESET_BYTES_MAX)
        if data[0] & 0xC0 != 0x40 or size < _RESET_BYTES_MIN:
            return None
        noise = random_bytes(size - RESET_TOKEN_BYTES)
        return bytes([0x40 | noise[0] & 0x3F]) + noise[1:] + self.token(data[1 : 1 + CID_BYTES])


class Ration:
    """So many at once, refilled at so many a second."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._counted_at = 0.0

    def spend(self, now: float) -> bool:
        """Take one; whether there was one left."""
        self._left = min(self._left + (now - self._counted_at) * self._per_s, self._burst)
        self._counted_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Gate:
    """Judges datagrams of strangers. `send` takes the few that it answers by itself.

    `decide(address)` may overrule what would happen to a handshake; `make_room(address)` frees a place among the
    handshakes where all are taken, and says whether it did.
    """

    def __init__(
        self,
        settings: Settings,
        send: Callable[[list[tuple[bytes, Any]]], None],
        *,
        resets: Resets,
        random_bytes: Callable[[int], bytes],
        decide: Callable[[Any], Admittance],
        make_room: Callable[[Any], bool],
    ) -> None:
        self._settings = settings
        self._send = send
        self._resets = resets
        self._random_bytes = random_bytes
        self._decide = decide
        self._make_room = make_room
        self._tokens = QuicRetryTokenHandler()
        self._initials = Ration(settings.initials_per_s, float(settings.initials_burst))
        self._answers = Ration(_RESETS_PER_S, _RESETS_PER_S)
        self.retries = 0
        """Retry packets sent."""
        self.refused = 0
        """Strangers turned away because the endpoint is full."""
        self.resets = 0
        """Stateless resets sent."""

    def judge(self, data: bytes, address: Any, *, now: float, handshakes: int, connections: int) -> Admission | None:
        """Whether this datagram, for no known connection, starts one. `now` is monotonic seconds."""
        header = _header(data)
        if header is None:
            return None
        if header.version is None:
            self._reset(data, address, now)
            return None
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        if header.version not in VERSIONS:
            if header.packet_type is not QuicPacketType.VERSION_NEGOTIATION:
                answer = encode_quic_version_negotiation(header.destination_cid, header.source_cid, list(VERSIONS))
                self._send([(answer, address)])
            return None
        if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < FIRST_CID_BYTES_MIN:
            return None
        return self._judge_initial(header, address, now=now, handshakes=handshakes, connections=connections)

    def _judge_initial(
        self, header: QuicHeader, address: Any, *, now: float, handshakes: int, connections: int
    ) -> Admission | None:
        settings = self._settings
        decision = self._decide(address)
        if decision is Admittance.IGNORE:
            return None
        if decision is Admittance.REFUSE:
            self._refuse(header, address)
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
        elif (
            decision is Admittance.RETRY
            or handshakes >= settings.handshakes_max // 4
            or not self._initials.spend(now)
        ):  # fmt: skip
            self._retry(header, address, now)
            return None
        if connections >= settings.connections_max or (
            handshakes >= settings.handshakes_max and not self._make_room(address)
        ):
            self._refuse(header, address)
            return None
        return Admission(header.destination_cid, original, retry_cid)

    def _reset(self, data: bytes, address: Any, now: float) -> None:
        answer = self._resets.answer(data, self._random_bytes)
        if answer is not None and self._answers.spend(now):
            self.resets += 1
            self._send([(answer, address)])

    def _retry(self, header: QuicHeader, address: Any, now: float) -> None:
        self.retries += 1
        cid = self._random_bytes(CID_BYTES)
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

    def _refuse(self, header: QuicHeader, address: Any) -> None:
        self.refused += 1
        self._close(header, address, QuicErrorCode.CONNECTION_REFUSED)

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
