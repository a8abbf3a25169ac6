"""`collect`: a run, or those of a scenario, packed into one file to be looked at elsewhere."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.options import KeptOptions
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place
from p2pnet.model.errors import SpecError

if TYPE_CHECKING:
    from p2pnet.cli.targets.target import Target
    from p2pnet.model.bundle import BundleManifest
    from p2pnet.model.jobs import RunFile
    from p2pnet.model.scenario_run import ScenarioRecord
    from p2pnet.store.bundles import Packing
    from p2pnet.store.heads import RunHead
    from p2pnet.store.state import State

EXAMPLE = "p2pnet collect latest -O run.tar.gz"
CLUSTER_S = 30.0  # for a cluster to tell what it knows; its runs are here already
LIBRARIES = ("aioquic", "cryptography", "msgspec", "pydantic", "uvloop", "aiohttp")


@dataclass(frozen=True)
class CollectOptions(KeptOptions):
    """Pack a run to carry it away.

    Documents, events, report, time series and logs of a run, of whatever subnet it is; of a scenario's run all runs of that
    scenario. What looks like a secret is taken out, and the manifest says what is missing.
    """

    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Its id or a beginning of it, its label, latest, or -1, -2 back from there, of all runs kept here; or a subnet,"
            " for its latest.",
            autocompletion=shell_completion.runs,
        ),
    ] = "latest"
    file: Annotated[
        Path | None,
        typer.Option(
            "-O", "--output-file", metavar="FILE", help="Where to; - is stdout.  [default: SUBNET-RUN.tar.gz here]",
            show_default=False,
        ),
    ] = None  # fmt: skip
    payloads: Annotated[
        bool,
        typer.Option(
            "--payloads/--no-payloads", help="With the files that a simulated run published: without them a replay is no copy.",
        ),
    ] = True  # fmt: skip


async def run(options: CollectOptions, session: Session) -> Outcome:
    """The file takes its name when all is in it."""
    import tempfile

    from p2pnet.cli.resolve import match_runs, pick_run
    from p2pnet.store import archive

    target = session.target()
    await _copied(target, session)
    session.place = Place()  # from here on all is here
    heads = [head for head in archive.list_heads(target.state) if target.owns(head)]
    if not heads:
        raise CommandError(
            "no run is kept on this machine", where=str(target.state.runs),
            next_step="p2pnet sim -f FILE makes one, and so does p2pnet inject NAME",
        )  # fmt: skip
    own = [head for head in heads if head.subnet == options.run]  # a subnet means its latest run
    chosen = own[-1] if own and not match_runs(options.run, heads) else pick_run(options.run, heads, target, None)
    path = _destination(options, chosen, session)
    session.interrupted_note = "interrupted: nothing was written"
    session.listener.waiting(f"run {chosen.run} to be packed")
    with tempfile.TemporaryDirectory(prefix="p2pnet-collect-", ignore_cleanup_errors=True) as work:
        manifest, packed = await _packed(options, chosen, target, Path(work))
        if path is None:
            _to_stdout(packed)
            return Outcome()
        await _to_file(packed, path)
    import shlex

    import msgspec

    manifest = msgspec.structs.replace(manifest, file=str(path), size=path.stat().st_size if path.is_file() else 0)
    return Outcome(manifest, next=(f"p2pnet replay {shlex.quote(str(path))}",))


def _destination(options: CollectOptions, chosen: "RunHead", session: Session) -> Path | None:
    """Where the bundle goes; None: to stdout. CommandError (exit 2) for what must not be written to."""
    from p2pnet.cli.output_file import descriptor_of

    if options.file is None:
        path = Path(f"{chosen.subnet}-{chosen.run}.tar.gz")
        if path.exists():
            raise CommandError(
                f"{path} exists already", where=str(path.absolute()), next_step="say where to with -O FILE"
            )
        return path
    if str(options.file) != "-" and descriptor_of(options.file) != 1:
        if options.file.is_dir():
            raise CommandError(
                f"{options.file} is a directory", where="p2pnet collect -O",
                next_step=f"name a file: -O {options.file / f'{chosen.subnet}-{chosen.run}.tar.gz'}",
            )  # fmt: skip
        return options.file
    if session.output is not Output.TABLE:
        raise CommandError(
            f"both the bundle and {session.output} on standard output", where=f"p2pnet collect -O - -o {session.output}",
            next_step="give the bundle a file with -O FILE, or leave -o out",
        )  # fmt: skip
    if session.stdout.isatty():
        raise CommandError(
            "a bundle is no text for a terminal", where="p2pnet collect -O -", next_step="name a file, or pipe it on"
        )
    return None


def _to_stdout(packed: Path) -> None:
    import shutil

    from p2pnet.cli.terminal import drop_stdout

    try:
        with packed.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        drop_stdout()
        raise CommandError(
            "whoever reads this left before all bytes were written",
            where="stdout",
            next_step="write to a file: -O FILE",
        ) from None


async def _to_file(packed: Path, path: Path) -> None:
    from p2pnet.cli.output_file import OutputFile

    try:
        async with OutputFile(path) as out:
            with packed.open("rb") as file:
                while block := file.read(1 << 20):
                    await out.write(block)
    except OSError as error:
        raise CommandError(
            f"cannot write {path}: {error.strerror}",
            where=f"-O {path}",
            next_step="make room there, or name another file",
        ) from error


async def _copied(target: "Target", session: Session) -> None:
    """Bring what a cluster's labs keep here first, where a cluster is meant; a lab that is away costs its runs alone."""
    from p2pnet.cli.threads import in_daemon
    from p2pnet.model.errors import P2pnetError

    if target.kind in ("local", "sim"):
        return
    for name in await in_daemon(target.names):
        session.listener.waiting(f"the runs of {name} to be copied")
        try:
            await target.collect(name)
        except P2pnetError as error:
            session.note(f"runs of {name} that are not here cannot be had: {error}")


