"""A lab's life around its server: started, kept until told to stop, ended in good order. For `__main__`."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal

from p2pnet.lab.backends.local import LocalBackend
from p2pnet.lab.backends.pod import Mounts, PodBackend
from p2pnet.lab.http.server import LabServer, PodServer
from p2pnet.lab.lab import Lab
from p2pnet.lab.nodes.links import Links
from p2pnet.lab.presence import Presence
from p2pnet.model.addresses import address_text
from p2pnet.model.errors import TargetError
from p2pnet.quic.hosts import ANY
from p2pnet.store import archive, logs
from p2pnet.store.files import write_atomic
from p2pnet.store.state import SubnetPaths
from p2pnet.subnet.spec import Subnet

log = logging.getLogger("p2pnet.lab")


async def serve_local(paths: SubnetPaths, subnet: Subnet) -> int:
    """The lab of the local target, on its unix socket; the exit code. Raises P2pnetError, OSError."""
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
    _obey_signals(lab)
    server = LabServer(lab, paths.socket())
    await server.open()
    presence = Presence(paths, server, lab.version)
    keeping = asyncio.create_task(_stay(presence, lab), name="presence")
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
        _take_down(paths, lab.stop_reason)
    if lab.failed:
        raise TargetError(lab.stop_reason)
    return 0


async def _stay(presence: Presence, lab: Lab) -> None:
    """Ends the lab that cannot be found any more; a bug here must not leave it behind in silence."""
    try:
        lab.stop(await presence.keep())
    except Exception as error:
        log.exception("the lab cannot keep its place")
        lab.stop(f"it cannot keep its place: {error}")


async def serve_pod(paths: SubnetPaths, mounts: Mounts, namespace: str, listen: tuple[str, int]) -> int:
    """The lab of a subnet in a cluster, on TCP; the exit code. Raises P2pnetError, OSError."""
    paths.make()
    ground = PodBackend(mounts, namespace, host=ANY)
    _close_open_runs(paths)
    lab = Lab(paths, ground, Links(ground, lambda _node: True, host=ANY))
    _obey_signals(lab)
    server = PodServer(lab, mounts.token)
    try:
        host, port = await server.open(*listen)
        log.info("subnet %s: listening on %s", paths.name, address_text(host, port))
        await _until_stopped(lab)
    finally:
        await lab.close()
        await server.close()
    return 0


def _take_down(paths: SubnetPaths, reason: str) -> None:
    """Remove the subnet as `down` does, unless a command is at work on it, and leave a word for who asks for it."""
    with contextlib.suppress(TargetError), paths.lock(wait_s=0.0):
        write_atomic(paths.epitaph, reason.encode())
        logs.keep(paths)
        shutil.rmtree(paths.root)


def _close_open_runs(paths: SubnetPaths) -> None:
    for run in archive.invalidate_open_runs(paths.state, paths.name, "its lab ended during the run"):
        log.warning("run %s was left open by a former lab and is invalid", run)


def _obey_signals(lab: Lab) -> None:
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
