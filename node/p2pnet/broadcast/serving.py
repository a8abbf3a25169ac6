"""Answers to peers' fetches: the part list and parts of what this node holds, whole or in part."""

from p2pnet.broadcast.artifact import all_parts, part_count, part_numbers
from p2pnet.broadcast.assembler import Assembler
from p2pnet.broadcast.context import Context
from p2pnet.broadcast.pool import Pool
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.stripes import cut_leaves
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.wire import decode_fetch, encode_gone, encode_have, encode_leaves, encode_parts
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

SHARED_ABOVE_PARTS = 2
"""Artifacts of more parts are given out in shares, different ones to each asker; smaller ones whole."""


class PartServer:
    """Serves the validated pool, and of artifacts that are announced in part whatever has arrived of them."""

    __slots__ = ("_assembler", "_context", "_pool", "_sender", "_table")

    def __init__(self, context: Context, table: Table, pool: Pool, sender: Sender, assembler: Assembler) -> None:
        self._context = context
        self._table = table
        self._pool = pool
        self._sender = sender
        self._assembler = assembler

    def answer(self, peer: str, body: bytes) -> list[bytes]:
        """The encoded answer to a peer's fetch, in pieces; a malformed request is answered `gone`."""
        try:
            request = decode_fetch(body)
        except MalformedError:
            return encode_gone()
        artifact = request.artifact
        offered = artifact in self._sender.active
        self._sender.asked(peer, artifact)
        found = self._pool.get(artifact) or (self._pool.unvalidated.get(artifact) if offered else None)
        task = self._assembler.tasks.get(artifact) if offered and found is None else None
        if found is not None:
            size, parts, have = len(found.data), found.parts, all_parts(len(found.data))
        elif task is not None and task.part_list:
            size, parts, have = task.size, task.part_list, task.here
        else:
            return encode_gone()
        if request.leaves and have >> request.parts[0] & 1:
            self._context.count("fetches_served")
            number = request.parts[0]
            if task is not None:
                content = bytes(task.parts[number] or b"")
            else:
                content = (found.data if found is not None else b"")[number * PART_BYTES : (number + 1) * PART_BYTES]
            return encode_leaves(cut_leaves(artifact, number, content, request.leaves))
        if request.parts:
            numbers = [number for number in request.parts if have >> number & 1]
            parts = b""
        else:
            numbers = self._choose(artifact, size, have, request.most)
        if not numbers and not parts:
            return encode_have(have, size)
        self._context.count("fetches_served")
        self._context.count("parts_served", len(numbers))
        if task is not None:
            return encode_parts(parts, [(n, bytes(task.parts[n] or b"")) for n in numbers])
        data = found.data if found is not None else b""
        return encode_parts(parts, [(n, data[n * PART_BYTES : (n + 1) * PART_BYTES]) for n in numbers])

    def _choose(self, artifact: ArtifactId, size: int, have: int, most: int) -> list[int]:
        """Numbers of the parts that go with the part list, to a peer that has none yet.

        Each asker gets other parts, and so many that all askers together get each part once: then they have something to
        give each other, and the publisher's uplink carries the artifact once instead of once per peer.
        """
        content, count = self._sender.active.get(artifact), part_count(size)
        if content is None:
            return part_numbers(have)[:most]
        holders = self._table.holders.get(artifact, {}).values()
        served = len(content.done.union(source.peer for source in holders if source.complete))
        askers = max(1, len(self._sender.boxes) - served)
        share = min(most, count if count <= SHARED_ABOVE_PARTS else -(-count // askers))
        numbers = part_numbers(have)
        start = next((i for i, number in enumerate(numbers) if number >= content.cursor), 0)
        chosen = (numbers[start:] + numbers[:start])[:share]
        if chosen:
            content.cursor = (chosen[-1] + 1) % count
        return sorted(chosen)
