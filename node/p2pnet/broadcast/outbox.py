"""What a sender knows of one peer on its current connection: how far each slot's update has come.

A slot is, at this peer, in one of these states; an update that changes on the way starts over:

    DUE -> FLYING -> DONE            written; answered ok, have or unwanted
           FLYING -> RETRY -> DUE    lost, busy, limit: 250 ms, doubled to 60 s, endless
           FLYING -> DUE             advertise-instead: as an advert
           FLYING -> GIVEN_UP        malformed: reported
    DUE -> SUPPRESSED -> DUE         the peer holds it (a current, complete row says so); until that row ends
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from p2pnet.broadcast.wire import Status, encode_advert, encode_empty, encode_push
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import UPDATE_BATCH_BYTES


class Next(Enum):
    """What an answer means for an update."""

    DONE = "done"
    RETRY = "retry"
    ADVERT = "advert"
    GIVEN_UP = "given up"


AFTER: dict[int, Next] = {
    Status.OK: Next.DONE,
    Status.HAVE: Next.DONE,
    Status.UNWANTED: Next.DONE,
    Status.ADVERTISE: Next.ADVERT,
    Status.BUSY: Next.RETRY,
    Status.LIMIT: Next.RETRY,
    Status.MALFORMED: Next.GIVEN_UP,
}


class Content:
    """What a slot holds now, and its entries, each encoded once for all peers."""

    __slots__ = (
        "_advert",
        "artifact",
        "audience",
        "commit",
        "complete",
        "hop",
        "push",
        "push_bytes",
        "size",
        "slot",
        "urgent",
    )

    def __init__(
        self,
        slot: int,
        commit: int,
        artifact: ArtifactId | None,
        *,
        data: bytes | None = None,
        size: int = 0,
        hop: int = 0,
        urgent: bool = False,
        complete: bool = True,
        audience: set[str] | None = None,
    ) -> None:
        self.slot = slot
        self.commit = commit
        self.artifact = artifact
        """None: empty."""
        self.size = size
        self.hop = hop
        self.urgent = urgent
        self.complete = complete
        self.audience = audience
        """The peers it is for; None: all."""
        self.push = None if data is None else encode_push(slot, commit, hop, data)
        """The entry with the bytes; None: it is never pushed."""
        self.push_bytes = 0 if self.push is None else sum(map(len, self.push))
        self._advert = b""

    @property
    def advert(self) -> bytes:
        """The entry with the id only, or the empty one."""
        if not self._advert:
            if self.artifact is None:
                self._advert = encode_empty(self.slot, self.commit)
            else:
                self._advert = encode_advert(
                    self.slot, self.commit, self.hop, self.size, self.artifact, complete=self.complete
                )
        return self._advert

    def is_for(self, peer: str) -> bool:
        """Whether this peer is to have it."""
        return self.audience is None or peer in self.audience

    def include(self, peer: str) -> None:
        """It is for this peer too."""
        if self.audience is not None:
            self.audience.add(peer)


class Item(NamedTuple):
    """One update in a request."""

    slot: int
    commit: int
    push: bool


class Batch:
    """One request's worth of entries; shared by all peers that are due the same."""

    __slots__ = ("all_ok", "body", "is_plain", "items", "lone", "slots", "urgent")

    def __init__(self, body: list[bytes], items: list[Item], *, urgent: bool, empties: bool = False) -> None:
        self.body = body
        self.items = items
        self.slots = [item.slot for item in items]
        self.urgent = urgent
        self.lone = len(body) > len(items)
        """A single large push, written in two pieces: worth a reset."""
        self.is_plain = not self.lone and not empties
        """Nothing has to be done when all of it was taken."""
        self.all_ok = bytes(len(items))


def batches(due: Iterable[tuple[int, bool]], contents: dict[int, Content]) -> Iterator[Batch]:
    """The entries of these (slot, push?) in as few requests as the bound on their length allows, in order."""
    body: list[bytes] = []
    items: list[Item] = []
    size, urgent, empties = 0, False, False
    for slot, push in due:
        content = contents[slot]
        pushed = content.push if push else None
        item = Item(slot, content.commit, pushed is not None)
        if pushed is not None and content.push_bytes > UPDATE_BATCH_BYTES:
            yield Batch(pushed, [item], urgent=content.urgent)
            continue
        entry = content.advert if pushed is None else pushed[0]
        if size + len(entry) > UPDATE_BATCH_BYTES:
            yield Batch(body, items, urgent=urgent, empties=empties)
            body, items, size, urgent, empties = [], [], 0, False, False
        body.append(entry)
        items.append(item)
        size += len(entry)
        urgent |= content.urgent
        empties |= content.artifact is None
    if items:
        yield Batch(body, items, urgent=urgent, empties=empties)


class Outbox:
    """One peer, one connection."""

    __slots__ = (
        "attempts",
        "connection",
        "due",
        "flying",
        "lone",
        "owed",
        "peer",
        "reached",
        "suppressed",
        "sync_attempts",
    )

    def __init__(self, peer: str, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.due: dict[int, bool] = {}
        """Slot -> with its bytes, if it may be pushed."""
        self.reached: set[int] = set()
        """Slots of which an update was written: they need an empty when they end."""
        self.suppressed: set[int] = set()
        self.attempts: dict[int, int] = {}
        """Slots whose last attempt failed, and how many did."""
        self.flying = 0
        """Requests without an answer."""
        self.lone: dict[int, int] = {}
        """Slot -> token of its large push without an answer."""
        self.owed: set[int] | None = set()
        """Slots to be settled before `synced` can be said; None: it is said."""
        self.sync_attempts = 0

    @property
    def is_settled(self) -> bool:
        """`synced` is to be said, and may be."""
        return self.owed is not None and not self.owed

    def mark(self, slot: int, *, push: bool) -> None:
        """This slot's update is to be written."""
        self.suppressed.discard(slot)
        self.due[slot] = push
        if self.owed is not None:
            self.owed.add(slot)

    def suppress(self, slot: int) -> None:
        """The peer holds it."""
        self.due.pop(slot, None)
        self.suppressed.add(slot)
        self.settle(slot)

    def settle(self, slot: int) -> None:
        """Nothing more is owed to the peer about this slot."""
        self.attempts.pop(slot, None)
        if self.owed is not None:
            self.owed.discard(slot)

    def forget(self, slot: int) -> None:
        """The slot was freed."""
        self.due.pop(slot, None)
        self.suppressed.discard(slot)
        self.settle(slot)
