"""`doctor`: whether this machine can hold a local subnet, or a cluster serves Subnets. Writes a probe file, binds a socket."""

import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated

from p2pnet.cli.documents import Check, Examination
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import SubnetOptions, context_option, namespace_option, on_option
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import LiveTarget, Target
from p2pnet.model.errors import P2pnetError
from p2pnet.model.units import format_size
from p2pnet.store import archive
from p2pnet.store.state import make_socket_directory, socket_directory

EXAMPLE = "p2pnet doctor"
FREE_DISK_BYTES = 1 << 30  # a long run's events and a few uploads
FREE_MEMORY_BYTES = 512 << 20  # some ten nodes
OPEN_FILES = 4096  # a lab keeps a pipe, a log and a socket per node
LIBRARIES = "p2pnet-node"  # the same files, for those who want no more than these
UDP_BUFFER_BYTES = 1 << 20  # bursts of a full mesh on one machine


@dataclass(frozen=True)
class DoctorOptions(SubnetOptions):
    """Check this machine.

    Whether it can hold a subnet, and what to do where it cannot.
    """

    on: Annotated[LiveTarget | None, on_option("What to check: this machine, or a cluster.  [default: local]")] = field(
        default=None, kw_only=True
    )
    namespace: Annotated[
        str | None, namespace_option("Namespace to check rights in, in a cluster.  [default: the context's]")
    ] = field(default=None, kw_only=True)
    context: Annotated[str | None, context_option("Cluster to check")] = field(default=None, kw_only=True)


async def run(options: DoctorOptions, session: Session) -> Outcome:
    """Exit 3 when something is in the way, 0 with warnings."""
    import asyncio

    del options
    target = session.target()
    if target.kind != "local":
        from p2pnet.cli import cluster_checks
        from p2pnet.cli.targets.cluster.target import ClusterTarget

        assert isinstance(target, ClusterTarget)  # noqa: S101 - there is no third
        return await cluster_checks.examine(target)
    probes: dict[str, Callable[[], Check]] = {
        "python": _python,
        "state directory": lambda: _state_directory(target.state.root),
        "lab sockets": _sockets,
        "UDP on loopback": _loopback,
        "open files": _open_files,
        "UDP buffers": _udp_buffers,
        "memory": _memory,
        "subnets": lambda: _subnets(target),
    }
    checks = [await asyncio.to_thread(_told, name, probe) for name, probe in probes.items()]
    failed = [check.name for check in checks if check.result == "failed"]
    if failed:
        failure = CommandError(
            f"this machine cannot hold a subnet: {', '.join(failed)}",
            where="p2pnet doctor",
            next_step="do what stands under each failed check",
            exit_code=ExitCode.NOT_FOUND,
        )
        return Outcome(Examination(checks=checks), exit_code=failure.exit_code, failure=failure)
    return Outcome(Examination(checks=checks), next=(_next(target),))


def _next(target: Target) -> str:
    """What helps the subnet that is there: `up` with other nodes would edit it."""
    presences = {name: target.presence(name) for name in target.names()}
    for presence, verb in (("up", "status"), ("starting", "status"), ("dead", "up"), ("damaged", "down")):
        for name, seen in presences.items():
            if seen == presence:
                return f"p2pnet {verb} {name}"
    return "p2pnet up demo --nodes 10"


def _told(name: str, probe: Callable[[], Check]) -> Check:
    """What a probe finds; one that cannot even look has found that."""
    try:
        return probe()
    except OSError as error:
        found = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        next_step = "make it accessible, or set P2PNET_STATE to a directory of yours"
        return Check(name=name, result="failed", found=found, next_step=next_step)
    except P2pnetError as error:
        next_step = getattr(error, "hint", "") or "set P2PNET_STATE to a directory of yours"
        return Check(name=name, result="failed", found=str(error), next_step=next_step)


def _python() -> Check:
    found = f"{sys.version.split()[0]} on {sys.platform}"
    try:
        version = metadata.version(LIBRARIES)
    except metadata.PackageNotFoundError:
        return Check(name="python", result="ok", found=found)
    return Check(
        name="python",
        result="warning",
        found=f"{found}: {LIBRARIES} {version} is installed over files of p2pnet {metadata.version('p2pnet')}",
        next_step=f"pip uninstall {LIBRARIES}, then pip install --force-reinstall --no-deps p2pnet",
    )


