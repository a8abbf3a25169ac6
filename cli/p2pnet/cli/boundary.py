"""Where exceptions end: a command is run, and whatever happens becomes three lines and an exit code."""

import asyncio
import errno
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from p2pnet.cli.failure import CommandError, ExitCode
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session, drop_stdout
from p2pnet.model.errors import LocalError, P2pnetError, TargetError

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
    session: Session, prepare: Callable[[], Callable[[Session], Coroutine[Any, Any, Outcome]]], *, verbose: bool = False
) -> int:
    """Run what `prepare` returns; the exit code. Never raises but SystemExit."""
    try:
        work = prepare()
        return session.finish(asyncio.run(_own(work, session)))
    except KeyboardInterrupt:
        return _interrupted(session)
    except BrokenPipeError:  # the reader of a stream without end has seen enough
        drop_stdout()
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 this is the boundary
        session.listener.close()
        failure = explain(error, session.todo) or _bug(error, verbose=verbose)
        session.stderr.write("\n".join(failure.lines()) + "\n")
        return failure.exit_code


async def _own(work: Callable[[Session], Coroutine[Any, Any, Outcome]], session: Session) -> Outcome:
    return await work(session)


def _interrupted(session: Session) -> int:
    session.listener.close()
    session.stderr.write(f"{session.interrupted_note}\n")
    if session.resume:
        session.stderr.write(session.advice(session.resume))
    return ExitCode.INTERRUPTED


def explain(error: BaseException, todo: str = "") -> CommandError | None:
    """The failure behind an exception, or None for a bug of ours."""
    where = _command_line()
    match error:
        case CommandError():
            return error
        case TargetError():
            return CommandError(str(error), where=where, todo=error.hint or "p2pnet status", exit_code=error.exit_code)
        case LocalError():
            return CommandError(str(error), where=where, todo=todo or "correct it and try again; " + HINT_HELP)
        case OSError() if error.errno in DISK_ERRORS:
            place = f"{error.filename}" if error.filename is not None else where
            return CommandError(error.strerror or str(error), where=place, todo=DISK_ERRORS[error.errno])
        case P2pnetError():
            return _remote(error, where, todo or HINT_HELP)
        case _:
            return None


def _remote(error: P2pnetError, where: str, todo: str) -> CommandError:
    """A lab's answer (`ProblemError`, told by its shape: importing the desk here costs every start 0.3 s), or a peer's."""
    code = getattr(error, "exit_code", ExitCode.NOT_FOUND)
    hint = getattr(error, "hint", "")
    default = "this is a bug: see the log of the lab" if code == ExitCode.BUG else todo
    return CommandError(str(error), where=where, todo=hint or default, exit_code=code)


def _command_line() -> str:
    return shlex.join(["p2pnet", *sys.argv[1:]])


def _bug(error: BaseException, *, verbose: bool) -> CommandError:
    text = "".join(traceback.format_exception(error))
    if verbose:
        sys.stderr.write(text)
    return CommandError(
        f"a bug in p2pnet: {type(error).__name__}: {error}",
        where=_keep(text) or _command_line(),
        todo="please report it with that file; -v shows the traceback here",
        exit_code=ExitCode.BUG,
    )


def _keep(text: str) -> str:
    """Write the traceback where it can be found; the path, or empty when nothing can be written."""
    from p2pnet.desk.state import State

    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (State.default().root / "crashes", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / (name if folder.name == "crashes" else f"p2pnet-{name}")
            path.write_text(f"{_command_line()}\n\n{text}", encoding="utf-8")
        except OSError:
            continue
        return str(path)
    return ""
