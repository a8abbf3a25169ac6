"""qp2p's message on a stream: a 16-byte version-2 head, then header, destination and payload, then the stream's FIN.

    [0:2] version = 2 · [2:6] header length · [6:10] destination length · [10:14] payload length · [14:16] reserved = 0

All big-endian. The lengths are checked as soon as the head is here, and the payload's again once the header (p2pnet's route) is,
for every route has its own cap: a message that is too large is refused before its bytes have come. Pure: bytes in, a message or
a typed error out.
"""

import struct
from collections.abc import Callable, Sequence

from p2pnet.quic.errors import FrameError, MessageTooLarge

HEAD = struct.Struct(">HIIIH")
HEAD_BYTES = HEAD.size
VERSION = 2
LENGTH_MAX = (1 << 32) - 1
JOIN_BELOW_BYTES = 16 * 1024
"""Payloads up to this size are joined with their head into one piece: a copy costs less than another piece."""
_SMALL_PIECE_BYTES = (
    1024  # smaller pieces are gathered: an attacker could make us keep 40 bytes of object for each byte
)
_GATHER_BYTES = 64 * 1024

Parts = bytes | Sequence[bytes]
"""A payload: one piece, or several that are concatenated on the wire. Pieces that many peers share are not copied for each."""


def encode(
    header: bytes, dst: bytes, payload: Parts, *, empty_payload: bool = True, reply: bool = False
) -> list[bytes]:
    """The pieces of one encoded message, in order; large payload pieces are passed on without a copy.

    Raises MessageTooLarge beyond 4 GiB of one part, FrameError("empty") for an empty payload where that is not allowed. A
    message that is empty altogether never is, but a reply may be where empty payloads are allowed.
    """
    pieces = [payload] if isinstance(payload, bytes) else [bytes(piece) for piece in payload if piece]
    size = sum(map(len, pieces))
    if not size and not (empty_payload and (reply or header or dst)):
        raise FrameError("empty", "a message must have a payload")
    if size > LENGTH_MAX or len(header) > LENGTH_MAX or len(dst) > LENGTH_MAX:
        raise MessageTooLarge(f"a message part of more than {LENGTH_MAX} bytes cannot be framed")
    head = HEAD.pack(VERSION, len(header), len(dst), size, 0) + header + dst
    if size <= JOIN_BELOW_BYTES:
        return [head + b"".join(pieces)]
    return [head, *pieces]


def whole(
    data: bytes, cap: Callable[[bytes], int], *, announced_max: int, header_max: int
) -> tuple[bytes, bytes, bytes] | None:
    """(header, destination, payload) of a message that came in one piece, as nearly every small one does.

    None for one that a MessageReader might refuse: that decides, and raises the right error.
    """
    if len(data) < HEAD_BYTES:
        return None
    version, header_length, dst_length, payload_length, reserved = HEAD.unpack_from(data)
    dst_at = HEAD_BYTES + header_length
    body = dst_at + dst_length
    if version != VERSION or reserved or not payload_length or body + payload_length != len(data):
        return None
    header = data[HEAD_BYTES:dst_at]
    if max(header_length, dst_length) > header_max or payload_length > min(announced_max, cap(header)):
        return None
    return header, data[dst_at:body], data[body:]


