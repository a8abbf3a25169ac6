"""`python -m p2pnet.lab`: the lab of one subnet, until it is told to stop.

`--state DIR --name NAME` for the local target; `--pod` in a cluster, where everything else is mounted or in the
environment.
"""

import gc
import sys

from p2pnet.lab.early import without_authorities
from p2pnet.supervisor.door import EVERYWHERE, address_in, open_door

POD_PORT = 8090
# Before the imports below, which take long on a busy machine: a probe waits then, and is not refused.
_door = (
    open_door(*address_in(sys.argv, "--listen", (EVERYWHERE, POD_PORT)))
    if __name__ == "__main__" and "--pod" in sys.argv
    else None
)
if __name__ == "__main__":
    gc.disable()  # until all is imported: there is nothing to collect, and looking takes a tenth of the time
    with without_authorities():
        import aiohttp.web  # noqa: F401

import argparse
import contextlib
import logging
import os
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvloop

from p2pnet.lab.backends.pod import MOUNTS, Mounts
from p2pnet.lab.serving import serve_local, serve_pod
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.jobs import Problem
from p2pnet.model.log_lines import UtcFormatter, log_all
from p2pnet.store.files import write_atomic
from p2pnet.store.state import State, SubnetPaths
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import Subnet

if __name__ == "__main__":
    gc.freeze()  # what was imported stays, and the collector need not go through it again and again
    gc.enable()

POD_STATE = Path("/var/lib/p2pnet")
POD_LISTEN = f"[::]:{POD_PORT}"  # every address, of both IP families

log = logging.getLogger("p2pnet.lab")


def main(arguments: Sequence[str] | None = None, door: socket.socket | None = None) -> int:
    """Parse and run. Exit code: 0 stopped, 2 a bad document or state directory, 3 nodes cannot be kept running, 70 a bug."""
    parser = _parser()
    options = parser.parse_args(arguments)
    log_all(logging.StreamHandler(sys.stderr))
    logging.getLogger("quic").setLevel(logging.WARNING)  # aioquic logs every handshake
    os.umask(0o077)
    if options.lock_fd is not None:
        os.set_inheritable(options.lock_fd, False)  # held by this process alone: nodes must not keep a dead lab's lock
    environment_state = Path(os.environ.get("P2PNET_STATE") or POD_STATE) if options.pod else None
    root = options.state or environment_state
    name = options.name or (os.environ.get("P2PNET_SUBNET") if options.pod else None)
    if root is None or not name:
        parser.error("--state and --name are needed, or --pod with P2PNET_SUBNET")
    try:
        paths = State(root.absolute()).subnet(name)
    except SpecError as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence for people
        return 2
    if options.pod:
        _log_to_file(paths)
    return _reported(paths, (lambda: _run_pod(paths, options, door)) if options.pod else (lambda: _run_local(paths)))


def _log_to_file(paths: SubnetPaths) -> None:
    """Log to a file too, for runs to keep: the lab cannot read its pod's log. `store.logs.rotate` bounds its length."""
    try:
        paths.make()
        handler = logging.FileHandler(paths.lab_log, encoding="utf-8", errors="replace")
    except OSError as error:
        log.warning("no log is kept with the runs: %s", error)
        return
    handler.setFormatter(UtcFormatter())
    logging.getLogger().addHandler(handler)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m p2pnet.lab", description="The lab of one p2pnet subnet.")
    parser.add_argument("--state", type=Path, help="the state directory; in a pod $P2PNET_STATE")
    parser.add_argument("--name", help="the subnet; its document is in the state directory; in a pod $P2PNET_SUBNET")
    parser.add_argument("--lock-fd", type=int, help="a descriptor that holds a lock for as long as this process lives")
    parser.add_argument("--pod", action="store_true", help="in a pod of a cluster")
    parser.add_argument("--mounts", type=Path, default=MOUNTS, help="in a pod: lab, token, members, spec (%(default)s)")
    parser.add_argument("--listen", type=_address, default=POD_LISTEN, help="in a pod: host:port (%(default)s)")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _run_local(paths: SubnetPaths) -> int:
    return uvloop.run(serve_local(paths, _read_document(paths)))


def _run_pod(paths: SubnetPaths, options: Namespace, door: socket.socket | None) -> int:
    namespace = os.environ.get("P2PNET_NAMESPACE") or "default"
    return uvloop.run(serve_pod(paths, Mounts(options.mounts), namespace, options.listen, door))


def _reported(paths: SubnetPaths, work: Callable[[], int]) -> int:
    """The exit code of `work`; a failure is logged, and written where `up` looks for it."""
    try:
        return work()
    except TargetError as error:
        return _failed(paths, Problem(str(error), error.hint, error.exit_code))
    except P2pnetError as error:
        return _failed(paths, Problem(str(error), exit_code=2))
    except OSError as error:
        return _failed(paths, Problem(f"{error.filename or paths.root}: {error.strerror}", exit_code=2))
    except Exception as error:
        log.exception("the lab ended")
        return _failed(paths, Problem(f"a bug of p2pnet: {type(error).__name__}: {error}", str(paths.lab_log), 70))


def _read_document(paths: SubnetPaths) -> Subnet:
    try:
        return load_subnet(paths.document.read_bytes(), str(paths.document))
    except FileNotFoundError:
        raise TargetError(f"there is no subnet {paths.name} under {paths.state.root}", exit_code=3) from None


def _failed(paths: SubnetPaths, problem: Problem) -> int:
    """Log a failure and write it where `up` looks for it; returns its exit code."""
    log.error("%s", problem.error)
    with contextlib.suppress(OSError):
        write_atomic(paths.problem, msgspec.json.encode(problem))
    return problem.exit_code


if __name__ == "__main__":
    sys.exit(main(door=_door))
