"""Turns: peers share each loop turn fairly. What a peer sends beyond its share waits behind what the others send."""

from collections import deque
from collections.abc import Callable

from p2pnet.broadcast.context import Context

TURN_BYTES_PER_PEER = 256 * 1024
"""Bytes of one peer's requests, of updates and of stripes, handled in one loop turn; the rest waits behind the other peers'."""
INBOX_BYTES_PER_PEER = 4 * 1024 * 1024
"""Bytes of one peer's requests that may wait; more is answered busy."""

Handle = Callable[[str, int, bytes], None]
"""Handles a request: peer, token, body."""
Refuse = Callable[[int, bytes], None]
"""Answers a request, token and body, that it is busy."""


class Inbox:
    """One peer's requests that wait for the next loop turn, in the order they came, and their bytes."""

    __slots__ = ("size", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[Handle, int, bytes]] = deque()
        self.size = 0


class Turns:
    """Lets each peer's requests through as far as its share of the loop turn goes."""

    __slots__ = ("_context", "_inboxes", "_used", "_used_at")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._used: dict[str, int] = {}  # bytes of each peer in this turn
        self._used_at = 0
        self._inboxes: dict[str, Inbox] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether requests wait for the next loop turn."""
        return bool(self._inboxes)

    def take(self, peer: str, token: int, body: bytes, handle: Handle, refuse: Refuse) -> None:
        """Handle a request now, or after the other peers' requests of this loop turn, or refuse it."""
        context = self._context
        # A new loop turn has begun without a Wake: drivers pass the same time for all inputs of one.
        if context.now != self._used_at:
            self._used, self._used_at = {}, context.now
        used = self._used.get(peer, 0)
        if used < TURN_BYTES_PER_PEER and peer not in self._inboxes:
            self._used[peer] = used + len(body)
            handle(peer, token, body)
            return
        context.count("turn_share_used")
        inbox = self._inboxes.setdefault(peer, Inbox())
        # One request alone is always taken: it may be larger than the bound.
        if inbox.waiting and inbox.size + len(body) > INBOX_BYTES_PER_PEER:
            refuse(token, body)
        else:
            inbox.waiting.append((handle, token, body))
            inbox.size += len(body)
        context.soon = True

    def next_turn(self) -> None:
        """A new loop turn: every peer has its share again. Waiting requests come first, one of each peer after another."""
        self._used.clear()
        while self._inboxes:
            served = False
            for peer, inbox in list(self._inboxes.items()):
                used = self._used.get(peer, 0)
                if used >= TURN_BYTES_PER_PEER:
                    continue
                handle, token, body = inbox.waiting.popleft()
                inbox.size -= len(body)
                if not inbox.waiting:
                    del self._inboxes[peer]
                self._used[peer] = used + len(body)
                handle(peer, token, body)
                served = True
            if not served:
                return

    def disconnect(self, peer: str) -> None:
        """The peer's connection ended: drop its waiting requests, which it sends again on the next one."""
        self._inboxes.pop(peer, None)