# --- what goes in ---


@dataclass(frozen=True, slots=True)
class _Rest:
    """What else decides about a bundle: digests of images, and whether published files go with it."""

    images: dict[str, list[str]]
    payloads: bool


async def _packed(
    options: CollectOptions, chosen: "RunHead", target: "Target", work: Path
) -> "tuple[BundleManifest, Path]":
    """The manifest, and the whole bundle in the folder `work`."""
    from importlib.metadata import version

    from p2pnet.cli.threads import in_daemon
    from p2pnet.store import archive
    from p2pnet.store.bundles import Packing
    from p2pnet.store.scenario_records import read_record, runs_of_record

    state = target.state
    record = read_record(state, chosen.run)
    ids = [chosen.run] if record is None else list(runs_of_record(record).values())
    try:
        runs = [archive.read_run_file(state, run) for run in ids if run == chosen.run or state.run(run).is_dir()]
    except SpecError as error:
        raise CommandError(
            str(error), where=str(state.runs), next_step="p2pnet runs lists those that are whole"
        ) from None
    packing = Packing(work)
    for gone in sorted(set(ids) - {run.run for run in runs}):
        packing.leave_out(f"runs/{gone}", "it was removed since")
    images = await _cluster(packing, runs[0])
    await in_daemon(_fill, packing, state, runs, record, _Rest(images, options.payloads))
    scenario = "" if record is None else record.result.scenario
    manifest = packing.manifest(runs[0], [run.run for run in runs], scenario=scenario, version=version("p2pnet"))
    path = work / "bundle"
    await in_daemon(_write, path, manifest, packing)
    return manifest, path


def _write(path: Path, manifest: "BundleManifest", packing: "Packing") -> None:
    from p2pnet.store.bundle_format import write_bundle

    with path.open("wb") as out:
        write_bundle(out, manifest, packing.contents)


def _fill(
    packing: "Packing", state: "State", runs: "list[RunFile]", record: "ScenarioRecord | None", rest: _Rest
) -> None:
    from p2pnet.store import bundles, logs
    from p2pnet.store.scenario_records import SCENARIO_FILE

    first = runs[0]
    packing.add_value(bundles.SUBNET_FILE, first.spec if record is None else record.subnet)
    if record is not None:
        packing.add_value(SCENARIO_FILE, record)
    packing.add_value(bundles.ENVIRONMENT_FILE, _environment(first, rest.images))
    for run in runs:
        bundles.pack_run(packing, state, run, payloads=rest.payloads)
    if first.target == "local":
        paths = state.subnet(first.subnet)
        files = logs.files_of(paths) or logs.kept_files(state, first.subnet)
        if files:
            bundles.pack_logs(packing, files)
        else:
            packing.leave_out("logs", f"none of {first.subnet} are there any more")


def _environment(run: "RunFile", images: dict[str, list[str]]) -> dict[str, Any]:
    """Versions and platform: of this machine, which a cluster's nodes did not run on."""
    import contextlib
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from p2pnet.cli.capacity import this_machine

    libraries = {}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            libraries[name] = version(name)
    return {
        "p2pnet": run.version,
        "collected_with": version("p2pnet"),
        "python": platform.python_version(),
        "platform": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cores": this_machine().cores,
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "libraries": libraries,
        "images": images,
        "about": "this machine" if not run.context else "the machine of this command line, not the nodes'",
    }


async def _cluster(packing: "Packing", run: "RunFile") -> dict[str, list[str]]:
    """What the cluster of a copied run tells about its pods; their images."""
    import asyncio

    from p2pnet.model.errors import P2pnetError

    if not run.context:
        return {}
    from p2pnet.cli.targets.cluster.facts import ask_facts

    try:
        async with asyncio.timeout(CLUSTER_S):
            facts = await ask_facts(run.context, run.namespace, run.subnet)
    except (P2pnetError, TimeoutError) as error:
        packing.leave_out("cluster", str(error) or f"context {run.context} did not answer in {CLUSTER_S:.0f} s")
        return {}
    if facts.subnet is None and not facts.pods:
        packing.leave_out(
            "cluster", f"{run.subnet} is not in context {run.context}, namespace {run.namespace} any more"
        )
        return {}
    packing.add_value("cluster/subnet.json", facts.subnet)
    packing.add_value("cluster/pods.json", facts.pods)
    packing.add_value("cluster/events.json", facts.events)
    _add_lines(packing, facts.lines)
    return facts.images


def _add_lines(packing: "Packing", lines: list[Any]) -> None:
    import msgspec

    from p2pnet.model.units import format_size
    from p2pnet.store.bundles import LOGS_BYTES_MAX
    from p2pnet.store.redaction import redacted_text

    kept: list[bytes] = []
    room, total = LOGS_BYTES_MAX, 0
    for line in reversed(lines):
        text, count = redacted_text(line.line)
        data = msgspec.json.encode(msgspec.structs.replace(line, line=text)) + b"\n"
        room -= len(data)
        if room < 0:
            break
        total += count
        kept.append(data)
    cut = f"{len(lines) - len(kept)} older lines are left out: at most {format_size(LOGS_BYTES_MAX)}"
    packing.add_bytes(
        "logs/pods.ndjson", b"".join(reversed(kept)), cut=cut if len(kept) < len(lines) else "", count=total
    )
