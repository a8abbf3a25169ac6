"""Programs of this machine that hold containers and images: docker, podman or nerdctl, as kind itself would choose one."""

import asyncio
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from p2pnet.cli.exit_code import ExitCode
from p2pnet.model.errors import TargetError

PROVIDER = "KIND_EXPERIMENTAL_PROVIDER"
"""kind's own variable: with which of them it makes clusters. Without it, kind takes the first of `PROGRAMS` that is there."""
PROGRAMS = ("docker", "nerdctl", "podman")
ASK_S = 60.0  # for a question: what there is
BUILD_S = 1800.0
PULL_S = 900.0
LOAD_S = 900.0
GRACE_S = 5.0  # for a program that is told to stop
TAIL_LINES = 3
LINE_CHARS_MAX = 4096
POLL_S = 0.02
DRAIN_S = 1.0  # for what a program said last, once it has ended
ABSENT = re.compile(r"no such|not known|not found|does not exist", re.IGNORECASE)
"""How they say that there is no such image."""
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x20-\x7e\u00a0-\uffff]")

Tell = Callable[[str], None]


class CommandRunner(Protocol):
    """How commands are run: the seam for tests."""

    def has(self, program: str) -> bool:
        """Whether the program is there."""

    def ask(self, words: Sequence[str]) -> str:
        """What a quick command says on stdout. ProgramFailedError (exit 3)."""

    async def run(self, words: Sequence[str], tell: Tell, *, timeout_s: float) -> None:
        """Run a command to its end; `tell` hears its lines. Ended with it when cancelled. ProgramFailedError (exit 3)."""


class ProgramFailedError(TargetError):
    """A program that this machine has, but which failed; `said` is the end of what it printed."""

    def __init__(self, words: Sequence[str], said: str) -> None:
        hint = f"run it by hand: {' '.join(words)}"
        if "connect to the Docker daemon" in said or "Cannot connect to Podman" in said:
            hint = "start docker, or the program that kind is to use (KIND_EXPERIMENTAL_PROVIDER=podman)"
        super().__init__(f"{words[0]} failed: {said}", where=" ".join(words), hint=hint, exit_code=ExitCode.NOT_FOUND)
        self.said = said


class ShellRunner:
    """A `CommandRunner` on this machine."""

    def has(self, program: str) -> bool:
        """By PATH."""
        return shutil.which(program) is not None

    def ask(self, words: Sequence[str]) -> str:
        """As `CommandRunner.ask`."""
        try:
            done = subprocess.run(  # noqa: S603 words of ours
                list(words), capture_output=True, text=True, errors="replace", check=False, timeout=ASK_S
            )
        except subprocess.TimeoutExpired as error:
            raise ProgramFailedError(words, f"no answer within {ASK_S:.0f} s") from error
        except OSError as error:
            raise ProgramFailedError(words, error.strerror or str(error)) from error
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise ProgramFailedError(words, _end_of(lines) or f"exit code {done.returncode}")
        return done.stdout

    async def run(self, words: Sequence[str], tell: Tell, *, timeout_s: float) -> None:
        """As `CommandRunner.run`. In a session of its own: Ctrl-C reaches it through this process, which ends it in order."""
        loop, lines = asyncio.get_running_loop(), collections.deque[str](maxlen=TAIL_LINES)

        def heard(line: str) -> None:
            lines.append(line)
            tell(line)

        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 words of ours, and it takes a millisecond
                list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True, text=True, errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise ProgramFailedError(words, error.strerror or str(error)) from error
        # A thread, for a program may leave others behind that hold its pipe: its end counts, not the pipe's.
        reader = threading.Thread(target=_listen, args=(process, loop, heard), name=words[0], daemon=True)
        reader.start()
        try:
            async with asyncio.timeout(timeout_s):
                while process.poll() is None:  # noqa: ASYNC110 processes set no events
                    await asyncio.sleep(POLL_S)
                await asyncio.to_thread(reader.join, DRAIN_S)  # within it, for lines are heard in this loop
        except TimeoutError as error:
            raise ProgramFailedError(words, f"not done within {timeout_s:.0f} s: {_end_of(lines)}") from error
        finally:
            await _end(process)
            reader.join(DRAIN_S)
        if process.returncode:
            raise ProgramFailedError(words, _end_of(lines) or f"exit code {process.returncode}")


