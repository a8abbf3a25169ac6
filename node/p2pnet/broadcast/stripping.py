"""Stripped forms: what a client sends in place of an artifact to peers that likely hold most of what is in it.

The client's `strip` makes the form, from which `assemble` makes the artifact again out of what the receiver holds: as blocks of
the Internet Computer travel with the ids of their messages. The artifact's id comes with the form, so the result is checked, and
a wrong form has a culprit. Pieces that the receiver lacks are fetched from the peer that sent the form, all or nothing: when
that fails in any way, the whole artifact is fetched as ever. Everybody else sees the whole artifact only.
"""

from collections import ChainMap, deque
from collections.abc import Mapping

from p2pnet.broadcast.artifact import artifact_id, part_list
from p2pnet.broadcast.assembler import Assembler
from p2pnet.broadcast.client import ClientCalls, ClientRaisedError
from p2pnet.broadcast.context import Context
from p2pnet.broadcast.effects import Cancel, Fetch
from p2pnet.broadcast.inputs import FetchAnswered
from p2pnet.broadcast.manager import PoolManager
from p2pnet.broadcast.pool import Artifact, Pool
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.wire import FIRST_PARTS_MAX, Entry, decode_whole, encode_first_fetch, next_hop
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

PIECES_MAX = 1_000
"""Pieces fetched for one artifact; with more of them missing the whole is fetched."""
PIECES_AT_ONCE = 4
"""Requests for pieces of one artifact under way at a time."""
ASSEMBLIES_PER_PEER = 4
"""Artifacts whose pieces are fetched from one peer at a time; with the bound above, as many streams as other fetches may use."""
PIECE_TIMEOUT_S = 15.0
"""Seconds until a request for a piece without an answer has failed."""
ROUNDS_MAX = 3
"""How often the client may find pieces missing; then the whole is fetched."""


class PiecesView:
    """The pool as `assemble` sees it: with the pieces that were fetched for this artifact alone."""

    __slots__ = ("unvalidated", "validated")

    def __init__(self, pool: Pool, pieces: dict[ArtifactId, Artifact]) -> None:
        self.validated: Mapping[ArtifactId, Artifact] = pool.validated
        self.unvalidated: Mapping[ArtifactId, Artifact] = ChainMap(pieces, pool.unvalidated)


class Assembly:
    """One artifact being assembled from its stripped form."""

    __slots__ = (
        "artifact",
        "awaited",
        "bytes_left",
        "connection",
        "entry",
        "form",
        "peer",
        "pieces",
        "rounds",
        "wanted",
    )

    def __init__(self, artifact: ArtifactId, peer: str, connection: int, entry: Entry, form: bytes) -> None:
        self.artifact = artifact
        self.peer = peer
        self.connection = connection
        self.entry = entry
        self.form = form
        self.pieces: dict[ArtifactId, Artifact] = {}
        """Those fetched so far."""
        self.bytes_left = entry.size
        """Bytes of pieces that may still come: all of them are in the artifact."""
        self.wanted: deque[ArtifactId] = deque()
        self.awaited: dict[int, ArtifactId] = {}
        """Requests without an answer, by token."""
        self.rounds = 0


