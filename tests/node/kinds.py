"""One test client that its settings make into many: importable by node processes, with no other test in sight."""

import threading
import time
from typing import Any

from p2pnet.broadcast import Bounce, Change, ChangeAction, Inspected
from p2pnet.broadcast.pool import ChangeKind, MoveToValidated, PoolView
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId

NONCE_BYTES = 16
SLEEP, SPIN, RAISE = b"sleep", b"spins", b"raise"
"""A payload that begins so makes its publisher, and whoever judges it, do so."""


class Kind:
    """`key` stands in every artifact, `sizes` bounds a payload in bytes, `push` is urgency, `work_ms` is spent on each."""

    name = "kind"
    tick_s = None

    def __init__(
        self, *, key: str, sizes: dict[str, int], push: bool = False, relay: str | None = None, work_ms: float = 0.0
    ) -> None:
        self.key, self.push, self._relay, self.work_ms = key.encode(), push, relay, work_ms
        self.least, self.most = sizes["least"], sizes["most"]
        self.loop_thread = threading.get_ident()

    def make(self, name: str, data: bytes, *, nonce: bytes, now: float, keep_s: float) -> bytes:
        return bytes([len(self.key)]) + self.key + nonce + data

    def inspect(self, data: bytes) -> Inspected:
        start = 1 + data[0] + NONCE_BYTES if data else 0
        if not 0 < start <= len(data) or data[1 : 1 + data[0]] != self.key:
            raise MalformedError("another kind")
        return Inspected(size=len(data) - start, key=self.key, start=start)

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        assert threading.get_ident() != self.loop_thread
        actions: list[ChangeAction] = []
        for change in changes:
            section = pool.unvalidated if change.kind is ChangeKind.INSERTED else pool.validated
            found = section.get(change.artifact)
            if found is None:
                continue
            word = bytes(found.user_bytes[: len(SLEEP)])
            if word == SLEEP:
                time.sleep(3600)
            while word == SPIN:
                pass
            if word == RAISE:
                raise RuntimeError("as it was asked to")
            if self.work_ms:
                time.sleep(self.work_ms / 1000)
            assert self.least <= found.size <= self.most
            if section is pool.unvalidated:
                actions.append(MoveToValidated(found.id))
        return actions

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        return Bounce.WANTS if key in (b"", self.key) else Bounce.UNWANTED

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        return self.push

    def relay(self, artifact: ArtifactId, key: bytes) -> Any:
        return self._relay
