"""A local lab stays where commands look for it: its socket, its record and its lock come back when somebody removes them.

A logout takes $XDG_RUNTIME_DIR away, cleaners of /tmp remove sockets: a lab that was started to outlive its session must be
found all the same. One whose whole directory is removed was given up, and ends.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from typing import IO

import msgspec

from p2pnet.lab.http.server import LabServer
from p2pnet.model.errors import P2pnetError
from p2pnet.store.files import write_atomic
from p2pnet.store.state import SOCKET_FALLBACK, LabRecord, SubnetPaths

LOOK_S = 1.0
GIVEN_UP_LOOKS = 3
"""In a row without the subnet's directory: a command that replaces it makes it again at once."""

log = logging.getLogger("p2pnet.lab")


class Presence:
    """Keeps one lab findable. `given_up(reason)` is called when its directory is gone for good."""

    def __init__(self, paths: SubnetPaths, server: LabServer, version: str) -> None:
        self._paths = paths
        self._server = server
        self._version = version
        self._record: LabRecord | None = None
        self._lock: IO[str] | None = None
        self._missing = 0
        self._problem = ""

    def announce(self) -> None:
        """Write the record, again with what it said of the start. Raises OSError."""
        if self._record is None:
            self._record = self._paths.write_record(self._server.path, self._version, now=time.time())
            return
        self._record = msgspec.structs.replace(self._record, socket=str(self._server.path))
        write_atomic(self._paths.record, msgspec.json.encode(self._record))

    def close(self) -> None:
        """Let go of a lock that was made again; idempotent."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.close()
            self._lock = None

    async def keep(self) -> str:
        """Look once a second, put right what is not; returns why the lab should end."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
                self._problem = ""
            except (OSError, P2pnetError) as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    log.warning("commands may not find this lab: %s", error)
            if self._missing >= GIVEN_UP_LOOKS:
                return f"its directory {self._paths.root} was removed"

    async def look(self) -> None:
        """Put right what is not. Raises TargetError, OSError for what cannot be."""
        if not self._paths.root.is_dir():
            self._missing += 1
            return
        self._missing = 0
        if not self._server.reachable:
            await self._restore_socket()
        record = self._paths.read_record()
        if record is None or record.pid != os.getpid() or record.socket != str(self._server.path):
            self.announce()
            log.warning("%s was written again: it was gone or not this lab's", self._paths.record)
        self._hold_lock()

    async def _restore_socket(self) -> None:
        """Where a new lab would listen; where that directory cannot be had any more, below /tmp."""
        lost, last = self._server.path, None
        for environment in (os.environ, SOCKET_FALLBACK):
            try:
                await self._server.restore(self._paths.socket(environment))
                break
            except (OSError, P2pnetError) as error:
                last = error
        else:
            raise last or OSError(f"{lost} cannot be made again")
        self.announce()
        log.warning("the socket %s was removed; listening at %s", lost, self._server.path)

    def _hold_lock(self) -> None:
        """Of a lock file that was removed nobody sees that it is held."""
        path = self._paths.lab_lock
        if path.exists():
            return
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise
        self.close()
        self._lock = lock
