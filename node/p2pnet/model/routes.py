"""Routes of p2pnet's own traffic between nodes, and the hello that opens it."""

import msgspec

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
