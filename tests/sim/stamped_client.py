"""A user's client, for documents that name it as `tests.sim.stamped_client:Stamped`."""

from typing import Any

from p2pnet.broadcast import BlobClient, Bounce


class Stamped(BlobClient):
    """The blob client with settings of its own: it takes no artifact above `most` bytes, and is told whose it is."""

    def __init__(self, *, most: int, node: str) -> None:
        if most < 1:
            raise ValueError(f"most {most}: at least 1 byte")
        self._most = most
        self.node = node

    def bouncer(self, artifact: Any, key: bytes, size: int) -> Bounce:
        return Bounce.UNWANTED if size > self._most and self.node != "node-1" else Bounce.WANTS
