"""1-RTT packets as bytes, which nearly all packets are (RFC 9000 sections 16, 17.3 and 19.3, RFC 9001 section 5).

aioquic's builder and parser handle all packets, with a hundred calls for each. Here the ciphers are taken out of aioquic's
contexts once per flush, and a packet is joined, encrypted and masked as immutable bytes. Pure: the state of the connection is
the caller's.
"""

# ruff: noqa: SLF001  # the ciphers inside aioquic's contexts; aioquic is pinned to its minor version

from collections.abc import Callable, Sequence
from typing import Any

from aioquic._crypto import CryptoError, HeaderProtection
from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.quic.packet import QuicPacketType, decode_packet_number
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.rangeset import RangeSet
from aioquic.tls import Epoch
from cryptography.exceptions import InvalidTag

TAG_BYTES = 16
"""The same for every AEAD of QUIC v1 and v2."""
NUMBER_BYTES = 2
"""The length of a packet number as it is sent: up to 32,768 packets may be in flight."""
_SAMPLE_AT = 4  # bytes after the start of the packet number (RFC 9001 section 5.4.2)
_SAMPLE_BYTES = 16
ACK = 0x02
STREAM = 0x08  # its three lowest bits: has an offset, has a length, is the last

_ACK_TYPE = bytes((ACK,))

OnDelivery = tuple[Callable[..., None], tuple[Any, ...]]
"""A function, and the arguments it is called with, after the delivery state, when a packet is acknowledged or lost."""


class SentPacket:
    """A packet that was sent, as aioquic's recovery needs it: its QuicSentPacket, but cheaper to make."""

    __slots__ = ("delivery_handlers", "in_flight", "is_ack_eliciting", "packet_number", "sent_bytes", "sent_time")

    epoch = Epoch.ONE_RTT
    packet_type = QuicPacketType.ONE_RTT
    is_crypto_packet = False
    quic_logger_frames = None

    def __init__(
        self, number: int, size: int, sent_time: float, callbacks: list[OnDelivery], *, eliciting: bool
    ) -> None:
        self.packet_number = number
        self.sent_bytes = size
        self.sent_time = sent_time
        self.delivery_handlers = callbacks
        self.in_flight = self.is_ack_eliciting = eliciting


class KeyPair(CryptoPair):
    """aioquic's pair of 1-RTT ciphers, which after a key update still reads what was sent under the old keys.

    aioquic replaces both keys at once, so what the peer sent before it saw the update would be lost; RFC 9001 section 6.3 lets
    an end keep the old ones.
    """

    previous: CryptoContext | None = None

    def _update_key(self, trigger: str) -> None:
        previous = CryptoContext(key_phase=self.recv.key_phase)
        previous.aead, previous.hp = self.recv.aead, self.recv.hp
        super()._update_key(trigger)
        self.previous = previous

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        """As aioquic: the header, frames and number of a packet. Raises CryptoError."""
        previous = self.previous
        if previous is not None and previous.hp is not None and not packet[0] & 0x80:
            header, _ = previous.hp.remove(packet, encrypted_offset)
            if (header[0] >> 2 & 1) == previous.key_phase:
                try:
                    return previous.decrypt_packet(packet, encrypted_offset, expected_packet_number)[:3]
                except CryptoError:  # two updates on, the phase is the same again
                    pass
        return super().decrypt_packet(packet, encrypted_offset, expected_packet_number)


class Sealer:
    """Protects packets with the present keys, for one connection id of the peer's; valid until either changes."""

    __slots__ = ("_cid", "_encrypt", "_first", "_header", "_iv", "_mask", "overhead")

    def __init__(self, crypto: CryptoPair, cid: bytes, *, spin: bool) -> None:
        """Update the keys first if that was requested, as aioquic's pair does."""
        if crypto._update_key_requested:
            crypto._update_key("local_update")
        aead, hp = crypto.send.aead, crypto.send.hp
        if aead is None or hp is None:
            raise RuntimeError("no keys to send with")
        self._first = 0x40 | spin << 5 | crypto.key_phase << 2 | (NUMBER_BYTES - 1)
        self._cid = cid
        self._header = bytes((self._first,)) + cid
        self._encrypt = aead._aead.encrypt
        self._iv = aead._iv
        self._mask = _mask(hp)
        self.overhead = 1 + len(cid) + NUMBER_BYTES + TAG_BYTES
        """Bytes of a packet beside its frames."""

    def seal(self, number: int, payload: bytes) -> bytes:
        """The packet with this number and these frames, at least two bytes: header protection samples them."""
        short = number & 0xFFFF
        header = self._header + short.to_bytes(NUMBER_BYTES, "big")
        sealed = self._encrypt((self._iv ^ number).to_bytes(12, "big"), payload, header)
        mask = self._mask(sealed[2:18])
        short ^= mask[1] << 8 | mask[2]
        return bytes((self._first ^ (mask[0] & 0x1F),)) + self._cid + short.to_bytes(NUMBER_BYTES, "big") + sealed