class MessageReader:
    """Collects one inbound message from the pieces of its stream; raises as soon as a rule is broken.

    `cap(header)`: the payload bytes allowed once the header is known. `announced_max`: the bound before that.
    """

    __slots__ = (
        "_announced_max", "_cap", "_empty_payload", "_header_max", "_loose", "_pieces", "_reply", "_route_read",
        "dst_length", "header", "header_length", "payload_length", "received", "total",
    )  # fmt: skip

    def __init__(
        self,
        cap: Callable[[bytes], int],
        *,
        announced_max: int,
        header_max: int,
        empty_payload: bool = True,
        reply: bool = False,
    ) -> None:
        self._cap = cap
        self._announced_max = announced_max
        self._header_max = header_max
        self._empty_payload = empty_payload
        self._reply = reply
        self._pieces: list[bytes] = []
        self._loose = bytearray()
        self._route_read = False
        self.received = 0
        self.total = 0
        """Bytes of the whole message with its head; 0 until the head is read."""
        self.header = b""
        self.header_length = self.dst_length = self.payload_length = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream. Raises FrameError or MessageTooLarge, after which nothing more may be fed."""
        self.received += len(data)
        # The first piece is kept as it is: most messages have no other.
        if len(data) >= _SMALL_PIECE_BYTES or not self._pieces:
            if self._loose:
                self._gather()
            self._pieces.append(data)
        else:
            self._loose += data
            if len(self._loose) >= _GATHER_BYTES:
                self._gather()
        # Once both are read, only the length has to be watched.
        if not self._route_read:
            self._check()
        if self.total and self.received > self.total:
            raise FrameError("trailing", f"{self.received - self.total} bytes follow the message")

    def finish(self) -> tuple[bytes, bytes, bytes]:
        """The stream has ended: (header, destination, payload). Raises FrameError when the message is not whole."""
        if self._loose:
            self._gather()
        if not self.total or self.received < self.total:
            announced = self.total or HEAD_BYTES
            raise FrameError("truncated", f"the stream ended after {self.received} of {announced} bytes")
        skip = HEAD_BYTES + self.header_length
        body = skip + self.dst_length
        pieces = self._pieces
        dst = self._front(body)[skip:body] if self.dst_length else b""
        if len(pieces) == 1:
            return self.header, dst, pieces[0][body:]
        # Drop the pieces that held nothing but head, header and destination.
        while body and len(pieces[0]) <= body:
            body -= len(pieces.pop(0))
            if not pieces:
                return self.header, dst, b""
        if body:
            pieces[0] = pieces[0][body:]
        return self.header, dst, b"".join(pieces)

    def _check(self) -> None:
        """Check the head as soon as it is here, and the route's cap as soon as the header is."""
        if not self.total:
            if self.received < HEAD_BYTES:
                return
            self._read_head(self._front(HEAD_BYTES))
        if self.received < HEAD_BYTES + self.header_length:
            return
        self.header = self._front(HEAD_BYTES + self.header_length)[HEAD_BYTES : HEAD_BYTES + self.header_length]
        self._route_read = True
        cap = self._cap(self.header)
        if self.payload_length > cap:
            raise MessageTooLarge(f"{self.payload_length} bytes for {self.header[:64]!r}: its cap is {cap}")

    def _read_head(self, head: bytes) -> None:
        version, self.header_length, self.dst_length, self.payload_length, reserved = HEAD.unpack_from(head)
        if version != VERSION:
            raise FrameError("version", f"message version {version}: only {VERSION} is spoken here")
        if reserved:
            raise FrameError("reserved", f"the reserved bytes hold {reserved:#x} instead of 0")
        if self.header_length > self._header_max or self.dst_length > self._header_max:
            raise MessageTooLarge(
                f"a header of {self.header_length} and a destination of {self.dst_length} bytes: "
                f"at most {self._header_max} each"
            )
        if self.payload_length > self._announced_max:
            raise MessageTooLarge(
                f"{self.payload_length} bytes announced: no route takes more than {self._announced_max}"
            )
        if not self.payload_length and not (
            self._empty_payload and (self._reply or self.header_length or self.dst_length)
        ):
            raise FrameError("empty", "the message has no payload")
        self.total = HEAD_BYTES + self.header_length + self.dst_length + self.payload_length

    def _front(self, count: int) -> bytes:
        """At least the first `count` bytes in one piece."""
        if self._loose:
            self._gather()
        pieces = self._pieces
        if len(pieces[0]) < count:
            held = 0
            for index, piece in enumerate(pieces):
                held += len(piece)
                if held >= count:
                    pieces[: index + 1] = [b"".join(pieces[: index + 1])]
                    break
        return pieces[0]

    def _gather(self) -> None:
        self._pieces.append(bytes(self._loose))
        self._loose.clear()
