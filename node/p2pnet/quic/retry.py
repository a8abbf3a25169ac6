"""Retries: exponential waits with jitter, within a budget of time. The clock is the loop's; the rng may be given."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from p2pnet.model.errors import LimitError, LocalError
from p2pnet.quic.errors import HandshakeFailed, RequestTimeout, StreamCode, StreamLost

T = TypeVar("T")

_TEMPORARY_FAILURES = {"timeout", "too-many", "closed"}


@dataclass(frozen=True)
class Retry:
    """A schedule of waits; by default qp2p's: 0.5 s, times 1.5 each, at most 15 s, jittered by 30 %, all within 30 s.

    The budget counts from the start of the first attempt and includes the last one: an attempt still running at its end is
    cancelled. Only the first is not: it may take as long as it would without a schedule. Raises LocalError for values that
    make no schedule.
    """

    initial_s: float = 0.5
    factor: float = 1.5
    cap_s: float = 15.0
    budget_s: float = 30.0
    jitter: float = 0.3
    rng: random.Random = field(default_factory=random.Random, compare=False)

    def __post_init__(self) -> None:
        """Check the bounds: waits are positive and do not shrink."""
        if not (0 < self.initial_s <= self.cap_s and self.factor >= 1 and self.budget_s > 0 and 0 <= self.jitter < 1):
            raise LocalError(f"no schedule: {self}")

    def waits(self) -> Iterator[float]:
        """The waits between attempts, in seconds, without end: keeping to the budget is up to the caller."""
        interval = self.initial_s
        while True:
            yield interval * self.rng.uniform(1 - self.jitter, 1 + self.jitter)
            interval = min(interval * self.factor, self.cap_s)

    async def run(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        worth: Callable[[Exception], bool] | None = None,
        until: "asyncio.Future[Exception] | None" = None,
    ) -> T:
        """Attempt until it succeeds, fails permanently, or the budget ends; then raise the last error.

        `worth` says after which errors to try again; by default `worth_retrying`. When `until` is done, attempt and wait are
        interrupted and its result is raised: an endpoint closes, or a connection ends. A send that is retried may arrive
        twice: the receiver must be able to tell (see `AtLeastOnce`).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.budget_s
        last: list[Exception] = []
        # Not armed for the first attempt, which may take as long as it would without a schedule.
        limit = asyncio.timeout(None)

        def stop(_future: object) -> None:
            with suppress(RuntimeError):  # the timeout has ended meanwhile
                limit.reschedule(0.0)

        if until is not None:
            until.add_done_callback(stop)
        try:
            async with limit:
                for wait in self.waits():
                    try:
                        return await attempt()
                    except Exception as error:
                        if not (worth or worth_retrying)(error) or loop.time() + wait >= deadline:
                            raise
                        last[:] = [error]
                    if until is None or not until.done():
                        # From the second attempt on the budget interrupts.
                        limit.reschedule(deadline)
                    await asyncio.sleep(wait)
        except TimeoutError:
            if not limit.expired():
                raise
            if until is not None and until.done():
                raise until.result() from (last[0] if last else None)
            # The last attempt's error says more than that time is over.
            raise last[0] from None
        finally:
            if until is not None:
                until.remove_done_callback(stop)
        raise AssertionError("waits() has no end")


def worth_retrying(error: Exception) -> bool:
    """Whether another attempt at a connect, send or request may succeed without anything being changed.

    Yes for a peer that is silent, full or restarting, an answer that did not come in time, a stream that the peer gave
    up without rejecting its message, and a full queue of this end's (LimitError). No for rejections (a certificate, a
    message too large, malformed or unwanted), for mistakes of the caller, and for a lost connection: that needs a dial.
    """
    if isinstance(error, HandshakeFailed):
        return error.kind in _TEMPORARY_FAILURES
    if isinstance(error, StreamLost):
        # Every other StreamCode rejects the message. A foreign peer's code says nothing: qp2p tries again then.
        return error.code == StreamCode.CANCELLED or error.code not in set(StreamCode)
    return isinstance(error, RequestTimeout | LimitError)
