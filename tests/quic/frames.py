"""QUIC frames as bytes (RFC 9000 section 19), lawful or not, and qp2p's messages to put on streams."""

from __future__ import annotations

import os

from aioquic.buffer import encode_uint_var

VARINT_MAX = (1 << 62) - 1
PING = b"\x01"
PADDING = b"\x00"
HANDSHAKE_DONE = b"\x1e"

v = encode_uint_var


def stream(stream_id: int, data: bytes = b"", offset: int = 0, *, fin: bool = False) -> bytes:
    """A STREAM frame with offset and length."""
    return v(0x0E | fin) + v(stream_id) + v(offset) + v(len(data)) + data


def reset_stream(stream_id: int, code: int = 0, final_size: int = 0) -> bytes:
    """A RESET_STREAM frame."""
    return v(0x04) + v(stream_id) + v(code) + v(final_size)


def stop_sending(stream_id: int, code: int = 0) -> bytes:
    """A STOP_SENDING frame."""
    return v(0x05) + v(stream_id) + v(code)


def crypto(data: bytes, offset: int = 0) -> bytes:
    """A CRYPTO frame."""
    return v(0x06) + v(offset) + v(len(data)) + data


def new_token(token: bytes) -> bytes:
    """A NEW_TOKEN frame."""
    return v(0x07) + v(len(token)) + token


def max_data(count: int) -> bytes:
    """A MAX_DATA frame."""
    return v(0x10) + v(count)


def max_stream_data(stream_id: int, count: int) -> bytes:
    """A MAX_STREAM_DATA frame."""
    return v(0x11) + v(stream_id) + v(count)


def max_streams(count: int, *, uni: bool = False) -> bytes:
    """A MAX_STREAMS frame."""
    return v(0x13 if uni else 0x12) + v(count)


def new_connection_id(number: int, cid: bytes, retire_prior_to: int = 0) -> bytes:
    """A NEW_CONNECTION_ID frame with a reset token of chance."""
    return v(0x18) + v(number) + v(retire_prior_to) + bytes([len(cid)]) + cid + os.urandom(16)


def retire_connection_id(number: int) -> bytes:
    """A RETIRE_CONNECTION_ID frame."""
    return v(0x19) + v(number)


def path_challenge(data: bytes | None = None) -> bytes:
    """A PATH_CHALLENGE frame, of chance unless told."""
    return v(0x1A) + (data or os.urandom(8))


def path_response(data: bytes) -> bytes:
    """A PATH_RESPONSE frame."""
    return v(0x1B) + data


def connection_close(code: int = 0, reason: bytes = b"") -> bytes:
    """A CONNECTION_CLOSE frame of the application."""
    return v(0x1D) + v(code) + v(len(reason)) + reason


def ack(*ranges: tuple[int, int], delay: int = 0) -> bytes:
    """An ACK frame of (first, last) packet numbers, the highest range first."""
    (first, last), *rest = ranges
    frame = v(0x02) + v(last) + v(delay) + v(len(rest)) + v(last - first)
    for low, high in rest:
        frame += v(first - high - 2) + v(high - low)
        first = low
    return frame


def streams(count: int, *, uni: bool = False) -> range:
    """The first ids of a client's streams."""
    first = 2 if uni else 0
    return range(first, first + 4 * count, 4)


def message(payload_bytes: int, header: bytes = b"/x", sent: bytes = b"") -> bytes:
    """The head of a message that announces `payload_bytes`, its header, and what of the payload is `sent`."""
    head = b"\x00\x02" + len(header).to_bytes(4, "big") + bytes(4) + payload_bytes.to_bytes(4, "big") + bytes(2)
    return head + header + sent
