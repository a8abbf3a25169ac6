"""The nursery's two pipes with its lab or its warden: lines in, JSON lines out, neither ever blocking the nursery."""

import os
import selectors
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

LINE_BYTES_MAX = 1 << 20
BACKLOG_BYTES_MAX = 4 << 20
"""Unread events: beyond this the nursery reads no requests until the lab reads events."""


class Lines:
    """Registers itself with the nursery's selector; `gone` turns true when the other side has closed either pipe."""

    def __init__(
        self, selector: selectors.BaseSelector, in_fd: int, out_fd: int, on_line: Callable[[bytes], None]
    ) -> None:
        self.gone = False
        self._selector = selector
        self._in, self._out = in_fd, out_fd
        self._on_line = on_line
        self._unread = bytearray()
        self._unsent = bytearray()
        self._writing = False
        os.set_blocking(out_fd, False)
        self._reading = False
        self._read_on()

    def tell(self, event: str, **fields: Any) -> None:
        """Send one event."""
        self._unsent += msgspec.json.encode({"event": event, **fields}) + b"\n"
        self._write()

    @property
    def busy(self) -> bool:
        """Whether something told has not left yet."""
        return bool(self._unsent)

    def close(self) -> None:
        """Listen no more, and close both pipes."""
        self.gone = True
        self._watch_writable(wanted=False)
        if self._reading:
            self._reading = False
            self._selector.unregister(self._in)
        os.close(self._in)
        os.close(self._out)

    def finish(self) -> None:
        """Send what is left, waiting for the reader: the last words before the process ends."""
        os.set_blocking(self._out, True)
        if not self.gone:
            self._write()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._selector.register(self._in, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        if self.gone:  # closed in this very turn
            return
        data = os.read(self._in, 1 << 16)
        if not data:
            self.gone = True
            return
        self._unread += data
        for line in self._lines():
            self._on_line(line)

    def _lines(self) -> Iterator[bytes]:
        while (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end])
            del self._unread[: end + 1]
            if line.strip():
                yield line
        if len(self._unread) > LINE_BYTES_MAX:
            self._unread.clear()
            self.tell("refused", message=f"a line longer than {LINE_BYTES_MAX} bytes")

    def _write(self) -> None:
        if self.gone:
            return
        try:
            while self._unsent:
                del self._unsent[: os.write(self._out, self._unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.gone = True
            self._unsent.clear()
        self._watch_writable(wanted=bool(self._unsent))
        if len(self._unsent) > BACKLOG_BYTES_MAX and self._reading:
            self._reading = False
            self._selector.unregister(self._in)
        elif not self._unsent:
            self._read_on()

    def _watch_writable(self, *, wanted: bool) -> None:
        if wanted and not self._writing:
            self._selector.register(self._out, selectors.EVENT_WRITE, self._write)
        elif self._writing and not wanted:
            self._selector.unregister(self._out)
        self._writing = wanted
