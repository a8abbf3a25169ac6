"""The receiver's slot table: what each peer says it holds, one row per peer and slot.

A row is replaced only by a greater (connection, commit id), compared in this order. A row without an artifact is a tombstone:
it keeps a late update from bringing back what its sender has ended. Rows of older connections end at `synced`, or a while after
the connection they came on.
"""

from enum import Enum

import msgspec

from p2pnet.broadcast.artifact import all_parts
from p2pnet.model.ids import ArtifactId

FAILURES_MAX = 8
"""Requests in a row that brought nothing, after which a source is given up; each new announcement earns it one more."""


class Row(msgspec.Struct, gc=False):
    """What one peer says one of its slots holds."""

    connection: int
    commit: int
    artifact: ArtifactId | None
    """None: a tombstone."""
    complete: bool
    """The peer holds all of it."""


class SupplierState(msgspec.Struct, gc=False):
    """One peer as a source of one artifact, which it announces in one slot or more; with the assembler's experience of it."""

    peer: str
    connection: int
    """The connection to which `complete_rows` and `have` belong."""
    complete_rows: int
    """Rows of that connection that announce it as complete."""
    rows: int
    """All rows that announce it."""
    size: int
    """Encoded bytes, as this peer declares."""
    hop: int
    key: bytes
    """The client's key, as this peer declares."""
    have: int
    """Bitmap of the parts it says it holds."""
    origin: int = 0
    """Number of the artifact's publisher, as this peer declares; 0: unknown."""
    failures: int = 0
    """Requests in a row that brought nothing."""
    not_before: int = 0
    """When it may be asked again, in monotonic nanoseconds."""
    closed: bool = False
    """It sent wrong content: not asked again for this artifact on this connection."""

    @property
    def complete(self) -> bool:
        """Whether it says it holds everything."""
        return self.complete_rows > 0


class PeerRows:
    """The rows of one peer."""

    __slots__ = ("connection", "rows", "sources")

    def __init__(self) -> None:
        self.connection = 0
        """Id of the current connection; 0: none."""
        self.rows: dict[int, Row] = {}
        """By slot."""
        self.sources: dict[ArtifactId, SupplierState] = {}
        """By artifact, of those its rows announce."""


class UpdateVerdict(Enum):
    """What an update would do to the table. LIMIT: its slot number is too high."""

    NEW = "new"
    REPLACES = "replaces"
    STALE = "stale"
    LIMIT = "limit"


class Table:
    """The rows of all peers, and for each artifact the peers that announce it."""

    __slots__ = ("_limit", "holders", "peers")

    def __init__(self, slots_per_peer: int) -> None:
        self._limit = slots_per_peer
        self.peers: dict[str, PeerRows] = {}
        self.holders: dict[ArtifactId, dict[str, SupplierState]] = {}
        """By artifact, then by peer."""

    def connect(self, peer: str, connection: int) -> None:
        """Make this the peer's current connection: updates of others are not current any more."""
        self.peers.setdefault(peer, PeerRows()).connection = connection

    def disconnect(self, peer: str, connection: int) -> bool:
        """The connection ended; whether it was the current one. Its rows stay for now."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None or peer_rows.connection != connection:
            return False
        peer_rows.connection = 0
        return True

    def is_current(self, peer: str, connection: int) -> bool:
        """Whether this is the peer's current connection."""
        peer_rows = self.peers.get(peer)
        return peer_rows is not None and peer_rows.connection == connection

    def judge(self, peer_rows: PeerRows, slot: int, commit: int) -> UpdateVerdict:
        """What an update on the current connection would do."""
        row = peer_rows.rows.get(slot)
        if row is not None:
            # Connection ids are local and growing: a restarted sender counts commits from 0 again.
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
        origin: int = 0,
    ) -> ArtifactId | None:
        """Apply an update on the current connection that is not stale; the artifact of the row it replaced, if any.

        `have`: bitmap of the parts the peer holds; None: all.
        """
        peer_rows = self.peers[peer]
        connection = peer_rows.connection
        old = peer_rows.rows.get(slot)
        peer_rows.rows[slot] = Row(connection, commit, artifact, have is None)
        if artifact is not None:  # add before removing: the same artifact again must not end its task
            source = peer_rows.sources.get(artifact)
            if source is None:
                source = SupplierState(peer, connection, 0, 0, size, hop, key, 0)
                peer_rows.sources[artifact] = source
                self.holders.setdefault(artifact, {})[peer] = source
            elif source.connection != connection:
                # What it said on an older connection may not hold any more.
                source.connection, source.complete_rows, source.have = connection, 0, 0
                source.closed, source.failures = False, 0
            source.size, source.hop, source.key, source.origin, source.not_before = size, hop, key, origin, 0
            # One more attempt: an announcement is a promise to serve.
            source.failures = min(source.failures, FAILURES_MAX - 1)
            source.have = all_parts(size) if have is None else source.have | have
            source.rows += 1
            source.complete_rows += have is None
        return None if old is None else self._end(peer, peer_rows, old)

    def holds(self, peer: str, artifact: ArtifactId) -> bool:
        """Whether a row of the peer's current connection announces this artifact as complete."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return False
        source = peer_rows.sources.get(artifact)
        return source is not None and source.complete_rows > 0 and source.connection == peer_rows.connection

    def older_rows(self, peer: str) -> list[int]:
        """Slots of the rows and tombstones of other connections than the current one; all, if there is none."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        return [slot for slot, row in peer_rows.rows.items() if row.connection != peer_rows.connection]

    def end_older(self, peer: str) -> list[ArtifactId]:
        """End the rows and tombstones of older connections, and forget a peer without any; the artifacts they announced."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        ended = [self._end(peer, peer_rows, peer_rows.rows.pop(slot)) for slot in self.older_rows(peer)]
        if not peer_rows.connection and not peer_rows.rows:
            del self.peers[peer]
        return [artifact for artifact in ended if artifact is not None]

    def end_all(self, peer: str) -> list[ArtifactId]:
        """End all rows of a peer, connected or not; the artifacts they announced."""
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
