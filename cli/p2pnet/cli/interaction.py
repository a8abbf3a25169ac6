"""Whoever is at the other end of our streams: a person who is asked, a reader that has gone."""

import asyncio
import contextlib
import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from typing import TextIO

from p2pnet.cli.session import Session

POLL_S = 0.3


async def ask(question: str, session: Session) -> bool:
    """Whether the person at the terminal answers yes. Only where `session.interactive`."""
    session.listener.close()
    session.say(f"{question} [y/N] ")
    answer = await _read_line()
    return answer.strip().lower() in ("y", "yes")


async def _read_line() -> str:
    """A line of the terminal. Waited for in the loop: Ctrl-C does not end a thread that blocks in a read."""
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


@contextlib.asynccontextmanager
async def while_read(stream: TextIO) -> AsyncIterator[None]:
    """Raise BrokenPipeError in the body soon after the last reader of `stream` has gone, though nothing is written."""
    body, gone = asyncio.current_task(), False
    assert body is not None  # noqa: S101 - a coroutine runs in a task

    async def look() -> None:
        nonlocal gone
        while not is_gone(stream):  # noqa: ASYNC110 - no event tells that a reader has gone
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
    """Whether the stream is a pipe or a socket that nobody reads any more."""
    try:
        number = stream.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError):
        return False  # not backed by a descriptor
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False  # macOS reports a terminal as POLLNVAL
    poll = select.poll()
    poll.register(number, 0)  # errors and hang-ups are reported without being asked for
    return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))
