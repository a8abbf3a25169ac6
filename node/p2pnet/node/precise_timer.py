"""A timer that rings within a fraction of a millisecond of its time: an event loop's own may be a millisecond late by rounding.

On Linux it is a timerfd, which the loop waits for as for a socket; elsewhere, and in virtual time, a timer of the loop.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from p2pnet.peering.clock import NS, mono_ns

_CLOCK_MONOTONIC = 1  # of Linux
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC if sys.platform == "linux" else 0

Ring = Callable[[], None]


class PreciseTimer(Protocol):
    """One alarm on the monotonic clock. It may ring early by what a loop rounds, so whoever is rung looks at the clock."""

    def set(self, at_ns: int) -> None:
        """Ring at this time, at once if it has passed, and at no other."""

    def clear(self) -> None:
        """Ring at no time. Idempotent."""

    def close(self) -> None:
        """Give it up. Idempotent."""


class LoopTimer:
    """A PreciseTimer of an event loop, as precise as that loop's timers are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Ring, clock_ns: Callable[[], int]) -> None:
        self._loop, self._call, self._clock_ns = loop, ring, clock_ns
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_ns: int) -> None:
        """See `PreciseTimer`."""
        self.clear()
        self._handle = self._loop.call_later(max(0, at_ns - self._clock_ns()) / NS, self._ring)

    def clear(self) -> None:
        """See `PreciseTimer`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """See `PreciseTimer`."""
        self.clear()

    def _ring(self) -> None:
        self._handle = None
        self._call()


class KernelTimer:
    """A PreciseTimer of the Linux kernel. Raises OSError where there is none to be had."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Ring) -> None:
        self._loop = loop
        self._ring = ring
        self._set = _settime()
        self._fd = _create()
        loop.add_reader(self._fd, ring)

    def set(self, at_ns: int) -> None:
        """See `PreciseTimer`."""
        # A timerfd that rang is readable until it is read or set: whoever is rung sets or clears it, which spares the read.
        self._set(self._fd, max(1, at_ns))  # 0 would clear it

    def clear(self) -> None:
        """See `PreciseTimer`."""
        if self._fd >= 0:
            self._set(self._fd, 0)

    def close(self) -> None:
        """See `PreciseTimer`."""
        if self._fd >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def make_timer(ring: Ring) -> PreciseTimer:
    """The best timer of this system for the running loop."""
    loop = asyncio.get_running_loop()
    if sys.platform == "linux":
        try:
            return KernelTimer(loop, ring)
        except OSError:  # no timerfd: an old or odd kernel, or no descriptor left
            pass
    return LoopTimer(loop, ring, mono_ns)


def _create() -> int:
    # Not by os.timerfd_create of Python 3.13: one way for every version, and no dearer.
    fd = int(_libc().timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def _settime() -> Callable[[int, int], None]:
    """Sets a timerfd to a time in ns; 0: to none."""
    itimerspec = (ctypes.c_long * 4)()  # interval and first time, seconds and nanoseconds each
    settime, pointer = _libc().timerfd_settime, ctypes.byref(itimerspec)

    def set_ns(fd: int, at_ns: int) -> None:
        itimerspec[2], itimerspec[3] = divmod(at_ns, NS)
        settime(fd, _TFD_TIMER_ABSTIME, pointer, None)

    return set_ns


def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    if not (hasattr(libc, "timerfd_create") and hasattr(libc, "timerfd_settime")):
        raise OSError("this C library has no timerfd")
    return libc
