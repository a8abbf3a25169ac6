"""The state directory of this user: which file is where, the lock of a subnet, the record of its lab.

Used by the command line and the lab alike, so that both mean the same files.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from p2pnet.model.cgroup import Cgroups
from p2pnet.model.errors import TargetError
from p2pnet.model.ids import check_subnet_name
from p2pnet.model.jobs import Problem
from p2pnet.store import processes
from p2pnet.store.files import private_directory, write_atomic

SOCKET_PATH_BYTES_MAX = 103  # sun_path holds 104 bytes on macOS and the BSDs, with the zero at its end
LOCK_POLL_S = 0.05
HOLDER_CHARS_MAX = 80  # read from a lock file
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no file can be made, but files can be removed


class LabRecord(msgspec.Struct, frozen=True):
    """lab.json: which process is the lab of this subnet, and where it listens."""

    pid: int
    start_time: str
    socket: str
    version: str
    started_at: float
    """Unix seconds."""
    oom_kills: int | None = None
    """The kernel's count of out-of-memory kills in its cgroup at the start; None where the system has no such count."""
    pid_namespace: str = ""
    """The PID namespace that `pid` belongs to; empty where the system has none."""
    lock: str = ""
    """Path of the file that the lab keeps locked while it lives; set by the reader, not stored."""

    @property
    def foreign(self) -> bool:
        """Whether the lab is in another PID namespace (a container): its pid means nothing here."""
        return bool(self.pid_namespace) and self.pid_namespace != processes.pid_namespace()

    @property
    def alive(self) -> bool:
        """Whether the recorded process still runs; of a foreign one, whether its lock is held."""
        return _is_held(Path(self.lock)) if self.foreign else processes.is_alive(self.pid, self.start_time)


@dataclass(frozen=True)
class State:
    """The state directory: `subnets/NAME` and `runs/ID`."""

    root: Path

    @classmethod
    def default(cls, environ: Mapping[str, str] | None = None) -> "State":
        """`$P2PNET_STATE`, else `$XDG_STATE_HOME/p2pnet`, else `~/.local/state/p2pnet`; always absolute.

        Without a home directory (no HOME, no passwd entry) any path of the result raises TargetError (exit 2).
        """
        env = os.environ if environ is None else environ
        base = env.get("XDG_STATE_HOME") or ""
        try:
            if env.get("P2PNET_STATE"):
                return cls(Path(env["P2PNET_STATE"]).expanduser().absolute())
            # The XDG specification: a relative path is invalid and to be ignored.
            home = Path(base) if base.startswith("/") else Path(env.get("HOME") or Path.home()) / ".local" / "state"
        except RuntimeError:
            return _NoHomeState()
        return cls((home / "p2pnet").absolute())

    @property
    def subnets(self) -> Path:
        """The directory of all subnets."""
        return self.root / "subnets"

    @property
    def runs(self) -> Path:
        """The directory of all runs."""
        return self.root / "runs"

    def subnet(self, name: str) -> "SubnetPaths":
        """The paths of one subnet, existing or not. Raises SpecError for an invalid name."""
        return SubnetPaths(self, check_subnet_name(name))

    def names(self) -> list[str]:
        """Names of the subnets that have a directory, sorted."""
        try:
            entries = [entry.name for entry in self.subnets.iterdir() if entry.is_dir()]
        except OSError:
            return []
        return sorted(name for name in entries if not name.startswith("."))

    def run(self, run_id: str) -> Path:
        """The directory of one run."""
        return self.runs / run_id

    def check(self) -> None:
        """TargetError (exit 2) where nothing can be kept here: it cannot be read, is no directory, or cannot be made.

        Else whoever finds nothing in it would say that there is nothing. Makes nothing.
        """
        place = self.root
        try:
            for place in (self.root, self.subnets, self.runs):
                if place is self.root or place.exists():
                    os.scandir(place).close()
        except FileNotFoundError:
            self._check_makeable()
        except OSError as error:
            raise _useless(place, error) from error

    def _check_makeable(self) -> None:
        import tempfile  # for those who are here for the first time

        try:
            place = next(one for one in self.root.parents if one.exists())
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise _useless(self.root, error) from error


class _NoHomeState(State):
    """The state directory of a user without a home directory: an error only when a path is needed."""

    def __init__(self) -> None:
        """No fields: `root` is a property."""

    @property
    def root(self) -> Path:
        """Always raises TargetError (exit 2)."""
        raise TargetError(
            f"no home directory is known for user {os.getuid()}",
            exit_code=2,
            hint="set P2PNET_STATE to a directory of yours, or HOME",
        )


