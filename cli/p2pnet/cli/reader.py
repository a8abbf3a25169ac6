"""Whoever reads what a command without an end prints: once nobody does, it ends."""

import asyncio
import contextlib
import os
import select
import stat
from collections.abc import AsyncIterator
from typing import TextIO

POLL_S = 0.3


@contextlib.asynccontextmanager
async def while_read(stream: TextIO) -> AsyncIterator[None]:
    """BrokenPipeError in the body soon after the last reader of `stream` has gone, though nothing is written."""
    body, gone = asyncio.current_task(), False
    assert body is not None  # noqa: S101 - a coroutine runs in a task

    async def look() -> None:
        nonlocal gone
        while not is_gone(stream):  # noqa: ASYNC110 - nothing tells us, we have to look
            await asyncio.sleep(POLL_S)
        gone = True
        body.cancel()

    looking = asyncio.create_task(look(), name="reader of stdout")
    try:
        yield
    except asyncio.CancelledError:
        if gone and body.uncancel() == 0:
            raise BrokenPipeError from None
        raise
    finally:
        looking.cancel()


def is_gone(stream: TextIO) -> bool:
    """Whether it is a pipe or a socket that nobody reads any more."""
    try:
        number = stream.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError):
        return False  # no stream of the system's
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False  # of a terminal macOS tells a poll that it is no descriptor at all
    poll = select.poll()
    poll.register(number, 0)  # errors and hang-ups are told unasked
    return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))