class ContainerEngine:
    """Images of this machine, by one of `PROGRAMS`. Blocks in questions; what takes long is awaited."""

    def __init__(self, runner: CommandRunner, program: str) -> None:
        self.program = program
        self._runner = runner

    def image_id(self, image: str) -> str | None:
        """The id of an image that this machine has, without `sha256:`; None when it has none. ProgramFailedError."""
        try:
            said = self._runner.ask([self.program, "image", "inspect", "--format", "{{.Id}}", image])
        except ProgramFailedError as error:
            if ABSENT.search(error.said):
                return None
            raise
        return bare_id(said.strip()) or None

    def images_in(self, container: str) -> dict[str, set[str]]:
        """Full name -> ids and digests, bare, of the images that the runtime within a node of kind has. ProgramFailedError."""
        said = self._runner.ask([self.program, "exec", container, "crictl", "images", "--output", "json"])
        try:
            listed = json.loads(said).get("images") or []
        except (ValueError, AttributeError) as error:
            raise ProgramFailedError([self.program, "exec", container, "crictl"], f"no JSON: {said[:80]!r}") from error
        found: dict[str, set[str]] = {}
        for one in listed:
            ids = {bare_id(str(one.get("id") or ""))}
            ids |= {bare_id(str(digest).rpartition("@")[2]) for digest in one.get("repoDigests") or []}
            for tag in one.get("repoTags") or []:
                found.setdefault(str(tag), set()).update(ids - {""})
        return found

    async def build(self, image: str, *, stage: str, source: Path, tell: Tell) -> None:
        """Build one stage of a repository's Dockerfile; what has not changed comes from its cache. ProgramFailedError."""
        named = image if self.program == "docker" else full_name(image)  # podman would call it localhost/...
        words = [self.program, "build", "--target", stage, "--tag", named, str(source)]
        await self._runner.run(words, tell, timeout_s=BUILD_S)

    async def pull(self, image: str, tell: Tell) -> None:
        """Fetch it from its registry. ProgramFailedError."""
        await self._runner.run([self.program, "pull", full_name(image)], tell, timeout_s=PULL_S)

    async def save(self, image: str, archive: Path, tell: Tell) -> None:
        """Write it into an archive under the name by which pods ask for it. Podman and nerdctl alone. ProgramFailedError."""
        names = [image, full_name(image)] if self.program == "podman" else [full_name(image)]
        form = ["--format", "docker-archive"] if self.program == "podman" else []
        await self._runner.run([self.program, "save", *form, "--output", str(archive), *names], tell, timeout_s=LOAD_S)


def choose_program(runner: CommandRunner, environment: Mapping[str, str] = os.environ) -> str:
    """Which of `PROGRAMS` kind will use. TargetError: exit 3 when it, or kind itself, is not on this machine."""
    wanted = environment.get(PROVIDER) or ""
    if wanted and wanted not in PROGRAMS:
        raise TargetError(
            f"{wanted!r} cannot hold a kind cluster: {', '.join(PROGRAMS)} can",
            where=PROVIDER,
            hint=f"unset {PROVIDER}, or name one of them",
            exit_code=ExitCode.USAGE,
        )
    there = [program for program in ((wanted,) if wanted else PROGRAMS) if runner.has(program)]
    missing = [] if there else [wanted or "docker"]
    missing += [] if runner.has("kind") else ["kind"]
    if missing:
        instead = "" if there or wanted else " (podman serves in docker's place)"
        raise TargetError(
            f"missing on this machine: {' and '.join(missing)}",
            where="--on kind",
            hint=f"install it{instead}: https://kind.sigs.k8s.io; or use --on local or --on cluster",
            exit_code=ExitCode.NOT_FOUND,
        )
    return there[0]


def full_name(image: str) -> str:
    """The name by which a container runtime knows an image: `node:dev` is `docker.io/library/node:dev`."""
    name = image if "/" in image else f"library/{image}"
    first = name.partition("/")[0]
    if not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def bare_id(text: str) -> str:
    """An id or digest without its algorithm: docker writes `sha256:`, podman does not."""
    return text.removeprefix("sha256:")


def _listen(process: subprocess.Popen[str], loop: asyncio.AbstractEventLoop, heard: Tell) -> None:
    assert process.stdout is not None  # noqa: S101 it is a pipe
    with process.stdout, contextlib.suppress(RuntimeError):  # nobody waits any more: the loop was closed
        while raw := process.stdout.readline(LINE_CHARS_MAX):
            if line := " ".join(CONTROLS.sub("", raw).split()):
                loop.call_soon_threadsafe(heard, line)


async def _end(process: subprocess.Popen[str]) -> None:
    """Nothing of it is left; it is given `GRACE_S` to put things in order."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, GRACE_S)


def _end_of(lines: Iterable[str]) -> str:
    return "; ".join([line.strip() for line in lines if line.strip()][-TAIL_LINES:])