@dataclass(frozen=True)
class NodePaths:
    """The files of one node."""

    root: Path

    @property
    def config(self) -> Path:
        """The node's `NodeConfig`."""
        return self.root / "node.json"

    @property
    def log(self) -> Path:
        """What the node writes to stdout and stderr."""
        return self.root / "node.log"

    @property
    def network(self) -> Path:
        """The node's `NodeNetwork` when it starts; missing: nothing is shaped."""
        return self.root / "network.json"

    @property
    def identity(self) -> Path:
        """tls.crt, tls.key and ca.crt."""
        return self.root / "identity"


@dataclass(frozen=True)
class SubnetPaths:
    """The files of one subnet."""

    state: State
    name: str

    @property
    def root(self) -> Path:
        """The subnet's directory, 0700."""
        return self.state.subnets / self.name

    @property
    def document(self) -> Path:
        """The Subnet document as checked JSON."""
        return self.root / "subnet.json"

    @property
    def record(self) -> Path:
        """The `LabRecord`."""
        return self.root / "lab.json"

    @property
    def problem(self) -> Path:
        """A `Problem`: why the lab could not start; missing when it did."""
        return self.root / "problem.json"

    @property
    def lab_log(self) -> Path:
        """What the lab writes to stdout and stderr."""
        return self.root / "lab.log"

    @property
    def members(self) -> Path:
        """The `Membership` that nodes boot from."""
        return self.root / "members.json"

    @property
    def authority(self) -> Path:
        """ca.crt and ca.key, 0700."""
        return self.root / "authority"

    @property
    def lab_identity(self) -> Path:
        """The lab's own leaf."""
        return self.root / "lab"

    @property
    def ports(self) -> Path:
        """`{node: UDP port}`."""
        return self.root / "ports.json"

    @property
    def uploads(self) -> Path:
        """Spooled uploads."""
        return self.root / "uploads"

    @property
    def lock_file(self) -> Path:
        """Locked by commands while they change the subnet; stays when the directory is removed."""
        return self.state.subnets / f".{self.name}.lock"

    @property
    def lab_lock(self) -> Path:
        """Locked by the lab's process from its start to its end."""
        return self.state.subnets / f".{self.name}.lab"

    def forget(self) -> None:
        """Remove the locks of a subnet that is gone and whose name nobody will use again: they are otherwise left for good."""
        if not self.root.exists() and not self.lab_exists() and not self.is_locked():
            for path in (self.lab_lock, self.lock_file):
                path.unlink(missing_ok=True)

    def lab_exists(self) -> bool:
        """Whether a lab's process lives, which may not have written its record yet."""
        return _is_held(self.lab_lock)

    @property
    def end_reason(self) -> Path:
        """Why the subnet ended by itself; stays when the directory is removed, until the subnet is started again."""
        return self.state.subnets / f".{self.name}.ended"

    @property
    def exists(self) -> bool:
        """Whether the subnet has a document here."""
        return self.document.exists()

    @property
    def begun(self) -> bool:
        """Whether `up` got at least as far as the document."""
        return self.document.exists() or self.lab_log.exists()

    def node(self, name: str) -> NodePaths:
        """The paths of one node."""
        return NodePaths(self.root / "nodes" / name)

    def make(self) -> "SubnetPaths":
        """Make the directories of this subnet; returns itself. Raises OSError."""
        self.state.runs.mkdir(parents=True, exist_ok=True)
        private_directory(self.root)
        return self

    def write_document(self, document: Mapping[str, object]) -> None:
        """Replace the Subnet document, durably. Raises OSError."""
        write_atomic(self.document, msgspec.json.format(msgspec.json.encode(document)), durable=True)

    def read_record(self) -> LabRecord | None:
        """The lab's record; None when there is none or it is damaged."""
        try:
            record = msgspec.json.decode(self.record.read_bytes(), type=LabRecord)
            return msgspec.structs.replace(record, lock=str(self.lab_lock))
        except (OSError, msgspec.DecodeError):
            return None

    def live_lab(self) -> LabRecord | None:
        """The record of the lab if it runs, else None. A lab without a readable record is recognised by its socket."""
        record = self.read_record()
        if record is not None and record.alive:
            return record
        pid = processes.listener_pid(self.socket())
        started = None if pid is None else processes.start_time(pid)
        if pid is None or started is None:  # a dead lab's socket listens as long as a child that still ends holds it
            return None
        return LabRecord(pid, started, str(self.socket()), "", 0.0)

    def read_problem(self) -> Problem | None:
        """Why the last start of the lab failed; None when it did not."""
        try:
            return msgspec.json.decode(self.problem.read_bytes(), type=Problem)
        except (OSError, msgspec.DecodeError):
            return None

    def read_end_reason(self) -> str:
        """Why the subnet ended by itself; empty: it did not."""
        try:
            return self.end_reason.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def write_record(self, socket: Path, version: str, *, now: float) -> LabRecord:
        """Record this process as the subnet's lab; `now` in Unix seconds. Raises OSError."""
        pid = os.getpid()
        start_time, kills = processes.start_time(pid) or "", Cgroups().oom_kills()
        record = LabRecord(pid, start_time, str(socket), version, now, kills, processes.pid_namespace())
        write_atomic(self.record, msgspec.json.encode(record))
        return record

    @contextlib.contextmanager
    def lock(self, *, wait_s: float = 30.0) -> Iterator[None]:
        """Hold the subnet's lock inside the block. Raises TargetError (exit 2) when it cannot be had within `wait_s`.

        Where the lock file cannot be made (a full disk) the subnet's directory is locked instead, for `down` to work.
        """
        deadline = time.monotonic() + wait_s
        with self._open_lock() as descriptor:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise TargetError(
                            f"another p2pnet command is working on subnet {self.name}{_holder(self.lock_file)}",
                            exit_code=2,
                            hint="wait for it to end, then try again",
                        ) from None
                    time.sleep(LOCK_POLL_S)
            with contextlib.suppress(OSError):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} on {_host()}".encode())
            yield

    @contextlib.contextmanager
    def _open_lock(self) -> Iterator[int]:
        try:
            self.state.subnets.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in NO_SPACE or not self.root.is_dir():
                raise
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether a command holds the subnet's lock now. Makes no file."""
        return _is_held(self.lock_file) or _is_held(self.root)

    def socket(self, environ: Mapping[str, str] | None = None) -> Path:
        """The socket of this subnet's lab: named by a hash of its directory, so that the path is always under 104 bytes."""
        digest = hashlib.blake2b(os.fsencode(self.root.absolute()), digest_size=8).hexdigest()
        return socket_directory(os.environ if environ is None else environ) / f"{digest}.sock"


