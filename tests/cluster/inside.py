"""A thread of this process in a cluster's network: what runs on its loop reaches the cluster, the rest stays outside.

Sockets belong to the network of the thread that opens them. So proxies, kubelets and labs of tests are plain coroutines
beside the test, which can look at them and tell them what to do.
"""

import asyncio
import ctypes
import logging
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

ANSWER_S = 60.0
"""The longest a test waits for one coroutine inside."""
_NETWORK = 0x40000000  # CLONE_NEWNET


class Inside:
    """An event loop in the network namespace of this name. `with Inside(name) as inside: inside.do(coroutine)`."""

    def __init__(self, name: str) -> None:
        self._place = Path("/run/netns") / name
        self._loop = asyncio.new_event_loop()
        self._entered: threading.Event = threading.Event()
        self._kept: set[asyncio.Task[None]] = set()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name=f"inside {name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._entered.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T], within_s: float = ANSWER_S) -> T:
        """The result of a coroutine inside."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine run until the end, or its own."""

        async def keep() -> None:
            task = asyncio.get_running_loop().create_task(work)
            self._kept.add(task)
            task.add_done_callback(self._ended)

        self.do(keep())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._kept.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("what should go on has ended", exc_info=task.exception())

    def _run(self) -> None:
        try:
            with self._place.open("rb") as namespace:
                _enter(namespace.fileno())
        except OSError as error:
            self._error = error
            return
        finally:
            self._entered.set()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())


def _enter(namespace: int) -> None:
    """Move the calling thread; Python has `os.setns` from 3.12 on."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, _NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
