"""Discovery by seeds: what a node says about itself, signed, and how nodes ask each other for it. msgpack arrays.

A record on the wire is an `Envelope` of at most RECORD_BYTES_MAX bytes: [body, signature, chain]. `body` is a `Record` in
msgpack; `signature` is made with the leaf's key over RECORD_CONTEXT + body (ECDSA with SHA-256, or Ed25519); `chain` is
the leaf and its intermediates in DER. The URI a record is about is its leaf's and stands nowhere else: a record about
somebody else than its signer cannot be written, and long names are paid for once. Of two records of one URI the one with
the higher (incarnation, sequence) counts.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from p2pnet.model import limits

RECORD_CONTEXT = b"p2pnet record 1\0"
"""What is signed begins with it: a signature made for anything else is none for a record."""

Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
Address = Annotated[str, Meta(max_length=limits.RECORD_ADDRESS_CHARS_MAX)]


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Where a node is to be found, in its own words."""

    incarnation: Count
    """Unix milliseconds of the node's start, or one more than what others remember of it."""
    sequence: Count
    """Grows with every record of an incarnation, from 0."""
    expiry: Count
    """Unix seconds from which on the record counts no more."""
    addresses: Annotated[list[Address], Meta(min_length=1, max_length=limits.RECORD_ADDRESSES_MAX)]
    """`host:port`, the first is dialled first."""

    @property
    def order(self) -> tuple[int, int]:
        """The higher one counts."""
        return (self.incarnation, self.sequence)


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A record as it travels; see the module."""

    body: bytes
    signature: bytes
    chain: list[bytes]


class RecordsRequest(msgspec.Struct, frozen=True, array_like=True):
    """One's own record, and a question: the Envelopes that are newer than these, by node name. None asks for nothing."""

    record: Annotated[bytes, Meta(max_length=limits.RECORD_BYTES_MAX)]
    known: Annotated[dict[str, tuple[Count, Count]], Meta(max_length=limits.RECORDS_MAX)] | None = None
    """(incarnation, sequence) of what the asker has, its own record included."""


class RecordsReply(msgspec.Struct, frozen=True, array_like=True):
    """Envelopes the asker did not have; `more` when not all fit."""

    records: Annotated[
        list[Annotated[bytes, Meta(max_length=limits.RECORD_BYTES_MAX)]], Meta(max_length=limits.RECORDS_PER_REPLY)
    ] = []
    more: bool = False


ASK_BYTES_MAX = 64 * limits.KIB
"""RECORDS_MAX names of up to 16 characters with two numbers of 9 bytes each are 40 KiB."""
ANSWER_BYTES_MAX = limits.RECORDS_PER_REPLY * (limits.RECORD_BYTES_MAX + 8) + limits.KIB
