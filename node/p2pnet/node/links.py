"""What `peers` keeps about connections: strangers that have not said hello, and the links that have."""

from dataclasses import dataclass, field
from typing import Protocol

from p2pnet.model import limits
from p2pnet.node.dialling import Candidate
from p2pnet.quic import Connection, Message

EARLY_MAX = limits.STREAMS_MAX
"""Messages of a peer that were here before its hello's answer: streams overtake each other."""
STRANGERS_PER_PEER = 4
"""Connections of one peer that have not said hello yet."""


class Listener(Protocol):
    """Who wants to know about links: the node's service."""

    def link_up(self, name: str, connection: Connection) -> None:
        """A link is in use; it may replace a former one of the same peer, for which no `link_down` comes."""

    def link_down(self, name: str, connection: Connection) -> None:
        """The link in use has ended."""

    def peer_message(self, name: str, connection: Connection, message: Message) -> None:
        """A message on the link in use."""


@dataclass(slots=True, eq=False)
class Link:
    """The connection in use with a peer."""

    name: str
    connection: Connection
    candidate: Candidate


@dataclass(slots=True, eq=False)
class Stranger:
    """An authenticated connection whose hellos are not through."""

    name: str
    connection: Connection
    since_ns: int
    dial: str = ""
    knows: str = ""
    early: list[Message] = field(default_factory=list)
