"""The receiver's slot table: what each peer says it holds, one row per peer and slot.

A row is replaced only by a greater (connection, commit id), compared in this order. A row without an artifact is a tombstone:
it keeps a late update from bringing back what its sender has ended. Rows of older connections end at `synced`, or a while after
the connection they came on.
"""

from collections.abc import Iterable
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

    __slots__ = ("connection", "rows")

    def __init__(self) -> None:
        self.connection = 0
        """Id of the current connection; 0: none."""
        self.rows: dict[int, Row] = {}
        """By slot."""

    def artifacts(self) -> list[ArtifactId]:
        """The artifacts that its rows announce, each once."""
        return list(dict.fromkeys(row.artifact for row in self.rows.values() if row.artifact is not None))


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
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            peer_rows = self.peers[peer] = PeerRows()
        peer_rows.connection = connection

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

    def put(  # noqa: PLR0917 - called for every update, where keywords cost
        self,
        peer: str,
        slot: int,
        commit: int,
        artifact: ArtifactId | None,
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
        connection, complete = peer_rows.connection, have is None
        old = peer_rows.rows.get(slot)
        peer_rows.rows[slot] = Row(connection, commit, artifact, complete)
        if artifact is not None:  # add before removing: the same artifact again must not end its task
            holders = self.holders.get(artifact)
            if holders is None:
                holders = self.holders[artifact] = {}
            source = holders.get(peer)
            if source is None:
                parts = all_parts(size) if have is None else have
                holders[peer] = SupplierState(peer, connection, complete, 1, size, hop, key, parts, origin)
            else:
                _announce_again(source, connection, have, size, hop, key, origin)
        return None if old is None else self._end(peer, old)

    def source(self, peer: str, artifact: ArtifactId) -> SupplierState | None:
        """What is known of a peer as a source of this artifact; None: no row of it announces the artifact."""
        holders = self.holders.get(artifact)
        return None if holders is None else holders.get(peer)

    def holds(self, peer: str, artifact: ArtifactId) -> bool:
        """Whether a row of the peer's current connection announces this artifact as complete."""
        holders = self.holders.get(artifact)
        source = None if holders is None else holders.get(peer)
        return source is not None and source.complete_rows > 0 and source.connection == self.peers[peer].connection

    def lack(self, peers: Iterable[str], artifact: ArtifactId) -> list[str]:
        """Those of some peers for which `holds` is false."""
        holders = self.holders.get(artifact)
        return [peer for peer in peers if holders is None or peer not in holders or not self.holds(peer, artifact)]

    def older_rows(self, peer: str) -> list[int]:
        """Slots of the rows and tombstones of other connections than the current one; all, if there is none."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None or not peer_rows.rows:
            return []
        return [slot for slot, row in peer_rows.rows.items() if row.connection != peer_rows.connection]

    def end_older(self, peer: str) -> list[ArtifactId]:
        """End the rows and tombstones of older connections, and forget a peer without any; the artifacts they announced."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        ended = [self._end(peer, peer_rows.rows.pop(slot)) for slot in self.older_rows(peer)]
        if not peer_rows.connection and not peer_rows.rows:
            del self.peers[peer]
        return [artifact for artifact in ended if artifact is not None]

    def end_all(self, peer: str) -> list[ArtifactId]:
        """End all rows of a peer, connected or not; the artifacts they announced."""
        peer_rows = self.peers.get(peer)
        if peer_rows is None:
            return []
        ended = [self._end(peer, peer_rows.rows.pop(slot)) for slot in list(peer_rows.rows)]
        if not peer_rows.connection:
            del self.peers[peer]
        return [artifact for artifact in ended if artifact is not None]

    def _end(self, peer: str, row: Row) -> ArtifactId | None:
        artifact = row.artifact
        if artifact is None:
            return None
        holders = self.holders[artifact]
        source = holders[peer]
        source.rows -= 1
        if row.complete and row.connection == source.connection:
            source.complete_rows -= 1
        if not source.rows:
            del holders[peer]
            if not holders:
                del self.holders[artifact]
        return artifact


def _announce_again(  # noqa: PLR0917 - as `put`
    source: SupplierState, connection: int, have: int | None, size: int, hop: int, key: bytes, origin: int
) -> None:
    if source.connection != connection:
        # What it said on an older connection may not hold any more.
        source.connection, source.complete_rows, source.have = connection, 0, 0
        source.closed, source.failures = False, 0
    source.size, source.hop, source.key, source.origin, source.not_before = size, hop, key, origin, 0
    # One more attempt: an announcement is a promise to serve.
    source.failures = min(source.failures, FAILURES_MAX - 1)
    source.have = all_parts(size) if have is None else source.have | have
    source.rows += 1
    source.complete_rows += have is None
