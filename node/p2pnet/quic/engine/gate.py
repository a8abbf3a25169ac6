"""The gate: how a datagram for no known connection is answered: by a handshake, a Retry, a refusal, a reset, or not at all.

A spoofed Initial costs its sender nothing, and a server two milliseconds and some state. So the rate of handshakes for addresses
that are not validated is limited; above it a client must first echo a token (RFC 9000 section 8.1.2).
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
FIRST_CID_BYTES_MIN = 8
"""The least length of the connection id that a client chooses for the server (RFC 9000 section 7.2)."""
FIXED_BIT = 0x40
"""Set in the first byte of every QUIC packet (RFC 9000 section 17), so that other protocols may share the port (RFC 9443)."""
RESET_TOKEN_BYTES = 16
_RESET_BYTES_MIN = 5 + RESET_TOKEN_BYTES  # RFC 9000 section 10.3: a shorter one does not look like an ordinary packet
_RESET_BYTES_MAX = 42
_RESETS_PER_S = 100.0  # and as many at once; other peers notice by their idle timers


class Admittance(Enum):
    """What `on_incoming` may decide about a client that begins a handshake."""

    ACCEPT = "accept"
    RETRY = "retry"
    REFUSE = "refuse"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Admission:
    """A handshake that may begin, with the connection ids that its server end must know (RFC 9000 section 7.3)."""

    destination_cid: bytes
    original_cid: bytes
    retry_cid: bytes | None


class Resets:
    """Stateless resets, by which an end says that it has forgotten a connection (RFC 9000 section 10.3)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, cid: bytes) -> bytes:
        """The reset token of this connection id: only who has the key can have made it."""
        return hmac.digest(self._key, cid, hashlib.sha256)[:RESET_TOKEN_BYTES]

    def answer(self, data: bytes, random_bytes: Callable[[int], bytes]) -> bytes | None:
        """A reset in answer to a short-header datagram; None if that is too short.

        It is shorter than the datagram, so that two ends cannot answer each other's resets for ever (section 10.3.3).
        """
        size = min(len(data) - 1, _RESET_BYTES_MAX)
        if data[0] & 0xC0 != 0x40 or size < _RESET_BYTES_MIN:
            return None
        padding = random_bytes(size - RESET_TOKEN_BYTES)
        return bytes([0x40 | padding[0] & 0x3F]) + padding[1:] + self.token(data[1 : 1 + CID_BYTES])


class TokenBucket:
    """A rate limit: `burst` at once, refilled at `per_s` a second."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._counted_at = 0.0

    def take(self, now: float) -> bool:
        """Take a token; False if none is left."""
        self._left = min(self._left + (now - self._counted_at) * self._per_s, self._burst)
        self._counted_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Gate:
    """Decides about datagrams that belong to no connection.

    `send` takes the stateless answers. `decide(address)` may overrule what would happen to a handshake. `make_room(address)`
    evicts a pending handshake when there are too many, and returns whether it did.
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
        # Its key is made anew with each start: tokens of an earlier start are refused, and their clients dial again.
        self._tokens = QuicRetryTokenHandler()
        self._initials = TokenBucket(settings.initials_per_s, float(settings.initials_burst))
        self._answers = TokenBucket(_RESETS_PER_S, _RESETS_PER_S)
        self.retries = 0
        """Retry packets sent."""
        self.refused = 0
        """Handshakes refused because the endpoint is full, or `decide` said so."""
        self.resets = 0
        """Stateless resets sent."""

    def judge(self, data: bytes, address: Any, *, now: float, handshakes: int, connections: int) -> Admission | None:
        """The handshake that this datagram may begin; None: it was answered, or ignored.

        `now`: monotonic seconds. `handshakes`, `connections`: how many there are now.
        """
        header = _header(data)
        if header is None:
            return None
        if header.version is None:
            self._reset(data, address, now)
            return None
        # RFC 9000 section 14.1: a client's Initial fills 1,200 bytes, so that answers amplify nothing.
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        # Answered statelessly; never a Version Negotiation in answer to one (RFC 9000 section 6.1).
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
            # Under load everybody must prove an address, before the places run out.
            or handshakes >= settings.handshakes_max // 4
            or not self._initials.take(now)
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
        if answer is not None and self._answers.take(now):
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
        """Close without keeping state: an Initial packet whose keys follow from the client's own connection id."""
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
        # CONNECTION_CLOSE: code, frame type, length of an empty reason.
        buf.push_uint_var(code)
        buf.push_uint_var(QuicFrameType.PADDING)
        buf.push_uint_var(0)
        datagrams, _ = builder.flush()
        self._send([(datagrams[0], address)])


def destination_cid(data: bytes) -> bytes:
    """The connection id that a datagram is for, without parsing the rest; empty if it is too short."""
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
