"""The first of several addresses that answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Address = tuple[str, int]
T = TypeVar("T")


async def race(
    addresses: Iterable[Address], attempt: Callable[[Address], Awaitable[T]]
) -> tuple[T, dict[Address, Exception]]:
    """Attempt all at once, equal addresses once; returns the winner and the errors of those that had lost by then.

    Attempts still running are cancelled and awaited: they leave nothing behind. Raises the ExceptionGroup of all
    errors when every one fails, and ValueError for no address at all.
    """
    tasks = {asyncio.ensure_future(_as_coroutine(attempt, one)): one for one in dict.fromkeys(addresses)}
    if not tasks:
        raise ValueError("no address to connect to")
    errors: dict[Address, Exception] = {}
    pending = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result(), errors
                if not isinstance(error, Exception):
                    raise error
                errors[tasks[task]] = error
        raise ExceptionGroup("no address answered", list(errors.values()))
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _as_coroutine(attempt: Callable[[Address], Awaitable[T]], address: Address) -> T:
    return await attempt(address)