def _useless(place: Path, error: OSError) -> TargetError:
    return TargetError(
        f"the state directory is of no use: {error.strerror}",
        where=str(place),
        exit_code=2,
        hint="make it accessible, or set P2PNET_STATE to a directory of yours",
    )


def _is_held(path: Path) -> bool:
    """Whether another process holds the lock of a file or directory; False when it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _holder(lock_file: Path) -> str:
    """` (process 12 on host)`: what the lock's holder wrote into it. The host tells containers apart, whose pids repeat."""
    with contextlib.suppress(OSError):
        if text := lock_file.read_text(encoding="utf-8", errors="replace")[:HOLDER_CHARS_MAX].strip():
            return f" (process {text})"
    return ""


def _host() -> str:
    return os.uname().nodename[:64]


SOCKET_FALLBACK: Mapping[str, str] = {}
"""An environment for `SubnetPaths.socket` that puts it below /tmp."""


def socket_directory(environ: Mapping[str, str]) -> Path:
    """`$XDG_RUNTIME_DIR/p2pnet` where that is writable and short enough, else `/tmp/p2pnet-<uid>`."""
    runtime = environ.get("XDG_RUNTIME_DIR") or ""
    name_bytes = len("/p2pnet/") + 16 + len(".sock")
    if (
        runtime.startswith("/")
        and len(os.fsencode(runtime)) + name_bytes <= SOCKET_PATH_BYTES_MAX
        and os.access(runtime, os.W_OK | os.X_OK)
    ):
        return Path(runtime) / "p2pnet"
    return Path(f"/tmp/p2pnet-{os.getuid()}")  # noqa: S108 - checked by `make_socket_directory`


def make_socket_directory(path: Path) -> None:
    """Make the socket's directory, 0700. Raises TargetError (exit 2) when another user owns it, OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.lstat().st_uid != os.getuid() or path.is_symlink():
        raise TargetError(
            f"{path} belongs to somebody else", exit_code=2, hint="set XDG_RUNTIME_DIR to a directory of yours"
        )
    path.chmod(0o700)
