"""The receiver's slot table: what each peer says it holds.

A row is replaced only by a greater (connection, commit id), compared in this order. A row without an id is a tombstone: it
keeps a late update from bringing back what its sender already ended. Rows of older connections end at `synced`.
"""

from enum import Enum
from itertools import islice

import msgspec

from p2pnet.model.ids import ArtifactId


class Row(msgspec.Struct, gc=False):
    """One slot of one peer."""

    connection: int
    commit: int
    artifact: ArtifactId | None
    """None: a tombstone."""
    complete: bool


class Source(msgspec.Struct, gc=False):
    """A peer that announces an artifact, in one slot or more. Fetching keeps its view of the peer for this id here."""

    peer: str
    connection: int
    """The connection that `complete_rows` counts."""
    complete_rows: int
    rows: int
    size: int
    """Encoded bytes, as this peer declared."""
    hop: int
    failures: int = 0
    not_before: int = 0
    """Monotonic nanoseconds: ask again from then on."""
    gone: bool = False
    """Has it no more, until it announces it again."""
    closed: bool = False
    """Gave wrong content: not asked again for this id on this connection."""


class PeerRows:
    """The part of one peer."""

    __slots__ = ("connection", "rows", "sources")

    def __init__(self) -> None:
        self.connection = 0
        """The current one; 0: none."""
        self.rows: dict[int, Row] = {}
        self.sources: dict[ArtifactId, Source] = {}


class Verdict(Enum):
    """What the table says to an update before it is applied."""

    NEW = "new"
    REPLACES = "replaces"
    STALE = "stale"
    LIMIT = "limit"


class Table:
    """Rows by (peer, slot), and by artifact the peers that announce it."""

    __slots__ = ("_limit", "holders", "peers")

    def __init__(self, slots_per_peer: int) -> None:
        self._limit = slots_per_peer
        self.peers: dict[str, PeerRows] = {}
        self.holders: dict[ArtifactId, dict[str, Source]] = {}

    def connect(self, peer: str, connection: int) -> None:
        """From now on only this connection counts."""
        self.peers.setdefault(peer, PeerRows()).connection = connection

    def disconnect(self, peer: str, connection: int) -> bool:
        """Whether this was the current connection. Its rows stay."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None or peer_rows.connection != connection:
            return False
        peer_rows.connection = 0
        return True

    def is_current(self, peer: str, connection: int) -> bool:
        """Whether this is the peer's connection in use."""
        peer_rows = self.peers.get(peer)
        return peer_rows is not None and peer_rows.connection == connection

    def judge(self, peer_rows: PeerRows, slot: int, commit: int) -> Verdict:
        """What would become of an update on the current connection."""
        row = peer_rows.rows.get(slot)
        if row is not None:
            newer = (peer_rows.connection, commit) > (row.connection, row.commit)
            return Verdict.REPLACES if newer else Verdict.STALE
        return Verdict.NEW if slot < self._limit else Verdict.LIMIT

    def put(
        self, peer: str, slot: int, commit: int, artifact: ArtifactId | None, *, complete: bool, size: int, hop: int
    ) -> ArtifactId | None:
        """Apply an update on the current connection that is not stale; the id of the row it ended, if any."""
        peer_rows = self.peers[peer]
        connection = peer_rows.connection
        old = peer_rows.rows.get(slot)
        peer_rows.rows[slot] = Row(connection, commit, artifact, complete)
        if artifact is not None:  # first add, then remove: the same id again must not end its task
            source = peer_rows.sources.get(artifact)
            if source is None:
                source = Source(peer, connection, 0, 0, size, hop)
                peer_rows.sources[artifact] = source
                self.holders.setdefault(artifact, {})[peer] = source
            else:
                self._refresh(source, connection, size, hop)
            source.rows += 1
            source.complete_rows += complete
        return None if old is None else self._end(peer, peer_rows, old)

    def holds(self, peer: str, artifact: ArtifactId) -> bool:
        """Whether a row of the peer's current connection, marked complete, has this id."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return False
        source = peer_rows.sources.get(artifact)
        return source is not None and source.complete_rows > 0 and source.connection == peer_rows.connection

    def synced(self, peer: str) -> list[ArtifactId]:
        """End the rows and tombstones of the peer's older connections; the ids they had."""
        peer_rows = self.peers[peer]
        old = [slot for slot, row in peer_rows.rows.items() if row.connection < peer_rows.connection]
        return self._end_all(peer, peer_rows, old)

    def drop(self, peer: str) -> list[ArtifactId]:
        """End all rows of a peer and, unless it is connected, forget it; the ids they had."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        ended = self._end_all(peer, peer_rows, list(peer_rows.rows))
        if not peer_rows.connection:
            del self.peers[peer]
        return ended

    def rows(self, peer: str) -> int:
        """How many rows, tombstones too."""
        peer_rows = self.peers.get(peer)
        return 0 if peer_rows is None else len(peer_rows.rows)

    def announced(self, peer: str, most: int) -> list[ArtifactId]:
        """At most so many ids of a peer."""
        peer_rows = self.peers.get(peer)
        return [] if peer_rows is None else list(islice(peer_rows.sources, most))

    @staticmethod
    def _refresh(source: Source, connection: int, size: int, hop: int) -> None:
        """A peer announces an id again: what it says now counts."""
        if source.connection != connection:
            source.connection = connection
            source.complete_rows = 0
            source.closed = False
        source.size, source.hop, source.not_before, source.gone = size, hop, 0, False

    def _end(self, peer: str, peer_rows: PeerRows, row: Row) -> ArtifactId | None:
        artifact = row.artifact
        if artifact is None:
            return None
        source = peer_rows.sources[artifact]
        source.rows -= 1
        if row.complete and row.connection == source.connection:
            source.complete_rows -= 1
        if not source.rows:
            del peer_rows.sources[artifact]
            holders = self.holders[artifact]
            del holders[peer]
            if not holders:
                del self.holders[artifact]
        return artifact

    def _end_all(self, peer: str, peer_rows: PeerRows, slots: list[int]) -> list[ArtifactId]:
        ended = [self._end(peer, peer_rows, peer_rows.rows.pop(slot)) for slot in slots]
        return [artifact for artifact in ended if artifact is not None]
