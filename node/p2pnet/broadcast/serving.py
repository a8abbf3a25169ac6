"""Answers to peers' fetches."""

from p2pnet.broadcast.artifact import HASH_BYTES
from p2pnet.broadcast.fetching import Fetcher
from p2pnet.broadcast.pool import Artifact, Pool
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.turn import Turn
from p2pnet.broadcast.wire import FetchKind, FetchStatus, decode_fetch, encode_fetch_answer
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES


class Serving:
    """Reads pool, slots and tasks; changes nothing."""

    __slots__ = ("_fetcher", "_pool", "_sender", "_turn")

    def __init__(self, turn: Turn, pool: Pool, sender: Sender, fetcher: Fetcher) -> None:
        self._turn = turn
        self._pool = pool
        self._sender = sender
        self._fetcher = fetcher

    def answer(self, body: bytes) -> list[bytes]:
        """What a question deserves; a malformed one is about nothing we have."""
        try:
            kind, artifact, part = decode_fetch(body)
        except MalformedError:
            return encode_fetch_answer(FetchStatus.GONE)
        return self._serve(kind, artifact, part)

    def _serve(self, kind: FetchKind, artifact: ArtifactId, part: int) -> list[bytes]:
        """From the validated pool; and of what was offered in part, whatever has arrived."""
        offered = artifact in self._sender.active
        found = self._pool.get(artifact) or (self._pool.unvalidated.get(artifact) if offered else None)
        if found is not None:
            return self._serve_whole(found, kind, part)
        task = self._fetcher.tasks.get(artifact)
        if task is None or not offered:
            return encode_fetch_answer(FetchStatus.NOT_YET if self._is_coming(artifact) else FetchStatus.GONE)
        if kind is FetchKind.PARTS:
            return encode_fetch_answer(FetchStatus.PARTS, task.part_list)
        arrived = task.arrived(part)
        if arrived is None:
            return encode_fetch_answer(FetchStatus.NOT_YET)
        self._turn.counters["fetches_served"] += 1
        return encode_fetch_answer(FetchStatus.PART, bytes(arrived))

    def _serve_whole(self, found: Artifact, kind: FetchKind, part: int) -> list[bytes]:
        if kind is FetchKind.PARTS:
            return encode_fetch_answer(FetchStatus.PARTS, found.parts)
        if part >= len(found.parts) // HASH_BYTES:
            return encode_fetch_answer(FetchStatus.GONE)
        self._turn.counters["fetches_served"] += 1
        data = found.data[part * PART_BYTES : (part + 1) * PART_BYTES]  # a copy only if there are more parts
        return encode_fetch_answer(FetchStatus.PART, data)

    def _is_coming(self, artifact: ArtifactId) -> bool:
        return artifact in self._pool.unvalidated or artifact in self._fetcher.tasks
