"""`get`: the bytes of an artifact as one node holds them, to a file or to stdout."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.documents import Fetched
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import Artifact, KeptOptions, Name
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.resolve import choose_artifact, simulated_artifact
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.cli.terminal import drop_stdout
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import RunFile
from p2pnet.model.text import some
from p2pnet.store import archive

if TYPE_CHECKING:  # with asyncio, which help does without
    from p2pnet.cli.output_file import OutputFile
    from p2pnet.lab_client import Downloaded, LabClient, ProblemError

EXAMPLE = "p2pnet get demo 3fa9c2d1 -O photo.jpg"


@dataclass(frozen=True)
class GetOptions(KeptOptions):
    """Get an artifact from a node.

    The bytes as that node holds them; by default not the one that published it.
    """

    name: Name
    artifact: Artifact
    file: Annotated[
        str | None,
        typer.Option(
            "-O",
            "--output-file",
            metavar="FILE",
            help="Where to; - is stdout.  [default: its own name on a terminal and beside -o json, else stdout]",
            show_default=False,
        ),
    ] = None
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Whose bytes.  [default: not the publisher's]",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None


async def run(options: GetOptions, session: Session) -> Outcome:
    """The file is opened when the first bytes are here, and takes its name when the last are."""
    session.next_step = f"p2pnet report {options.name} -o json lists the artifact ids of its latest run"
    target = session.target()
    if _is_stdout(options.file) and session.output is not Output.TABLE:
        raise CommandError(
            f"both the bytes and {session.output} on standard output",
            where=f"p2pnet get -O {options.file} -o {session.output}",
            next_step="give the bytes a file with -O FILE, or leave -o out",
        )
    prefix = await choose_artifact(options.artifact, target, options.name)
    simulated = simulated_artifact(prefix, target, options.name)
    if simulated is not None:
        ended = await _delivered(_kept_parts(options, *simulated, target), options, session)
    else:
        async with target.lab(options.name) as client:
            if options.node is not None:
                _check_node(options.node, [member.name for member in (await client.summary()).members])
            ended = await _delivered(_parts(options, prefix, client, session), options, session)
    if ended is None:
        return Outcome()
    first, path = ended
    document = Fetched(
        subnet=options.name,
        artifact=_whole_id(options.name, prefix, target),
        name=first.name,
        size=first.size,
        node=first.node,
        file=str(path),
    )
    return Outcome(document, next=(f"p2pnet trace {options.name} {prefix[:12]}",))


def _whole_id(name: str, prefix: str, target: Target) -> str:
    try:
        return archive.find_artifact(target.state, name, prefix)[0]
    except SpecError:
        return prefix


def _check_node(node: str, names: Sequence[str]) -> None:
    if node not in names:
        raise CommandError(f"there is no node {node!r}", where=f"--node {node}", next_step=f"one of {some(names)}")


async def _delivered(
    ranges: "AsyncGenerator[Downloaded, None]", options: GetOptions, session: Session
) -> "tuple[Downloaded, Path] | None":
    """All ranges written; the first of them and the file, or None when it was stdout."""
    async with aclosing(ranges) as parts:
        first = await anext(parts)
        path = _destination(options, first, session)
        if path is None:
            await _to_stdout(first, parts)
            return None
        await _to_file(path, first, parts)
        return first, path


async def _kept_parts(
    options: GetOptions, artifact: str, run: RunFile, target: Target
) -> "AsyncGenerator[Downloaded, None]":
    """What a node held when a simulated run ended: the published bytes, which every artifact's id is a hash of."""
    from p2pnet.lab_client import Downloaded
    from p2pnet.store.simulated import published_bytes

    if options.node is not None:
        _check_node(options.node, run.nodes)
    archive.check_events(target.state, run.run)
    publisher, holders = _holders(archive.read_events(target.state, run.run, artifact))
    others = [node for node in holders if node != publisher]
    node = options.node or next(iter(others or holders), None)
    if node is None or node not in holders:
        raise CommandError(
            f"{node} did not hold {artifact[:16]}" if node else f"no node held {artifact[:16]} any more",
            where=f"run {run.run} of {options.name}, when it ended",
            next_step=f"p2pnet trace {options.name} {artifact[:12]} shows who got it",
            exit_code=ExitCode.EXPECTATION_FAILED,
        )
    data = published_bytes(target.state, run, artifact)
    name = dict(zip(run.artifacts, run.names, strict=False)).get(artifact, "")
    yield Downloaded(name, len(data), data, node)


