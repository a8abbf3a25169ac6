"""What `peers` keeps about connections: strangers that have not said hello, and the links that have."""

import logging
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Protocol

from p2pnet.model import limits
from p2pnet.peering.clock import NS
from p2pnet.peering.dial_policy import Candidate
from p2pnet.quic import CloseCode, CloseReason, Connection, Message

EARLY_MAX = limits.STREAMS_MAX
"""Messages of a peer that were here before its hello's answer: streams overtake each other."""
STRANGERS_PER_PEER = 4
"""Connections of one peer that have not said hello yet."""


ORDERLY = frozenset({CloseCode.DONE, CloseCode.SHUTTING_DOWN, CloseCode.REPLACED, CloseCode.REMOVED, CloseCode.RENEWED})
"""Codes of ends that somebody meant."""

log = logging.getLogger("p2pnet.node")


class LinkLog:
    """Says in the node's log which links are lost and found again. First links are told of together, when all are up."""

    def __init__(self) -> None:
        self._lost_ns: dict[str, int] = {}
        """When links were lost that have not come back."""
        self._whole = False

    def up(self, name: str, now_ns: int, *, links: int, wanted: int) -> None:
        """There is a link with this peer; it makes so many of those wanted."""
        since = self._lost_ns.pop(name, None)
        if since is not None:
            log.info("link with %s is back after %.1f s", name, (now_ns - since) / NS)
        if not self._whole and links >= wanted:
            self._whole = True
            log.info("all %d links are up", wanted)

    def down(self, name: str, reason: CloseReason | None, now_ns: int) -> None:
        """The link has ended."""
        self._lost_ns[name], self._whole = now_ns, False
        orderly = reason is not None and reason.kind in ("local", "application") and reason.code in ORDERLY
        log.log(logging.INFO if orderly else logging.WARNING, "link with %s lost: %s", name, reason or "closed")

    def replaced(self, name: str) -> None:
        """A link took the place of one with a former start of the same node, whose end nobody noticed."""
        log.warning("link with %s lost: it was started again; there is a new one", name)

    def forget(self, wanted: Container[str]) -> None:
        """Of peers that are none any more nothing will come back."""
        for name in [name for name in self._lost_ns if name not in wanted]:
            del self._lost_ns[name]


class PeerListener(Protocol):
    """Who wants to know about links: the node's service."""

    def link_up(self, name: str, connection: Connection) -> None:
        """A link is in use; it may replace a former one of the same peer, for which no `link_down` comes."""

    def link_down(self, name: str, connection: Connection) -> None:
        """The link in use has ended."""

    def peer_message(self, name: str, connection: Connection, message: Message) -> None:
        """A message on the link in use."""


@dataclass(slots=True, eq=False)
class PeerLink:
    """The connection in use with a peer."""

    name: str
    connection: Connection
    candidate: Candidate


@dataclass(slots=True, eq=False)
class PendingConnection:
    """An authenticated connection whose hellos are not through."""

    name: str
    connection: Connection
    since_ns: int
    dial: str = ""
    knows: str = ""
    early: list[Message] = field(default_factory=list)
