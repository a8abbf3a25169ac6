"""When a connection acts by itself: its one loop timer, and the close packets it repeats until the peer has heard them.

A connection has several reasons to wake (loss recovery, keep-alive, the handshake's deadline, the certificate's end), but only
one timer object: asyncio's are dear, and most of them would be cancelled before they ring.
"""

import asyncio
import math
from collections.abc import Callable

from p2pnet.quic.engine import Datagram

STALL_S = 1.0
"""A timer that rings this late shows that the process stood still, and not that peers were silent."""
TIMER_SLACK_S = 0.0005
"""A timer this little early is not worth moving."""
CLOSE_REPEATS_MAX = 3
"""How often the close packets leave by themselves, and again in answer to as many of the peer's datagrams."""


class ConnectionTimer:
    """One loop timer for all reasons.

    It is moved only to ring earlier; when it rings before anything is due it is simply set again. That is cheaper than to
    cancel and make a timer for every packet.
    """

    __slots__ = ("_at", "_handle", "_loop", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._at = 0.0

    def set(self, at: float, now: float) -> None:
        """Call `ring` at this time at the latest. Both in monotonic seconds of the endpoint's clock."""
        if self._handle is not None:
            if at >= self._at - TIMER_SLACK_S:
                return
            self._handle.cancel()
        self._at = at
        self._handle = self._loop.call_later(max(0.0, at - now), self._ring)

    @property
    def at(self) -> float:
        """When it was last set to ring, in monotonic seconds: how late it rings tells how long the process stood still."""
        return self._at

    def rang(self) -> None:
        """To be called first by `ring`: the timer is not set any more."""
        self._handle = None

    def cancel(self) -> None:
        """Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class ClosePackets:
    """The datagrams that tell the peer of our close (RFC 9000 section 10.2.1), kept to be sent again.

    A lost close would leave the peer to wait out its idle time. Repeats are bounded: a peer that never answers is gone.
    """

    __slots__ = ("_answers", "_repeats", "datagrams", "next_at")

    def __init__(self, datagrams: list[Datagram], now: float, probe_timeout_s: float) -> None:
        """`datagrams` have just left for the first time."""
        self.datagrams = datagrams
        self.next_at = now + probe_timeout_s
        """When they are due again, in monotonic seconds; infinite after the last time."""
        self._repeats = 1
        self._answers = 0

    def repeated(self, now: float, probe_timeout_s: float) -> None:
        """They were sent again because `next_at` had come."""
        self._repeats += 1
        self.next_at = now + probe_timeout_s if self._repeats < CLOSE_REPEATS_MAX else math.inf

    def answers(self) -> bool:
        """Whether one more datagram of a peer that has not heard of the close may be answered with them."""
        self._answers += 1
        return self._answers <= CLOSE_REPEATS_MAX
