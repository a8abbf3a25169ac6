"""The lower half of a connection: datagrams in and out, one timer, and its beginning and end.

Everything here runs on the endpoint's loop, called by the endpoint once per turn; there is no task and no asyncio
object per packet.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
)
from aioquic.quic.packet import QuicErrorCode

from p2pnet.model.errors import TrustError
from p2pnet.quic.bounded import BoundedConnection
from p2pnet.quic.endings import failure_of, reason_of
from p2pnet.quic.errors import CloseCode, CloseReason
from p2pnet.quic.host import Host
from p2pnet.quic.socket import Datagram
from p2pnet.quic.trust import PeerName

_TIMER_SLACK_S = 0.0005  # a timer this little early is not worth moving
_CLOSE_REPEATS = 3


class Driver(ABC):
    """Drives one BoundedConnection."""

    def __init__(self, host: Host, *, address: Any, dialled: bool, expect: str | None) -> None:
        self.host = host
        self.settings = host.settings
        self.dialled = dialled
        self.id = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.close_reason: CloseReason | None = None
        self.peer = PeerName()
        self.marked = False
        self.cids: set[bytes] = set()
        self.quic: BoundedConnection
        self._address = address
        self._expect = expect
        self._chain: list[bytes] = []
        self._refusal: TrustError | None = None
        self._established = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._heard_at = time.monotonic()
        self._deadline: float | None = self._heard_at + host.settings.handshake_s
        self._halted = False
        self._farewell: list[Datagram] = []
        self._repeats = _CLOSE_REPEATS

    # What the owner sees

    @property
    def uri(self) -> str:
        """The peer's identity, proved by its certificate; empty where trust proves none."""
        return self.peer.uri

    @property
    def not_after(self) -> datetime | None:
        """When the peer's certificate ends, and with it the connection."""
        return self.peer.not_after

    @property
    def address(self) -> tuple[str, int]:
        """The peer's present address."""
        address = self.quic.get_peer_address() or self._address
        return (address[0], address[1])

    @property
    def rtt_s(self) -> float:
        """Smoothed round-trip time in seconds; 0 before the first sample."""
        return self.quic.rtt_s

    @property
    def closed(self) -> bool:
        """Closed by either end, or lost."""
        return self.close_reason is not None

    def close(self, code: int = CloseCode.DONE, reason: str = "") -> None:
        """Close now, without waiting for what is in flight. Idempotent."""
        if self.closed:
            return
        self.quic.close(error_code=int(code), reason_phrase=reason[:200])
        self._finish(CloseReason("local", int(code), reason))

    # What the endpoint calls

    def allow(self, handshake_s: float) -> None:
        """Give the handshake this long, or as long as the settings say if that is more."""
        self._deadline = self._heard_at + max(handshake_s, self.settings.handshake_s)

    def admit(self, chain_der: list[bytes]) -> None:
        """Judge the peer's chain, from inside the handshake. Raises TrustError."""
        self._chain = chain_der
        try:
            self.peer = self.host.trust.admit(
                chain_der, expect=self._expect, dialled=self.dialled, now=datetime.now(UTC)
            )
        except TrustError as error:
            self._refusal = error
            raise

    def readmit(self) -> None:
        """Judge a live peer again, after the bundle or the registry changed; close it if it is admitted no more."""
        if self.closed or not self._established or not (self.dialled or self.host.trust.asks_client):
            return
        try:
            self.admit(self._chain)
        except TrustError as error:
            self.close(CloseCode.EXPIRED if error.kind == "expired" else CloseCode.REFUSED, str(error))

    def receive(self, data: bytes, address: Any, now: float) -> None:
        """One datagram of the peer's. `process` follows once per turn."""
        self.received_bytes += len(data)
        self._heard_at = now
        if self._farewell and self._repeats:
            self._repeats -= 1  # the peer has not heard our close
            self.host.transmit(self, self._farewell)
            return
        self.quic.receive_datagram(data, address, now)

    def process(self, now: float) -> None:
        """Act on what the datagrams of this turn brought."""
        quic = self.quic
        while (event := quic.next_event()) is not None:
            if isinstance(event, StopSendingReceived):
                self._on_stopped(event)
            elif isinstance(event, ConnectionIdIssued):
                self.host.route(event.connection_id, self)
            elif isinstance(event, ConnectionIdRetired):
                self.host.unroute(event.connection_id)
            elif isinstance(event, HandshakeCompleted) and not self.dialled:
                self._establish(now)
        if self.dialled and not self._established and quic.confirmed:
            self._establish(now)
        if self._established and not self.closed:
            self._on_streams()
        if quic.ending and not self.closed:
            self._finish(self._reason())

    def flush(self, now: float) -> None:
        """Send what may leave now, and set the timer."""
        self.marked = False
        if self._halted:
            return
        quic = self.quic
        if quic.wants_to_send(now):
            datagrams = quic.datagrams_to_send(now)
            if datagrams:
                if self.closed:
                    self._farewell = datagrams
                self.host.transmit(self, datagrams)
            self.process(now)
        if quic.terminated:
            self._bury()
        else:
            self._arm(now)

    def stop(self) -> None:
        """No timer and no packet any more: the endpoint's socket is going."""
        self._halted = True
        self._disarm()

    def crash(self, error: Exception) -> None:
        """A packet of the peer's met a mistake in this program: it costs this connection only, and is reported."""
        self.host.loop.call_exception_handler({"message": f"{self!r} failed", "exception": error})
        if not self.closed:
            self._finish(
                CloseReason("transport", QuicErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}"[:200])
            )
        self._bury()

    # For the upper half

    @abstractmethod
    def _on_streams(self) -> None:
        """Hand out what happened to streams."""

    @abstractmethod
    def _on_stopped(self, event: StopSendingReceived) -> None:
        """The peer does not want a stream of ours."""

    @abstractmethod
    def _on_end(self) -> None:
        """The connection is over; `close_reason` says how."""

    # Private

    def _establish(self, now: float) -> None:
        if self._established or self.closed:
            return
        self._established = True
        self._deadline = None
        if self.peer.not_after is not None:
            self._deadline = now + (self.peer.not_after - datetime.now(UTC)).total_seconds()
        self.host.established(self)

    def _finish(self, reason: CloseReason) -> None:
        failure = None if self._established else failure_of(reason, self._refusal)
        self.close_reason = reason
        self.host.ended(self, failure)
        self._on_end()
        self.host.mark(self)

    def _reason(self) -> CloseReason:
        quic = self.quic
        event = quic.ended_by or ConnectionTerminated(QuicErrorCode.INTERNAL_ERROR, 0, "ended without a reason")
        return reason_of(event, None if self._established else self._refusal, timed_out=quic.terminated)

    def _arm(self, now: float) -> None:
        """One timer for all: moved only when it must ring earlier, a late one finds nothing to do and is set anew."""
        at = self._next(now)
        if at is None:
            self._disarm()
            return
        if self._timer is not None:
            if at >= self._timer_at - _TIMER_SLACK_S:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.host.loop.call_later(max(0.0, at - now), self._ring)

    def _next(self, now: float) -> float | None:
        at: float | None = self.quic.get_timer()
        if at is None or self.closed:
            return at
        if self._deadline is not None and self._deadline < at:
            # Beyond a day the timer rings in vain: asyncio has no use for times that far off.
            at = min(self._deadline, now + 86_400)
        if self._established and (ping_at := self._ping_at()) is not None:
            at = min(at, ping_at)
        return at

    def _ping_at(self) -> float | None:
        if not (self.dialled and self.settings.keep_alive):
            return None
        return self._heard_at + self.quic.idle_s / 3

    def _ring(self) -> None:
        self._timer = None
        try:
            self._on_time(time.monotonic())
        except Exception as error:  # noqa: BLE001  # reported; without its timer the connection would never end
            self.crash(error)

    def _on_time(self, now: float) -> None:
        quic = self.quic
        at = quic.get_timer()
        if at is not None and now >= at - _TIMER_SLACK_S / 10:
            quic.handle_timer(max(now, at))
            self.process(now)
        if not self.closed:
            if self._deadline is not None and now >= self._deadline:
                self._expire()
            ping_at = self._ping_at() if self._established else None
            if ping_at is not None and now >= ping_at and not self.closed:
                quic.send_ping(0)
                self._heard_at = now  # the next ping a third later, whatever becomes of this one
        self.flush(now)

    def _expire(self) -> None:
        """The deadline has come: of the handshake, or of the peer's certificate."""
        if self._established:
            self.close(CloseCode.EXPIRED, "the peer's certificate has expired")
            return
        self.quic.close(error_code=QuicErrorCode.NO_ERROR, reason_phrase="handshake timeout")
        self._finish(CloseReason("idle", 0, "the handshake took too long"))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _bury(self) -> None:
        self.stop()
        for cid in list(self.cids):
            self.host.unroute(cid)
        if not self.closed:
            self._finish(self._reason())
