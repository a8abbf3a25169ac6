"""What a slot holds, as entries encoded once for all peers, and entries gathered into requests.

One encoding per update rather than one per peer, and one request body shared by all peers that are due the same, are what make
a publication's cost at its publisher independent of the number of its peers, but for the system calls.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from p2pnet.broadcast.context import MS
from p2pnet.broadcast.wire import (
    UpdateStatus,
    encode_advert,
    encode_empty,
    encode_push,
    encode_scattered,
    encode_stripped,
)
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import UPDATE_BATCH_BYTES

_HAVE = bytes([UpdateStatus.HAVE])
PROGRESS_FIRST_NS = 20 * MS
"""First pause between two announcements of an artifact's parts so far, in nanoseconds; doubled after each."""


class Content:
    """What a slot holds now, and its entries, each encoded once for all peers."""

    __slots__ = (
        "_advert",
        "artifact",
        "audience",
        "commit",
        "cursor",
        "done",
        "have",
        "hop",
        "is_over_edges",
        "key",
        "origin",
        "pause_ns",
        "progress_peers",
        "push",
        "push_bytes",
        "pushed_to",
        "size",
        "slot",
        "urgent",
    )  # fmt: skip

    def __init__(
        self,
        slot: int,
        commit: int,
        artifact: ArtifactId | None,
        *,
        data: bytes | None = None,
        part_list: bytes | None = None,
        size: int = 0,
        hop: int = 0,
        key: bytes = b"",
        urgent: bool = False,
        have: int | None = None,
        audience: set[str] | None = None,
        pushed_to: set[str] | None = None,
        origin: int = 0,
        form: bytes | None = None,
    ) -> None:
        self.slot = slot
        self.commit = commit
        self.artifact = artifact
        """None: the slot is announced empty."""
        self.size = size
        self.hop = hop
        self.key = key
        self.urgent = urgent
        self.have = have
        """Bitmap of the parts this node holds so far; None: all of them."""
        self.audience = audience
        """The peers it is announced to; None: all."""
        self.origin = origin
        """The number of its publisher."""
        self.is_over_edges = pushed_to is not None
        """Its audience are the eager edges of a sparse topology: answers to it make edges eager or lazy."""
        self.pushed_to = pushed_to
        """The peers of its audience that get the bytes; None: all."""
        self.done: set[str] = set()
        """Peers that answered `have` or `unwanted`: they are not told of more parts."""
        self.progress_peers: set[str] | None = None
        """The peers that are told of more parts; None: the whole audience."""
        self.pause_ns = PROGRESS_FIRST_NS
        """Pause before the next announcement of its parts, in nanoseconds."""
        self.cursor = 0
        """Number of the part that is given next to a peer that asks for any."""
        self.push = self._encode_push(data, form, part_list)
        """The entry with the bytes, a stripped form, or the part list if stripes of it come; in one piece or two. None: it is
        only advertised."""
        self.push_bytes = 0 if self.push is None else sum(map(len, self.push))
        self._advert = b""

    def _encode_push(self, data: bytes | None, form: bytes | None, part_list: bytes | None) -> list[bytes] | None:
        if part_list is not None and self.artifact is not None:
            return encode_scattered(
                self.slot, self.commit, self.hop, self.size, self.artifact, part_list, key=self.key, origin=self.origin
            )  # fmt: skip
        if form is not None and self.artifact is not None:
            return encode_stripped(
                self.slot, self.commit, self.hop, self.size, self.artifact, form, key=self.key, origin=self.origin
            )  # fmt: skip
        return (
            None if data is None else encode_push(self.slot, self.commit, self.hop, data, self.key, origin=self.origin)
        )

    @property
    def complete(self) -> bool:
        """Whether this node holds all of it."""
        return self.have is None

    @property
    def advert(self) -> bytes:
        """The entry with the id only, or the empty entry; encoded on first use."""
        if not self._advert:
            if self.artifact is None:
                self._advert = encode_empty(self.slot, self.commit)
            else:
                self._advert = encode_advert(
                    self.slot,
                    self.commit,
                    self.hop,
                    self.size,
                    self.artifact,
                    key=self.key,
                    have=self.have,
                    origin=self.origin,
                )
        return self._advert

    def is_for(self, peer: str) -> bool:
        """Whether this peer is in its audience."""
        return self.audience is None or peer in self.audience

    def pushes_to(self, peer: str) -> bool:
        """Whether this peer is to get the bytes at once."""
        return self.push is not None and (self.pushed_to is None or peer in self.pushed_to)

    def include(self, peer: str) -> None:
        """Add the peer to its audience."""
        if self.audience is not None:
            self.audience.add(peer)

    def renew(self, commit: int, have: int | None) -> None:
        """Announce it anew under this commit id, with these parts.

        It is not pushed again: the push entry is encoded with the old commit id, and is not worth a second encoding.
        """
        self.commit, self.have, self._advert, self.push = commit, have, b"", None


class UpdateItem(NamedTuple):
    """One update of a request, as its sender remembers it."""

    slot: int
    commit: int
    push: bool


class Batch:
    """The body of one update request and what is in it; shared by all peers that are due the same."""

    __slots__ = ("all_have", "all_ok", "body", "is_plain", "items", "lone", "urgent")

    def __init__(self, body: list[bytes], items: list[UpdateItem], *, urgent: bool, plain: bool = True) -> None:
        self.body = body
        self.items = items
        self.urgent = urgent
        self.lone = len(body) > len(items)
        """A single large push: it is written in two pieces, and reset when it is withdrawn on its way."""
        self.is_plain = plain and not self.lone
        """When every update of it was answered OK, nothing changes but the delivery states."""
        self.all_ok = bytes(len(items))
        """The answer that says so."""
        self.all_have = _HAVE * len(items)
        """The answer that every one is there already; as quick to apply."""


def batches(due: Iterable[tuple[int, bool]], contents: dict[int, Content]) -> Iterator[Batch]:
    """Gather the entries of these slots, in order, into as few requests as `UPDATE_BATCH_BYTES` allows.

    `due`: (slot, whether to push its bytes). A push above that bound travels alone.
    """
    body: list[bytes] = []
    items: list[UpdateItem] = []
    size, urgent, plain = 0, False, True
    for slot, push in due:
        content = contents[slot]
        pushed = content.push if push else None
        item = UpdateItem(slot, content.commit, pushed is not None)
        # Alone, so that it can be reset without losing other updates.
        if pushed is not None and content.push_bytes > UPDATE_BATCH_BYTES:
            yield Batch(pushed, [item], urgent=content.urgent)
            continue
        entry = content.advert if pushed is None else pushed[0]
        # A receiver refuses a longer request of several entries: it would have to decode it in one go.
        if size + len(entry) > UPDATE_BATCH_BYTES:
            yield Batch(body, items, urgent=urgent, plain=plain)
            body, items, size, urgent, plain = [], [], 0, False, True
        body.append(entry)
        items.append(item)
        size += len(entry)
        urgent |= content.urgent
        plain &= content.artifact is not None and content.have is None
    if items:
        yield Batch(body, items, urgent=urgent, plain=plain)
