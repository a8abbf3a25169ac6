"""The ledger: what one connection may hold in memory, and which large message is admitted next.

A stream may send a first allotment unasked; the allotments of all streams together fit into the connection's window. A
message larger than its allotment waits until its whole size is set aside. A quarter of the window is for such messages;
one that is larger than that is admitted alone. So no connection holds more than its window and one message, and whatever
was admitted can be finished, however the peer divides its sending among its streams.

Replies that a peer does not acknowledge count as well: while they fill their eighth of the window, its requests wait.
"""

from collections.abc import Callable

from p2pnet.quic.engine import Windows


def windows(connection_bytes: int, streams: int, gaps: int) -> Windows:
    """The first allotments of streams, from how a connection's window is divided.

    Half is for the beginnings of the peer's requests, a sixteenth each for those of its one-way messages and of the
    replies to ours, a quarter for large messages, an eighth for replies that it has not acknowledged.
    """
    return Windows(
        connection=connection_bytes - connection_bytes // 8,
        uni=max(1, connection_bytes // 16 // streams),
        inbound=max(1, connection_bytes // 2 // streams),
        reply=max(1, connection_bytes // 16 // streams),
        streams=streams,
        gaps=gaps,
    )


class Claim:
    """A claim for one large message of `size` bytes; `ready` is called when they have been set aside."""

    __slots__ = ("granted", "ready", "size")

    def __init__(self, size: int, ready: Callable[[], None]) -> None:
        self.size = size
        self.ready = ready
        self.granted = False


class Ledger:
    """The bytes of one connection. `credit(n)` and `grant(n)` are those of its engine."""

    __slots__ = ("_credit", "_grant", "_replies_max", "_room", "_waiting", "set_aside", "unacknowledged")

    def __init__(self, window_bytes: int, *, credit: Callable[[int], None], grant: Callable[[int], None]) -> None:
        self._room = window_bytes // 4
        self._replies_max = window_bytes // 8
        self._credit = credit
        self._grant = grant
        self._waiting: list[Claim] = []
        self.set_aside = 0
        """Bytes of admitted large messages that are not whole yet."""
        self.unacknowledged = 0
        """Bytes of replies that the peer has not acknowledged."""

    def free(self, count: int) -> None:
        """`count` bytes that were read have left memory: the peer may send as many again."""
        if count:
            self._credit(count)

    def claim(self, size: int, ready: Callable[[], None]) -> Claim:
        """Claim room for a message of this size, first come, first served; `ready` is called now or later."""
        claim = Claim(size, ready)
        self._waiting.append(claim)
        self._serve()
        return claim

    def release(self, claim: Claim) -> None:
        """The message is whole, or was given up: others may have its room."""
        if claim.granted:
            claim.granted = False
            self.set_aside -= claim.size
            self._tell()
        elif claim in self._waiting:
            self._waiting.remove(claim)
        self._serve()

    def reply_queued(self, count: int) -> None:
        """A reply of `count` bytes is on its way; `reply_done` must follow."""
        self.unacknowledged += count

    def reply_done(self, count: int) -> None:
        """A reply of `count` bytes was acknowledged, or given up."""
        self.unacknowledged -= count

    @property
    def replies_full(self) -> bool:
        """Whether replies fill their part of the window: further requests must wait until some are acknowledged."""
        return self.unacknowledged >= self._replies_max

    def clear(self) -> None:
        """The connection has ended: no claim is served any more."""
        self._waiting.clear()

    def _serve(self) -> None:
        while self._waiting:
            claim = self._waiting[0]
            # Alone it is admitted whatever its size, or a message of more than the room would wait for ever.
            if self.set_aside and self.set_aside + claim.size > self._room:
                return
            self._waiting.pop(0)
            self.set_aside += claim.size
            claim.granted = True
            self._tell()
            # After the grant: it writes MAX_STREAM_DATA, which is of no use without MAX_DATA.
            claim.ready()

    def _tell(self) -> None:
        self._grant(max(0, self.set_aside - self._room))
