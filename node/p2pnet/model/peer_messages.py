"""What nodes say to each other: routes, the hello that opens a link, and the records of peer exchange.

A hello is a msgpack map; records, questions and answers are msgpack arrays. A record on the wire is an `Envelope` of at most
RECORD_BYTES_MAX bytes: [body, signature, chain]. `body` is a `Record` in msgpack; `signature` is made with the leaf's key
over RECORD_CONTEXT + body (ECDSA with SHA-256, or Ed25519); `chain` is the leaf and its intermediates in DER. The URI that a
record is about is its leaf's and not repeated: nobody can write a record about another node, and long names cost once. Of
two records of one URI the one with the higher (incarnation, sequence) counts.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from p2pnet.model import limits

ROUTE_HELLO = b"/hello"
"""A `Hello`, first on every connection between nodes; the reply is a `Hello`."""
ROUTE_RECORDS = b"/records"
"""Peer exchange under discovery by seeds: a `RecordsRequest` and its `RecordsReply`, on a link."""


def route_update(client: str) -> bytes:
    """Slot updates of a client, see `broadcast.wire`; the reply is one status per update."""
    return b"/" + client.encode() + b"/update"


def route_fetch(client: str) -> bytes:
    """Request for the part list or parts of an artifact; the reply holds them, a bitmap of the parts held, or `gone`."""
    return b"/" + client.encode() + b"/fetch"


def route_synced(client: str) -> bytes:
    """Notice that all of the sender's active slots have been answered on this connection; the reply is empty."""
    return b"/" + client.encode() + b"/synced"


def route_digest(client: str) -> bytes:
    """A digest of the artifact ids held, and some ids listed; the reply is one status per id, or one for all."""
    return b"/" + client.encode() + b"/digest"


def route_stripes(client: str) -> bytes:
    """Shares of artifacts that are being dealt out, see `broadcast.stripes`; the reply is one status per stripe."""
    return b"/" + client.encode() + b"/stripes"


class Hello(msgspec.Struct, frozen=True):
    """The first message of both ends of a link: who, which start of it, which protocol version. The reply is a Hello too."""

    name: str
    incarnation: str
    protocol: int = 2
    registry_version: int = 0
    refused: str = ""
    """In a reply: why there will be no link; empty: there will."""
    dial: str = ""
    """From the side that dialled: random name of this dial."""
    knows: str = ""
    """From the side that dialled: the dial behind its latest link with this peer, which this dial cannot have crossed."""


RECORD_CONTEXT = b"p2pnet record 1\0"
"""Prefix of what is signed: a signature made for another purpose is not valid for a record."""

ASK_BYTES_MAX = 64 * limits.KIB
"""Longest question: RECORDS_MAX names of up to 16 characters with two numbers of 9 bytes each are 40 KiB."""
ANSWER_BYTES_MAX = limits.RECORDS_PER_REPLY * (limits.RECORD_BYTES_MAX + 8) + limits.KIB
"""Longest reply with records."""

Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
"""Below 2^53, so that any JSON or float reader keeps it exactly."""
Address = Annotated[str, Meta(max_length=limits.RECORD_ADDRESS_CHARS_MAX)]


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Where a node can be dialled, as it says itself."""

    incarnation: Count
    """Unix milliseconds of the node's start, or one more than what others hold of it, if that is higher."""
    sequence: Count
    """Grows with every record of an incarnation, from 0."""
    expiry: Count
    """Unix seconds at which the record ends."""
    addresses: Annotated[list[Address], Meta(min_length=1, max_length=limits.RECORD_ADDRESSES_MAX)]
    """`host:port`, the first is dialled first."""

    @property
    def order(self) -> tuple[int, int]:
        """The higher one counts."""
        return (self.incarnation, self.sequence)


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A signed record on the wire; see the module."""

    body: bytes
    signature: bytes
    chain: list[bytes]


class RecordsRequest(msgspec.Struct, frozen=True, array_like=True):
    """The asker's own record, and a request for the Envelopes newer than those in `known`."""

    record: Annotated[bytes, Meta(max_length=limits.RECORD_BYTES_MAX)]
    known: Annotated[dict[str, tuple[Count, Count]], Meta(max_length=limits.RECORDS_MAX)] | None = None
    """(incarnation, sequence) of each record the asker has, by node name, its own included; None: nothing is asked for."""


class RecordsReply(msgspec.Struct, frozen=True, array_like=True):
    """Envelopes the asker did not have; `more`: not all of them fitted."""

    records: Annotated[
        list[Annotated[bytes, Meta(max_length=limits.RECORD_BYTES_MAX)]], Meta(max_length=limits.RECORDS_PER_REPLY)
    ] = []
    more: bool = False
