"""Blocking work that nothing waits for any more: a cluster that is silent must not keep a command from ending."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_daemon(work: Callable[..., T], *arguments: Any) -> T:
    """As `asyncio.to_thread`, but in a thread that dies with the process. Only for work that may be left half done."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(result)  # type: ignore[arg-type] # None is a T where there is no error
            else:
                future.set_exception(error)

    def body() -> None:
        result, error = None, None
        try:
            result = work(*arguments)
        except BaseException as caught:  # noqa: BLE001 it is raised again where it is awaited
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=body, name="cluster", daemon=True).start()
    return await future
