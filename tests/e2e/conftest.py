"""p2pnet as a program, in a state directory of its own that is emptied afterwards, with nothing of it left running."""

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.cli.app import main
from p2pnet.store import processes

STORY_S = 3 * PATIENCE_S  # for a command that is a whole story or comparison
PROGRAM = [sys.executable, "-m", "p2pnet.cli"]


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> list[str]:
        """The three lines of an error, without their labels."""
        lines = self.err.splitlines()
        start = next(index for index, line in enumerate(lines) if line.startswith("error:"))
        assert [line[:6] for line in lines[start : start + 3]] == ["error:", "where:", " next:"], self.err
        return [line[7:] for line in lines[start : start + 3]]


class Person:
    """Somebody at a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.environment = {**os.environ, "P2PNET_STATE": str(self.state), "NO_COLOR": "1", "COLUMNS": "80"}
        self._seen: set[tuple[int, str]] = set()

    def start(self, *words: str, file_bytes_max: int | None = None, **how: Any) -> "subprocess.Popen[str]":
        """Run in the background; `file_bytes_max` is a disk that takes no larger file."""

        def limit() -> None:
            assert file_bytes_max is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

        # Python would keep as bytecode what of it fits into such a file, and everybody would stumble over that afterwards.
        unwritten = {} if file_bytes_max is None else {"PYTHONDONTWRITEBYTECODE": "1"}
        given: dict[str, Any] = {
            "env": self.environment | unwritten, "cwd": self.folder, "text": True, "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "preexec_fn": None if file_bytes_max is None else limit,
        }  # fmt: skip
        return subprocess.Popen([*PROGRAM, *words], **{**given, **how})

    def types(self, *words: str, **how: Any) -> Ended:
        """Run to the end, however it ends; a traceback is never an end."""
        with self.start(*words, **how) as process:
            out, err = process.communicate(timeout=STORY_S)
        assert "Traceback" not in err, err
        return Ended(process.returncode, out or "", err or "")

    def calls(self, *words: str) -> Ended:
        """As `types`, in this process: quicker, where how a process starts and ends is not the point."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        ):  # fmt: skip
            for name in ("P2PNET_STATE", "NO_COLOR", "COLUMNS"):
                patch.setenv(name, self.environment[name])
            patch.setattr(sys, "argv", ["p2pnet", *words])
            code = main(words)
        return Ended(int(code), out.getvalue(), err.getvalue())

    def run(self, *words: str, code: int = 0, inside: bool = False, **how: Any) -> Ended:
        """Run to the end that is expected."""
        ended = self.calls(*words) if inside else self.types(*words, **how)
        assert ended.code == code, f"p2pnet {' '.join(words)}: {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def document(self, *words: str, code: int = 0) -> Any:
        """The JSON it prints."""
        return json.loads(self.run(*words, "-o", "json", code=code, inside=True).out)

    def subnet(self, name: str) -> Path:
        """Where its files are."""
        return self.state / "subnets" / name

    def lab(self, name: str) -> int:
        """The pid of its lab. What runs now is remembered, for whoever is about to kill it."""
        self.processes()
        return int(json.loads((self.subnet(name) / "lab.json").read_bytes())["pid"])

    def member(self, name: str, node: str) -> dict[str, Any]:
        """A node's line of the status."""
        members = self.document("status", name)["members"]
        return next(member for member in members if member["name"] == node)

    def processes(self) -> list[int]:
        """Processes of any subnet under this state directory that live, or were seen here and still hold their files.

        A killed process has no environment any more from before its files are closed.
        """
        owned = {int(entry.name) for entry in Path("/proc").glob("[0-9]*") if self._owns(int(entry.name))}
        self._seen.update((pid, started) for pid in owned if (started := processes.start_time(pid)) is not None)
        self._seen = {(pid, started) for pid, started in self._seen if processes.is_alive(pid, started)}
        return sorted(pid for pid, _ in self._seen)

    def _owns(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False  # gone, or a zombie
        return f"P2PNET_STATE={self.state}".encode() in environment and pid != os.getpid()

    def children(self, pid: int) -> list[int]:
        """Live child processes."""
        with contextlib.suppress(OSError):
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []


def until(holds: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """What `holds` gives as soon as it gives something true."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session", name="until")
def _until() -> Callable[..., Any]:
    return until


def _end(person: Person) -> None:
    """Nothing outlives its test, whatever the test did to it."""
    if list((person.state / "subnets").glob("[!.]*")):
        person.types("down", "--all", "--yes")
    with contextlib.suppress(AssertionError):
        until(lambda: not person.processes(), 15.0)
    for pid in person.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody with an empty state directory."""
    person = Person(tmp_path)
    yield person
    _end(person)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with a subnet `demo` of three nodes that nobody breaks, and one finished run in it."""
    person = Person(tmp_path_factory.mktemp("settled"))
    person.run("up", "demo", "--nodes", "3")
    person.run("inject", "demo", "--size", "2KiB", "--count", "2", "--from", "node-0")
    yield person
    _end(person)
