"""Where exceptions end: a command is run, and whatever happens becomes three lines and an exit code."""

import asyncio
import contextlib
import errno
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.program import command_line
from p2pnet.cli.session import Session
from p2pnet.cli.terminal import drop_stdout
from p2pnet.model.errors import LocalError, P2pnetError, TargetError

INTERRUPTS = (signal.SIGTERM, signal.SIGHUP)
"""CI that cancels, `docker stop`, the end of a Job, a terminal that closes: interrupts, like Ctrl-C."""
HINT_HELP = "see p2pnet --help"
DISK_ERRORS = {
    errno.ENOSPC: "make room there, or set P2PNET_STATE to another directory",
    errno.EDQUOT: "make room there, or set P2PNET_STATE to another directory",
    errno.EFBIG: "a limit on the size of files is in force: ulimit -f unlimited, or set P2PNET_STATE elsewhere",
    errno.EIO: "the disk fails: look into the system's log, or set P2PNET_STATE to another directory",
    errno.EACCES: "make it accessible, or set P2PNET_STATE to a directory of yours",
    errno.EPERM: "make it accessible, or set P2PNET_STATE to a directory of yours",
    errno.EROFS: "set P2PNET_STATE to a directory that can be written",
    errno.ENOTDIR: "a file stands where a directory is needed: move it, or set P2PNET_STATE",
    errno.EEXIST: "something stands where a directory is needed: move it, or set P2PNET_STATE",
    errno.EISDIR: "a directory stands where a file is needed: move it, or name another",
    errno.ENOENT: "check the path",
    errno.EMFILE: "raise the limit of open files: ulimit -n 65536",
    errno.ENFILE: "raise the limit of open files: ulimit -n 65536",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def run_command(
    session: Session, work: Callable[[Session], Coroutine[Any, Any, Outcome]], *, verbose: bool = False
) -> int:
    """Run a command and print its outcome; the exit code. Raises nothing but SystemExit."""
    try:
        return session.finish(asyncio.run(_run(work, session)))
    except (KeyboardInterrupt, Stopped):
        return _interrupted(session)
    except BrokenPipeError:  # the reader of a stream without end has seen enough
        drop_stdout()
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 whatever happens becomes an exit code
        session.listener.close()
        failure = explain(error, session.next_step, session.name) or _bug(error, verbose=verbose)
        session.say("\n".join(failure.lines()) + "\n")
        return failure.exit_code


class Stopped(Exception):  # noqa: N818 - no error
    """Told to stop by a signal other than Ctrl-C's."""


async def _run(work: Callable[[Session], Coroutine[Any, Any, Outcome]], session: Session) -> Outcome:
    """The work, cancelled by SIGTERM and SIGHUP as asyncio does it for SIGINT.

    The second one ends the process at once, also while the loop is held up, by a plugin of a kubeconfig say: the loop's own
    handlers of signals would wait with it.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    signals: list[int] = []

    def stop(number: int, _frame: object) -> None:
        signals.append(number)
        let_go()
        loop.call_soon_threadsafe(task.cancel)

    def let_go() -> None:
        for one in INTERRUPTS:
            if signal.getsignal(one) is stop:
                signal.signal(one, signal.SIG_DFL)

    for number in INTERRUPTS:
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup a hang-up stays ignored
            signal.signal(number, stop)
    try:
        return await work(session)
    except asyncio.CancelledError:
        if signals and task.uncancel() == 0:
            raise Stopped from None
        raise
    finally:
        let_go()


def _interrupted(session: Session) -> int:
    session.listener.close()
    session.say(f"{session.interrupted_note}\n")
    if session.resume:
        session.say(session.advice(session.resume))
    return ExitCode.INTERRUPTED


def explain(error: BaseException, next_step: str = "", name: str = "") -> CommandError | None:
    """The failure behind an exception, or None for a bug of ours. `name`: the NAME that was typed."""
    where = command_line()
    match error:
        case CommandError():
            return error
        case TargetError():
            return CommandError(
                str(error),
                where=error.where or where,
                next_step=error.hint or "p2pnet status",
                exit_code=error.exit_code,
            )
        case LocalError():
            return CommandError(
                str(error), where=where, next_step=next_step or "correct it and try again; " + HINT_HELP
            )
        case MemoryError():
            return CommandError(
                "there is no memory left",
                where=where,
                next_step="make room, or ask for less: fewer nodes, fewer or smaller artifacts, fewer --jobs",
            )
        case OSError() if error.errno in DISK_ERRORS:
            place = f"{error.filename}" if error.filename is not None else where
            return CommandError(error.strerror or str(error), where=place, next_step=DISK_ERRORS[error.errno])
        case P2pnetError():
            return _remote(error, where, next_step or HINT_HELP, name)
        case _:
            return None


def _remote(error: P2pnetError, where: str, next_step: str, name: str) -> CommandError:
    """A lab's answer (`ProblemError`, told by its shape: importing the client here costs every start 0.3 s), or a peer's."""
    code = getattr(error, "exit_code", ExitCode.NOT_FOUND)
    hint = getattr(error, "hint", "")
    default = "this is a bug: see the log of the lab" if code == ExitCode.BUG else next_step
    if code == ExitCode.NOT_FOUND and name:  # a node that does not answer, say
        default = f"p2pnet status {name} shows how its nodes are"
    return CommandError(str(error), where=where, next_step=hint or default, exit_code=code)


def _bug(error: BaseException, *, verbose: bool) -> CommandError:
    text = "".join(traceback.format_exception(error))
    if verbose:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
    return CommandError(
        f"a bug in p2pnet: {type(error).__name__}: {error}",
        where=_keep(text) or command_line(),
        next_step="please report it with that file; -v shows the traceback here",
        exit_code=ExitCode.BUG,
    )


def _keep(text: str) -> str:
    """Write the traceback where it can be found; the path, or empty when nothing can be written. Never raises."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    places: tuple[Callable[[], Path], ...] = (
        lambda: _crashes() / name,
        lambda: Path(tempfile.gettempdir()) / f"p2pnet-{name}",
    )
    for place in places:
        with contextlib.suppress(Exception):  # of any kind: this says what went wrong before
            return _written(place(), f"{command_line()}\n\n{text}")
    return ""


def _crashes() -> Path:
    from p2pnet.store.state import State

    folder = State.default().root / "crashes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _written(path: Path, text: str) -> str:
    """Into a new file: what stands there, a link in a directory that everybody may write to, is not followed."""
    with path.open("x", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return str(path)
