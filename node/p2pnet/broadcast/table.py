"""The receiver's slot table: what each peer says it holds.

A row is replaced only by a greater (connection, commit id), compared in this order. A row without an id is a tombstone: it
keeps a late update from bringing back what its sender already ended. Rows of older connections end at `synced`, or a while
after the connection they came on.
"""

from enum import Enum

import msgspec

from p2pnet.broadcast.artifact import all_parts
from p2pnet.model.ids import ArtifactId

FAILURES_MAX = (
    8  # requests in a row that brought nothing: the source is asked no more, but once for each new announcement
)


class Row(msgspec.Struct, gc=False):
    """One slot of one peer."""

    connection: int
    commit: int
    artifact: ArtifactId | None
    """None: a tombstone."""
    complete: bool


class SupplierState(msgspec.Struct, gc=False):
    """A peer that announces an artifact, in one slot or more. The assembler keeps its view of the peer for this id here."""

    peer: str
    connection: int
    """The connection that `complete_rows` and `have` are of."""
    complete_rows: int
    rows: int
    size: int
    """Encoded bytes, as this peer declared."""
    hop: int
    key: bytes
    have: int
    """Bitmap of the parts it holds, as far as it told."""
    failures: int = 0
    """Requests in a row that brought nothing."""
    not_before: int = 0
    """Monotonic nanoseconds: ask again from then on."""
    closed: bool = False
    """Gave wrong content: not asked again for this id on this connection."""

    @property
    def complete(self) -> bool:
        """Whether it says it holds everything."""
        return self.complete_rows > 0


class PeerRows:
    """The part of one peer."""

    __slots__ = ("connection", "rows", "sources")

    def __init__(self) -> None:
        self.connection = 0
        """The current one; 0: none."""
        self.rows: dict[int, Row] = {}
        self.sources: dict[ArtifactId, SupplierState] = {}


class UpdateVerdict(Enum):
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
        self.holders: dict[ArtifactId, dict[str, SupplierState]] = {}

    def connect(self, peer: str, connection: int) -> None:
        """From now on only this connection counts."""
        self.peers.setdefault(peer, PeerRows()).connection = connection

    def disconnect(self, peer: str, connection: int) -> bool:
        """Whether this was the current connection. Its rows stay for now."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None or peer_rows.connection != connection:
            return False
        peer_rows.connection = 0
        return True

    def is_current(self, peer: str, connection: int) -> bool:
        """Whether this is the peer's connection in use."""
        peer_rows = self.peers.get(peer)
        return peer_rows is not None and peer_rows.connection == connection

    def judge(self, peer_rows: PeerRows, slot: int, commit: int) -> UpdateVerdict:
        """What would become of an update on the current connection."""
        row = peer_rows.rows.get(slot)
        if row is not None:
            newer = (peer_rows.connection, commit) > (row.connection, row.commit)
            return UpdateVerdict.REPLACES if newer else UpdateVerdict.STALE
        return UpdateVerdict.NEW if slot < self._limit else UpdateVerdict.LIMIT

    def put(
        self,
        peer: str,
        slot: int,
        commit: int,
        artifact: ArtifactId | None,
        *,
        have: int | None,
        size: int,
        hop: int,
        key: bytes = b"",
    ) -> ArtifactId | None:
        """Apply an update on the current connection that is not stale; the id of the row it ended, if any."""
        peer_rows = self.peers[peer]
        connection = peer_rows.connection
        old = peer_rows.rows.get(slot)
        peer_rows.rows[slot] = Row(connection, commit, artifact, have is None)
        if artifact is not None:  # first add, then remove: the same id again must not end its task
            source = peer_rows.sources.get(artifact)
            if source is None:
                source = SupplierState(peer, connection, 0, 0, size, hop, key, 0)
                peer_rows.sources[artifact] = source
                self.holders.setdefault(artifact, {})[peer] = source
            elif source.connection != connection:
                source.connection, source.complete_rows, source.have = connection, 0, 0
                source.closed, source.failures = False, 0
            source.size, source.hop, source.key, source.not_before = size, hop, key, 0
            source.failures = min(source.failures, FAILURES_MAX - 1)
            source.have = all_parts(size) if have is None else source.have | have
            source.rows += 1
            source.complete_rows += have is None
        return None if old is None else self._end(peer, peer_rows, old)

    def holds(self, peer: str, artifact: ArtifactId) -> bool:
        """Whether a row of the peer's current connection, marked complete, has this id."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return False
        source = peer_rows.sources.get(artifact)
        return source is not None and source.complete_rows > 0 and source.connection == peer_rows.connection

    def older_rows(self, peer: str) -> list[int]:
        """Slots of the rows and tombstones that came on other connections than the current one; all, if there is none."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        return [slot for slot, row in peer_rows.rows.items() if row.connection != peer_rows.connection]

    def end_older(self, peer: str) -> list[ArtifactId]:
        """End the rows and tombstones of connections that are no more, and forget a peer that is away; the ids they had."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        ended = [self._end(peer, peer_rows, peer_rows.rows.pop(slot)) for slot in self.older_rows(peer)]
        if not peer_rows.connection and not peer_rows.rows:
            del self.peers[peer]
        return [artifact for artifact in ended if artifact is not None]

    def end_all(self, peer: str) -> list[ArtifactId]:
        """End all rows of a peer, connected or not; the ids they had."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        ended = [self._end(peer, peer_rows, peer_rows.rows.pop(slot)) for slot in list(peer_rows.rows)]
        if not peer_rows.connection:
            del self.peers[peer]
        return [artifact for artifact in ended if artifact is not None]

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
