"""A lab's life around its server: started, kept findable, ended in good order. For `__main__`."""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import time
from typing import IO

import msgspec

from p2pnet.lab.backends.local import LocalBackend
from p2pnet.lab.backends.pod import Mounts, PodBackend
from p2pnet.lab.http.server import LabServer, PodServer
from p2pnet.lab.lab import Lab
from p2pnet.lab.nodes.links import Links
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.text import address_text
from p2pnet.quic.hosts import ANY
from p2pnet.store import archive, logs
from p2pnet.store.files import write_atomic
from p2pnet.store.state import SOCKET_FALLBACK, LabRecord, SubnetPaths
from p2pnet.subnet.spec import Subnet

CHECK_S = 1.0  # between two checks that commands can still find this lab
MISSING_CHECKS = 3  # in a row without the subnet's directory: a command that replaces it makes it again at once

log = logging.getLogger("p2pnet.lab")


class Presence:
    """Keeps a local lab findable: its socket, record and lock are made again when somebody removes them.

    A logout takes $XDG_RUNTIME_DIR away and cleaners of /tmp remove sockets, but a lab outlives the session that started
    it. A lab whose whole directory is removed was given up, and ends.
    """

    def __init__(self, paths: SubnetPaths, server: LabServer, version: str) -> None:
        self._paths = paths
        self._server = server
        self._version = version
        self._record: LabRecord | None = None
        self._lock: IO[str] | None = None
        self._missing = 0
        self._problem = ""

    def announce(self) -> None:
        """Write the record; written again it keeps the time of the start. Raises OSError."""
        if self._record is None:
            self._record = self._paths.write_record(self._server.path, self._version, now=time.time())
            return
        self._record = msgspec.structs.replace(self._record, socket=str(self._server.path))
        write_atomic(self._paths.record, msgspec.json.encode(self._record))

    def close(self) -> None:
        """Release a lock that was made again; idempotent."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.close()
            self._lock = None

    async def keep(self) -> str:
        """Check once a second and repair; returns the reason why the lab should end."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self.check()
                self._problem = ""
            except (OSError, P2pnetError) as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    log.warning("commands may not find this lab: %s", error)
            if self._missing >= MISSING_CHECKS:
                return f"its directory {self._paths.root} was removed"

    async def check(self) -> None:
        """Repair what is missing. Raises TargetError, OSError for what cannot be repaired."""
        if not self._paths.root.is_dir():
            self._missing += 1
            return
        self._missing = 0
        if not self._server.reachable:
            await self._restore_socket()
        record = self._paths.read_record()
        if record is None or record.pid != os.getpid() or record.socket != str(self._server.path):
            self.announce()
            log.warning("%s was written again: it was missing or another lab's", self._paths.record)
        self._hold_lock()

    async def _restore_socket(self) -> None:
        """Listen where a new lab would; below /tmp where that directory cannot be made any more."""
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
        """Make and lock a removed lock file anew: of the removed one nobody else can see that it is held."""
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


async def serve_local(paths: SubnetPaths, subnet: Subnet) -> int:
    """Run the lab of the local target on its unix socket; returns the exit code. Raises P2pnetError, OSError."""
    if paths.live_lab() is not None:
        raise TargetError(f"subnet {paths.name} has a lab already", exit_code=2)
    paths.make()
    paths.problem.unlink(missing_ok=True)
    if when := logs.cut_short(paths.lab_log):
        log.warning(
            "the lab before this one ended after %s without a word: it was killed, or the machine stopped", when
        )
    _close_open_runs(paths)
    lab = Lab(paths, LocalBackend(paths, subnet))
    _stop_on_signals(lab)
    server = LabServer(lab, paths.socket())
    await server.open()
    presence = Presence(paths, server, lab.version)
    keeping = asyncio.create_task(_keep_present(presence, lab), name="presence")
    try:
        presence.announce()
        await _until_stopped(lab)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await lab.close()
        await server.close()
        presence.close()
        paths.record.unlink(missing_ok=True)
    if lab.expired:
        take_down(paths, lab.stop_reason)
    if lab.failed:
        raise TargetError(lab.stop_reason)
    return 0


async def serve_pod(
    paths: SubnetPaths, mounts: Mounts, namespace: str, listen: tuple[str, int], door: socket.socket | None = None
) -> int:
    """Run the lab of a subnet in a cluster, on TCP, on `door` where that listens already; returns the exit code.

    Raises P2pnetError, OSError.
    """
    paths.make()
    backend = PodBackend(mounts, namespace, host=ANY)
    _close_open_runs(paths)
    lab = Lab(paths, backend, Links(backend.identity, lambda _node: True, host=ANY))
    _stop_on_signals(lab)
    server = PodServer(lab, mounts.token)
    try:
        host, port = await server.open(*listen, door)
        log.info("subnet %s: listening on %s", paths.name, address_text(host, port))
        await _until_stopped(lab)
    finally:
        await lab.close()
        await server.close()
    return 0


async def _keep_present(presence: Presence, lab: Lab) -> None:
    """Stop a lab that cannot be found any more; a bug in here stops it too, or it would run on unseen."""
    try:
        lab.stop(await presence.keep())
    except Exception as error:
        log.exception("the lab cannot stay findable")
        lab.stop(f"it cannot stay findable: {error}")


def take_down(paths: SubnetPaths, reason: str) -> None:
    """Remove the subnet as `down` does, unless a command is at work on it, and leave the reason for later commands."""
    with contextlib.suppress(TargetError), paths.lock(wait_s=0.0):
        write_atomic(paths.end_reason, reason.encode())
        logs.keep(paths)
        shutil.rmtree(paths.root)


def _close_open_runs(paths: SubnetPaths) -> None:
    for run in archive.invalidate_open_runs(paths.state, paths.name, "its lab ended during the run"):
        log.warning("run %s was left open by a former lab and is invalid", run)


def _stop_on_signals(lab: Lab) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lab.stop, f"it got {signal.Signals(number).name}")


async def _until_stopped(lab: Lab) -> None:
    starting = asyncio.create_task(lab.start())
    stopping = asyncio.create_task(lab.stopping.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        log.info("subnet %s: %s (pid %d)", lab.paths.name, logs.AT_WORK, os.getpid())
    await stopping
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    log.info("%s: %s", logs.STOPS, lab.stop_reason)
