"""What nodes say to each other: routes, the hello that opens a link, and records of peer exchange. msgpack."""

from typing import Annotated

import msgspec
from msgspec import Meta

from p2pnet.model import limits

ROUTE_HELLO = b"/hello"
ROUTE_RECORDS = b"/records"
"""Peer exchange under discovery by seeds: a `records.Ask` and its `records.Answer`, on a link."""


def route_update(client: str) -> bytes:
    """Slot updates, as framed by `broadcast.wire`; the answer is one status per update."""
    return b"/" + client.encode() + b"/update"


def route_fetch(client: str) -> bytes:
    """Part list and parts, a bitmap of the parts that are here, or `gone`."""
    return b"/" + client.encode() + b"/fetch"


def route_synced(client: str) -> bytes:
    """All of the sender's active slots have been answered on this connection."""
    return b"/" + client.encode() + b"/synced"


def route_digest(client: str) -> bytes:
    """A digest of the ids held, and ids listed; the answer is one status per id, or one."""
    return b"/" + client.encode() + b"/digest"


class Hello(msgspec.Struct, frozen=True):
    """First words of both ends: who, which start of it, which protocol. The reply is a Hello too, or `refused` says why."""

    name: str
    incarnation: str
    protocol: int = 1
    registry_version: int = 0
    refused: str = ""
    dial: str = ""
    """The dialler's: names this dial, random."""
    knows: str = ""
    """The dialler's: the dial behind the latest link it knows with this peer; such a link cannot have crossed this dial."""


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
