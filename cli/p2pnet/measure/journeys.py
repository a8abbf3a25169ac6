"""One artifact's journey as a run keeps it: its publication and who got it first when, by which way."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Receipt(NamedTuple):
    """The first validation of an artifact at a node, in any of its incarnations."""

    t_ns: int
    hop: int
    peer: str


@dataclass(slots=True)
class Journey:
    """One artifact: its publication, once known, and its receipts by node (the publisher's own validation among them)."""

    publisher: str = ""
    t_ns: int = 0
    size: int = 0
    published: bool = False
    receipts: dict[str, Receipt] = field(default_factory=dict)
    duplicates: int = 0
    duplicate_bytes: int = 0

    def delivered(self) -> Iterator[tuple[str, Receipt]]:
        """The receipts that count: everybody's but the publisher's."""
        return ((node, receipt) for node, receipt in self.receipts.items() if node != self.publisher)
