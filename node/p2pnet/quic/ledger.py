"""What one connection may hold in memory, and whose turn it is to have room for a large message.

A stream may send a first allotment unasked; the allotments of all streams together fit into the connection's window. A
message larger than its allotment waits until its whole size is set aside. A quarter of the window is for such messages;
one that is larger than that is let in alone. So no connection holds more than its window and one message, and whatever
was let in can be finished, however the peer divides its sending among its streams.

Replies to a peer that does not read them count as well: while they fill their eighth, its further requests wait.
"""

from collections.abc import Callable

from p2pnet.quic.engine import Windows


def windows(connection_bytes: int, streams: int, gaps: int) -> Windows:
    """How a window is divided.

    Half is for the beginnings of the peer's requests, a sixteenth each for those of its one-way messages and of the
    replies to ours, a quarter for large messages, an eighth for what we owe.
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
    """Room for one large message. `ready` is called when it has been set aside."""

    __slots__ = ("granted", "ready", "size")

    def __init__(self, size: int, ready: Callable[[], None]) -> None:
        self.size = size
        self.ready = ready
        self.granted = False


class Ledger:
    """The account of one connection, in bytes. `credit(n)` and `grant(n)` tell its engine."""

    __slots__ = ("_credit", "_grant", "_owed_max", "_room", "_waiting", "owed", "set_aside")

    def __init__(self, window_bytes: int, *, credit: Callable[[int], None], grant: Callable[[int], None]) -> None:
        self._room = window_bytes // 4
        self._owed_max = window_bytes // 8
        self._credit = credit
        self._grant = grant
        self._waiting: list[Claim] = []
        self.set_aside = 0
        """Of messages that were let in and are not whole yet."""
        self.owed = 0
        """Of replies that the peer has not acknowledged."""

    def free(self, count: int) -> None:
        """So many bytes that were read have left memory."""
        if count:
            self._credit(count)

    def claim(self, size: int, ready: Callable[[], None]) -> Claim:
        """Ask for room for a message of this size: first come, first served; `ready` is called now or later."""
        claim = Claim(size, ready)
        self._waiting.append(claim)
        self._serve()
        return claim

    def settle(self, claim: Claim) -> None:
        """The message is whole, or void: its room is another's."""
        if claim.granted:
            claim.granted = False
            self.set_aside -= claim.size
            self._tell()
        elif claim in self._waiting:
            self._waiting.remove(claim)
        self._serve()

    def owe(self, count: int) -> None:
        """A reply of so many bytes is on its way; `pay` when it arrived, or is void."""
        self.owed += count

    def pay(self, count: int) -> None:
        """It is not held any more."""
        self.owed -= count

    @property
    def indebted(self) -> bool:
        """So much is owed in replies that nothing more is taken up before some of it has arrived."""
        return self.owed >= self._owed_max

    def clear(self) -> None:
        """The connection has ended."""
        self._waiting.clear()

    def _serve(self) -> None:
        while self._waiting:
            claim = self._waiting[0]
            if self.set_aside and self.set_aside + claim.size > self._room:
                return
            self._waiting.pop(0)
            self.set_aside += claim.size
            claim.granted = True
            self._tell()
            claim.ready()

    def _tell(self) -> None:
        self._grant(max(0, self.set_aside - self._room))