class Stripping:
    """The artifacts of one Broadcast that arrive in stripped form."""

    __slots__ = (
        "_assembler", "_calls", "_context", "_manager", "_pool", "_prefix", "_quota", "_requests", "_table",
        "assemblies",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        calls: ClientCalls,
        prefix: bytes,
        pool: Pool,
        *,
        table: Table,
        quota: Quota,
        manager: PoolManager,
        assembler: Assembler,
    ) -> None:
        """`prefix`: of ids, see `artifact.id_prefix`."""
        self._context = context
        self._calls = calls
        self._prefix = prefix
        self._pool = pool
        self._table = table
        self._quota = quota
        self._manager = manager
        self._assembler = assembler
        self.assemblies: dict[ArtifactId, Assembly] = {}
        self._requests: dict[int, Assembly] = {}

    def begin(self, peer: str, connection: int, artifact: ArtifactId, entry: Entry, form: bytes) -> None:
        """Assemble a wanted artifact from its form; its row is in the table, and the peer's quota has room for it."""
        if not self._calls.can_assemble:
            self._assembler.want(artifact)
            return
        self._quota.use(artifact, peer, entry.size)
        self.assemblies[artifact] = assembly = Assembly(artifact, peer, connection, entry, form)
        self._go_on(assembly)

    def answered(self, answered: FetchAnswered) -> bool:
        """Take the answer to a request for a piece; whether it was one."""
        assembly = self._requests.pop(answered.token, None)
        if assembly is None:
            return False
        piece = assembly.awaited.pop(answered.token)
        found = None if answered.body is None else self._read(assembly, piece, answered.body)
        if found is None:
            self._fetch_whole(assembly)
            return True
        assembly.pieces[piece] = found
        if assembly.wanted:
            self._request(assembly)
        elif not assembly.awaited:
            self._go_on(assembly)
        return True

    def disconnect(self, peer: str) -> None:
        """The connection ended: what was to be assembled of the peer's is fetched whole from others."""
        for assembly in [one for one in self.assemblies.values() if one.peer == peer]:
            self._fetch_whole(assembly)

    def drop(self, artifact: ArtifactId) -> None:
        """End an assembly: the artifact is here, or no peer announces it any more. Idempotent."""
        assembly = self.assemblies.pop(artifact, None)
        if assembly is None:
            return
        for token in assembly.awaited:
            del self._requests[token]
            self._context.effects.append(Cancel(token))
        # What has come by another way uses the quota of who delivered it.
        if artifact not in self._pool.unvalidated and artifact not in self._assembler.tasks:
            self._quota.release(artifact)

    # Inside

    def _go_on(self, assembly: Assembly) -> None:
        artifact = assembly.artifact
        if self._pool.holds(artifact) or self._manager.expiry.is_refused(artifact):
            self.drop(artifact)
            return
        try:
            made = self._calls.assemble(assembly.form, PiecesView(self._pool, assembly.pieces))
        except ClientRaisedError:
            self._fetch_whole(assembly)
            return
        if isinstance(made, bytes):
            self._finish(assembly, made)
            return
        missing = [piece for piece in dict.fromkeys(made) if piece not in assembly.pieces]
        assembly.rounds += 1
        asking = sum(bool(one.awaited) and one.peer == assembly.peer for one in self.assemblies.values())
        if not 0 < len(missing) <= PIECES_MAX or assembly.rounds > ROUNDS_MAX or asking >= ASSEMBLIES_PER_PEER:
            self._fetch_whole(assembly)
            return
        assembly.wanted.extend(missing)
        for _ in range(min(PIECES_AT_ONCE, len(missing))):
            self._request(assembly)

    def _request(self, assembly: Assembly) -> None:
        context, piece = self._context, assembly.wanted.popleft()
        token = context.token()
        assembly.awaited[token] = piece
        self._requests[token] = assembly
        context.count("pieces_fetched")
        body = encode_first_fetch(piece, FIRST_PARTS_MAX)
        context.effects.append(Fetch(token, assembly.peer, assembly.connection, body, PIECE_TIMEOUT_S))

    def _read(self, assembly: Assembly, piece: ArtifactId, body: bytes) -> Artifact | None:
        """The piece in an answer; None: it is not there, not whole, or another artifact."""
        try:
            data = decode_whole(body)
            assembly.bytes_left -= len(data)
            if assembly.bytes_left < 0:
                return None
            inspected = self._calls.inspect(data)
        except (MalformedError, ClientRaisedError):
            return None
        parts = part_list(data)
        if artifact_id(self._prefix, inspected.key, len(data), parts) != piece:
            return None
        return Artifact(id=piece, data=data, parts=parts, inspected=inspected, peer=assembly.peer)

    def _finish(self, assembly: Assembly, data: bytes) -> None:
        entry, artifact, peer = assembly.entry, assembly.artifact, assembly.peer
        parts, hop = part_list(data), next_hop(entry.hop)
        if artifact_id(self._prefix, entry.key, len(data), parts) != artifact:
            self._context.emit_about(
                EventKind.REJECTED, artifact, peer, hop, len(data), "its form makes something else"
            )
            self._fetch_whole(assembly)
            return
        self.drop(artifact)
        try:
            inspected = self._manager.inspect(artifact, entry.key, data, peer, hop)
        except ClientRaisedError:
            self._assembler.postpone(artifact)
            return
        if inspected is None:
            return
        self._context.count("assembled")
        delivered = {peer: len(data)}
        self._manager.insert(artifact, data, parts, inspected, peer, hop, delivered, origin=entry.origin)

    def _fetch_whole(self, assembly: Assembly) -> None:
        """It cannot be assembled: fetch it as any other artifact, from whoever announces it."""
        artifact = assembly.artifact
        self.drop(artifact)
        self._context.count("assemblies_failed")
        is_needed = not (self._pool.holds(artifact) or self._manager.expiry.is_refused(artifact))
        if is_needed and artifact in self._table.holders:
            self._assembler.want(artifact)