def _holders(events: Iterable[Collected]) -> tuple[str, list[str]]:
    """Who published an artifact, and who held it in the end, in the order in which they got it."""
    publisher, held = "", dict[str, None]()
    for event in events:
        if event.kind is EventKind.PUBLISHED:
            publisher = event.node
        if event.kind in (EventKind.PUBLISHED, EventKind.VALIDATED):
            held[event.node] = None
        elif event.kind is EventKind.REMOVED:
            held.pop(event.node, None)
    return publisher, list(held)


async def _parts(
    options: GetOptions, prefix: str, client: "LabClient", session: Session
) -> "AsyncGenerator[Downloaded, None]":
    """All ranges from one holder, at least one, the last one ending the artifact."""
    from p2pnet.lab_client import ProblemError

    offset, node = 0, options.node
    while True:
        try:
            part = await client.get(prefix, node=node, offset=offset)
        except ProblemError as error:
            raise _not_held(error, options) from error
        node, offset = part.node or node, offset + len(part.data)
        session.listener.progress(f"received from {node}", offset, part.size, octets=True)
        yield part
        if offset >= part.size:
            return
        if not part.data:
            raise CommandError(
                f"{node} let go of the artifact after {offset} of {part.size} bytes",
                where=f"{options.name} {prefix}",
                next_step="ask another node with --node",
                exit_code=ExitCode.EXPECTATION_FAILED,
            )


def _not_held(error: "ProblemError", options: GetOptions) -> Exception:
    if error.exit_code != ExitCode.EXPECTATION_FAILED:
        return error
    return CommandError(
        str(error),
        where=f"{options.name} {options.artifact}" + (f" on {options.node}" if options.node else ""),
        next_step=error.hint or f"p2pnet trace {options.name} {options.artifact} shows who got it",
        exit_code=ExitCode.EXPECTATION_FAILED,
    )


def _destination(options: GetOptions, first: "Downloaded", session: Session) -> Path | None:
    documented = session.output is not Output.TABLE
    if _is_stdout(options.file) or (options.file is None and not documented and not session.stdout.isatty()):
        return None
    if options.file is not None:
        return Path(options.file)
    # a name that came over the network never leaves this folder and never replaces anything
    path = Path(Path(first.name).name.replace("\0", "") or "artifact")
    if path.exists():
        raise CommandError(
            f"{path} exists already",
            where=str(path.absolute()),
            next_step="say where to with -O FILE, or -O - for stdout",
        )
    return path


def _is_stdout(file: str | None) -> bool:
    from p2pnet.cli.output_file import descriptor_of

    return file is not None and (file == "-" or descriptor_of(Path(file)) == 1)


async def _to_stdout(first: "Downloaded", parts: "AsyncIterator[Downloaded]") -> None:
    out = sys.stdout.buffer
    try:
        out.write(first.data)
        async for part in parts:
            out.write(part.data)
        out.flush()
    except BrokenPipeError as error:
        drop_stdout()
        raise _reader_left("stdout") from error


async def _to_file(path: Path, first: "Downloaded", parts: "AsyncIterator[Downloaded]") -> None:
    from p2pnet.cli.output_file import OutputFile

    async with OutputFile(path) as file:
        await _write(file, path, first.data)
        async for part in parts:
            await _write(file, path, part.data)


async def _write(file: "OutputFile", path: Path, data: bytes) -> None:
    try:
        await file.write(data)
    except BrokenPipeError as error:
        raise _reader_left(str(path)) from error
    except OSError as error:
        raise CommandError(
            f"cannot write {path}: {error.strerror}",
            where=f"-O {path}",
            next_step="make room there, or name another file",
        ) from error


def _reader_left(where: str) -> CommandError:
    """Unlike a list, whose reader may have seen enough, an artifact of which a part is missing is none."""
    return CommandError(
        "whoever reads this left before all bytes were written", where=where, next_step="write to a file: -O FILE"
    )
