"""Pages that listen: each has a queue with a bound, and one that falls behind is let go, to come back for the whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

CLIENTS_MAX = 16  # tabs that follow at the same time
QUEUE_MAX = 64  # messages that wait for one tab


class FullError(Exception):
    """There are CLIENTS_MAX listeners."""


def message(name: str, data: object) -> bytes:
    """One server-sent event. JSON has no line breaks of its own."""
    return f"event: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode()


class Streams:
    """All listeners. `beginning` gives what a new one must be told first."""

    def __init__(self, beginning: Callable[[], Sequence[bytes]]) -> None:
        self._beginning = beginning
        self._queues: set[asyncio.Queue[bytes | None]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def tell(self, name: str, data: object) -> None:
        """Tell everybody."""
        if not self._queues:
            return
        text = message(name, data)
        for queue in list(self._queues):
            if queue.full():
                self._end(queue)
            else:
                queue.put_nowait(text)

    def close(self) -> None:
        """End all of them."""
        for queue in list(self._queues):
            self._end(queue)

    async def listen(self, idle_s: float) -> AsyncGenerator[bytes, None]:
        """What to send to one listener, beginning with all there is; a comment after each `idle_s` without news.

        Ends with the server, or when its queue is full. Raises FullError.
        """
        if len(self._queues) >= CLIENTS_MAX:
            raise FullError
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_MAX)
        self._queues.add(queue)
        try:
            for text in self._beginning():
                yield text
            while True:
                try:
                    async with asyncio.timeout(idle_s):
                        next_text = await queue.get()
                except TimeoutError:
                    next_text = b": still here\n\n"
                if next_text is None:
                    return
                yield next_text
        finally:
            self._queues.discard(queue)

    def _end(self, queue: "asyncio.Queue[bytes | None]") -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
