"""Users' clients, for documents that name them, like `tests.sim.stamped_client:Stamped`."""

from typing import Any

from p2pnet.broadcast import AddToValidated, BlobClient, Bounce, Change, ChangeAction, PoolView, make_blob


class Stamped(BlobClient):
    """The blob client with settings of its own: it takes no artifact above `most` bytes, and is told whose it is."""

    def __init__(self, *, most: int, node: str) -> None:
        if most < 1:
            raise ValueError(f"most {most}: at least 1 byte")
        self._most = most
        self.node = node

    def bouncer(self, artifact: Any, key: bytes, size: int) -> Bounce:
        return Bounce.UNWANTED if size > self._most and self.node != "node-1" else Bounce.WANTS


class Chatty(BlobClient):
    """Publishes 10 kB by itself, four times a second."""

    tick_s = 0.25

    def __init__(self, *, node: str) -> None:
        self._node = node

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        data = make_blob(self._node, bytes(10_000), int(now * 1e6).to_bytes(16), now, now + 1.0)
        return [*super().on_state_change(changes, pool, now), AddToValidated(data)]