def unseal(crypto: CryptoPair, data: bytes, at: int, expected: int) -> tuple[int, int, bytes]:
    """The unprotected first byte, the number and the frames of a packet whose number stands at `at`.

    `expected`: the next number expected. A packet under the peer's next keys makes these the present ones. Raises CryptoError
    for a packet that is not the peer's.
    """
    recv = crypto.recv
    aead, hp = recv.aead, recv.hp
    if aead is None or hp is None or len(data) < at + _SAMPLE_AT + _SAMPLE_BYTES:
        raise CryptoError("no keys, or too short to sample")
    sample = data[at + _SAMPLE_AT : at + _SAMPLE_AT + _SAMPLE_BYTES]
    mask = hp._mask(sample) if hp._is_chacha20 else hp._encryptor.update(sample)
    first = data[0] ^ (mask[0] & 0x1F)
    # Another key phase: aioquic derives the next keys, or the pair tries the previous ones.
    if (first >> 2 & 1) != recv.key_phase:
        plain, payload, number = crypto.decrypt_packet(data, at, expected)
        return plain[0], number, payload
    size = (first & 3) + 1
    if size == NUMBER_BYTES:
        short = (data[at] ^ mask[1]) << 8 | (data[at + 1] ^ mask[2])
    else:
        short = int.from_bytes(data[at : at + size], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
    number = decode_packet_number(short, 8 * size, expected)
    header = bytes((first,)) + data[1:at] + short.to_bytes(size, "big")
    try:
        payload = aead._aead.decrypt((aead._iv ^ number).to_bytes(12, "big"), data[at + size :], header)
    except InvalidTag as error:
        raise CryptoError(str(error)) from error
    return first, number, payload


def varint(value: int) -> bytes:
    """A variable-length integer in as few bytes as possible (RFC 9000 section 16)."""
    if value < 1 << 6:
        return value.to_bytes(1, "big")
    if value < 1 << 14:
        return (value | 1 << 14).to_bytes(2, "big")
    if value < 1 << 30:
        return (value | 1 << 31).to_bytes(4, "big")
    return (value | 3 << 62).to_bytes(8, "big")


def ack_frame(ranges: Sequence[range], delay: int) -> bytes:
    """An ACK frame for these packet numbers, lowest range first; `delay` is already scaled by our exponent."""
    last = ranges[-1]
    start = last.start
    if len(ranges) == 1:
        return _ACK_TYPE + varint(last.stop - 1) + varint(delay) + b"\x00" + varint(last.stop - 1 - start)
    parts = [_ACK_TYPE, varint(last.stop - 1), varint(delay), varint(len(ranges) - 1), varint(last.stop - 1 - start)]
    for one in reversed(ranges[:-1]):
        parts += (varint(start - one.stop - 1), varint(one.stop - 1 - one.start))
        start = one.start
    return b"".join(parts)


def put(builder: QuicPacketBuilder, frames: list[bytes], callbacks: list[OnDelivery]) -> None:
    """Write frames, each given as head and data, into the packet of aioquic's builder, in which they must fit."""
    for index, (handler, arguments) in enumerate(callbacks):
        head, data = frames[2 * index], frames[2 * index + 1]
        size = len(head) + len(data)
        buf = builder.start_frame(head[0], capacity=size, handler=handler, handler_args=arguments)
        buf.push_bytes(head[1:])
        buf.push_bytes(data)


def read_varint(payload: bytes, at: int) -> tuple[int, int]:
    """The variable-length integer at `at`, and where it ends, perhaps beyond the payload.

    Raises IndexError if it starts beyond the payload.
    """
    first = payload[at]
    size = 1 << (first >> 6)
    if size == 1:
        return first, at + 1
    return int.from_bytes(payload[at : at + size], "big") & ((1 << 8 * size - 2) - 1), at + size


def read_stream_head(payload: bytes, at: int) -> tuple[int, int, int, int]:
    """The stream id and offset of the STREAM frame at `at`, and where its data starts and stops in the payload.

    Raises IndexError for a frame that is cut short.
    """
    kind, stream_id = payload[at], payload[at + 1]
    at += 2
    if stream_id >= 64:
        stream_id, at = read_varint(payload, at - 1)
    offset = 0
    if kind & 4:
        offset = payload[at]
        if offset & 0xC0 == 0x80:  # mostly four bytes
            at += 4
            offset = int.from_bytes(payload[at - 4 : at], "big") & 0x3FFFFFFF
        else:
            offset, at = read_varint(payload, at)
    if not kind & 2:
        stop = len(payload)
    elif 64 <= (high := payload[at]) < 128:  # mostly two
        at += 2
        stop = at + ((high & 63) << 8 | payload[at - 1])
    else:
        size, at = read_varint(payload, at)
        stop = at + size
    if not at <= stop <= len(payload):
        raise IndexError
    return stream_id, offset, at, stop


def skip_numbers(payload: bytes, at: int, count: int) -> int:
    """Where a frame of a one-byte type and `count` integers ends that starts at `at`, perhaps beyond the payload.

    Raises IndexError for a frame that is cut short.
    """
    at += 1
    for _ in range(count):
        at += 1 << (payload[at] >> 6)
    return at


def read_ack(payload: bytes, at: int) -> tuple[RangeSet, int, int]:
    """The packet numbers and the unscaled delay in the ACK frame at `at`, without ECN counts, and where the frame ends.

    Raises IndexError for a frame that is cut short, ValueError for one that contains a number below zero.
    """
    end, at = read_varint(payload, at + 1)
    delay, at = read_varint(payload, at)
    more, at = read_varint(payload, at)
    count, at = read_varint(payload, at)
    ranges = RangeSet()
    ranges.add(end - count, end + 1)
    for _ in range(more):
        end -= count
        gap, at = read_varint(payload, at)
        end -= gap + 2
        count, at = read_varint(payload, at)
        ranges.add(end - count, end + 1)
    if at > len(payload):
        raise IndexError
    if end - count < 0:
        raise ValueError("ACK range contains a negative packet number")
    return ranges, delay, at


def _mask(hp: HeaderProtection) -> Callable[[bytes], bytes]:
    """The function from sample to mask: one call of the cipher, but for ChaCha20, where the sample is the nonce."""
    return hp._mask if hp._is_chacha20 else hp._encryptor.update
