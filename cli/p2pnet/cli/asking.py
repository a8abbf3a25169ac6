"""A question to whoever sits at the terminal."""

import asyncio
import sys

from p2pnet.cli.session import Session


async def agreed(question: str, session: Session) -> bool:
    """Whether the answer is yes. Only where `session.interactive`."""
    session.listener.close()
    session.say(f"{question} [y/N] ")
    answer = await _read_line()
    return answer.strip().lower() in ("y", "yes")


async def _read_line() -> str:
    """A line of the terminal; waiting for it in the loop, for Ctrl-C ends no thread that waits."""
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()