def _state_directory(root: Path) -> Check:
    from p2pnet.cli.targets.lab_process import FREE_BYTES_MIN

    name = "state directory"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        free = shutil.disk_usage(root).free
    except OSError as error:
        return Check(
            name=name,
            result="failed",
            found=f"{root}: {error.strerror}",
            next_step="set P2PNET_STATE to a directory of yours",
        )
    if free < FREE_BYTES_MIN:
        return Check(
            name=name,
            result="failed",
            found=f"{root}: {format_size(free)} free, {format_size(FREE_BYTES_MIN)} are needed",
            next_step="make room, or set P2PNET_STATE",
        )
    if free < FREE_DISK_BYTES:
        return Check(
            name=name,
            result="warning",
            found=f"{root}: {format_size(free)} free",
            next_step="make room, or set P2PNET_STATE",
        )
    return Check(name=name, result="ok", found=f"{root}: {format_size(free)} free")


def _sockets() -> Check:
    folder = socket_directory(os.environ)
    try:
        make_socket_directory(folder)
    except (P2pnetError, OSError) as error:
        return Check(
            name="lab sockets",
            result="failed",
            found=str(error),
            next_step="set XDG_RUNTIME_DIR to a directory of yours",
        )
    return Check(name="lab sockets", result="ok", found=str(folder))


def _loopback() -> Check:
    from p2pnet.quic.hosts import loopback

    host = loopback()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one, socket.socket(family, socket.SOCK_DGRAM) as other:
            one.bind((host, 0))
            one.settimeout(1.0)
            other.sendto(b"p2pnet", one.getsockname())
            one.recvfrom(16)
    except OSError as error:
        return Check(
            name=f"UDP on {host}",
            result="failed",
            found=str(error),
            next_step="let UDP through on the loopback interface",
        )
    return Check(name=f"UDP on {host}", result="ok", found="a datagram came through")


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    best = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if best < OPEN_FILES:
        return Check(name="open files", result="warning", found=f"at most {best}", next_step=f"ulimit -n {OPEN_FILES}")
    return Check(name="open files", result="ok", found=f"{soft} now, {best} at most")


def _udp_buffers() -> Check:
    try:
        largest = int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return Check(name="UDP buffers", result="ok", found="not told by this system")
    if largest < UDP_BUFFER_BYTES:
        next_step = f"as root: sysctl -w net.core.rmem_max={4 * UDP_BUFFER_BYTES}"
        return Check(name="UDP buffers", result="warning", found=f"at most {format_size(largest)}", next_step=next_step)
    return Check(name="UDP buffers", result="ok", found=f"at most {format_size(largest)}")


def _memory() -> Check:
    from p2pnet.cli.capacity import this_machine

    machine = this_machine()
    if machine.memory_bytes is None:
        return Check(name="memory", result="ok", found="not told by this system")
    limits = " (limits of the control group)" if machine.confined else ""
    found = f"{format_size(machine.memory_bytes)} free, {machine.cores:g} cores{limits}"
    if machine.memory_bytes < FREE_MEMORY_BYTES:
        return Check(name="memory", result="warning", found=found, next_step="start fewer than ten nodes")
    return Check(name="memory", result="ok", found=found)


def _subnets(target: Target) -> Check:
    presences = {name: target.presence(name) for name in target.names()}
    for name, presence in presences.items():
        if presence == "dead":
            archive.invalidate_open_runs(target.state, name, f"the lab of {name} died while the run was open")
    odd = [f"{name} is {presence}" for name, presence in presences.items() if presence in ("dead", "damaged")]
    up = sum(presence == "up" for presence in presences.values())
    if odd:
        next_step = "; ".join(
            f"p2pnet down {name}" for name, presence in presences.items() if presence in ("dead", "damaged")
        )
        return Check(name="subnets", result="warning", found=f"{up} up, {', '.join(odd)}", next_step=next_step)
    return Check(name="subnets", result="ok", found=f"{up} up")
