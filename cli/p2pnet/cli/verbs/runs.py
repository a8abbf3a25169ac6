"""`runs`: what is kept of runs: listed, labelled, cancelled, removed."""

import asyncio
import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from p2pnet.cli.documents import KeptRun, KeptRuns, KeptWithin
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.interaction import ask
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.resolve import no_runs, pick_run
from p2pnet.cli.session import Session
from p2pnet.cli.targets import Target
from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.ids import check_label
from p2pnet.model.units import format_size
from p2pnet.store import State, archive, retention
from p2pnet.store.heads import RunHead, bytes_of

LIMIT = 100  # runs in a list unless more are asked for


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    name: str | None = None
    remove: tuple[str, ...] = ()
    keep: int | None = None
    cancel: tuple[str, ...] = ()
    set_label: tuple[str, ...] = ()
    """`RUN=TEXT` each; an empty TEXT takes the label away."""
    verdicts: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    label: str | None = None
    """A pattern as shells have them."""
    since_s: float | None = None
    limit: int = LIMIT
    yes: bool = False


async def run(options: Options, session: Session) -> Outcome:
    """A list, or one thing done to some of its runs, which are listed then."""
    _check(options)
    target = session.target()
    if options.name is not None:
        with contextlib.suppress(P2pnetError):  # what is here already can be shown without it
            await target.collect(options.name)
    every = _with_orphans_ended(archive.list_heads(target.state), target)
    heads = [head for head in every if options.name in (None, head.subnet) and target.made(head)]
    if options.name is not None and not heads:
        raise no_runs(target, options.name)
    chosen = _filtered(heads, options, session.now())
    if options.set_label:
        return await _label(options, heads, target)
    if options.cancel:
        return await _cancel(options, heads, target, session)
    if options.remove:
        doomed = _unique(pick_run(word, heads, target, options.name) for word in options.remove)
        return await _remove(doomed, options, target, session)
    if options.keep is not None:
        ended = [head for head in reversed(chosen) if head.ended and not head.label]
        return await _remove(ended[options.keep :][::-1], options, target, session)
    shown = list(reversed(chosen))[: options.limit]
    name = options.name or (shown[0].subnet if shown else "NAME")
    document = _document(target.state, shown, len(chosen), every)
    return Outcome(document, next=(f"p2pnet report {name}",) if shown else ())


def _check(options: Options) -> None:
    asked = {
        "--rm": options.remove, "--keep": options.keep is not None, "--cancel": options.cancel,
        "--set-label": options.set_label,
    }  # fmt: skip
    given = [option for option, value in asked.items() if value]
    if len(given) > 1:
        raise CommandError(
            f"one thing at a time: {' and '.join(given)}", where="p2pnet runs", next_step=f"give {given[0]} alone first"
        )


def _with_orphans_ended(heads: list[RunHead], target: Target) -> list[RunHead]:
    """All runs; those that were open when their lab died end here."""
    ended = False
    for subnet in {head.subnet for head in heads if not head.ended and not head.context}:
        if target.kind == "local" and target.look(subnet) in ("absent", "dead"):
            archive.invalidate_open_runs(target.state, subnet, f"the lab of {subnet} died while the run was open")
            ended = True
    return archive.list_heads(target.state) if ended else heads


def _filtered(heads: Sequence[RunHead], options: Options, now: float) -> list[RunHead]:
    """Those that every filter lets through, oldest first."""
    tests: list[Callable[[RunHead], bool]] = []
    if options.verdicts:
        tests.append(lambda head: head.verdict in options.verdicts)
    if options.states:
        tests.append(lambda head: head.state in options.states)
    if (pattern := options.label) is not None:
        tests.append(lambda head: bool(head.label) and fnmatch.fnmatchcase(head.label, pattern))
    if (since_s := options.since_s) is not None:
        tests.append(lambda head: head.created_at >= now - since_s)
    return [head for head in heads if all(test(head) for test in tests)]


def _unique(heads: Iterable[RunHead]) -> list[RunHead]:
    return list({head.run: head for head in heads}.values())


# --- labels ---


async def _label(options: Options, heads: list[RunHead], target: Target) -> Outcome:
    wanted: dict[str, tuple[RunHead, str]] = {}
    for given in options.set_label:
        word, equals, text = given.partition("=")
        if not equals or not word:
            what = f"{given!r} {'names no run' if equals else 'gives no label'}"
            raise CommandError(what, where=f"--set-label {given}", next_step="write RUN=TEXT, like latest=baseline")
        try:
            head = pick_run(word, heads, target, options.name)
            wanted[head.run] = (head, check_label(text))
        except SpecError as error:
            raise CommandError(str(error), where=f"--set-label {given}", next_step="choose another text") from None
    for head, text in wanted.values():
        if head.ended:
            archive.set_label(target.state, head.run, text)
        else:
            async with target.desk(head.subnet) as desk:
                await desk.label(head.run, text)
    runs = [msgspec.structs.replace(head, label=text) for head, text in wanted.values()]
    document = _document(target.state, runs, len(runs))
    return Outcome(msgspec.structs.replace(document, labelled=list(wanted)))


# --- cancelling ---


async def _cancel(options: Options, heads: list[RunHead], target: Target, session: Session) -> Outcome:
    chosen = _unique(pick_run(word, heads, target, options.name) for word in options.cancel)
    ended = [head.run for head in chosen if head.ended]
    if ended:
        session.note(f"ended already: {', '.join(ended)}")
    cancelled: list[str] = []
    for head in chosen:
        if head.ended:
            continue
        session.listener.waiting(f"run {head.run} to be cancelled")
        async with target.desk(head.subnet) as desk:
            try:
                await desk.cancel(head.run)
            except ProblemError as error:
                if error.status != 404:
                    raise
                archive.close_invalid(
                    target.state, archive.read_run_file(target.state, head.run), "its lab knows nothing of it any more"
                )
        cancelled.append(head.run)
        await target.collect(head.subnet)
    again = {head.run: head for head in archive.list_heads(target.state)}
    runs = [again.get(head.run, head) for head in chosen]
    hint = tuple(f"p2pnet report {head.subnet} {head.run}" for head in chosen[:1])
    return Outcome(msgspec.structs.replace(_document(target.state, runs, len(runs)), cancelled=cancelled), next=hint)


# --- removing ---


async def _remove(doomed: list[RunHead], options: Options, target: Target, session: Session) -> Outcome:
    """Ask where somebody can be asked, then remove one after the other; exactly what went is in the document."""
    going = [head.run for head in doomed if not head.ended]
    if going:
        name = next(head.subnet for head in doomed if not head.ended)
        raise CommandError(
            f"open, so not removed: {', '.join(going)}",
            where="--rm",
            next_step=f"p2pnet runs {name} --cancel {going[0]} first, or leave it out",
        )
    if doomed and not options.yes:
        await _ask(doomed, session)
    removed: list[str] = []
    freed, failure = 0, None
    session.interrupted_note = "interrupted: what was removed is gone, p2pnet runs shows what is left"
    for head in doomed:
        octets = bytes_of(target.state.run(head.run))
        try:
            there = await asyncio.to_thread(retention.remove, target.state, head.run)
        except OSError as error:
            failure = CommandError(
                f"run {head.run} cannot be removed: {error.strerror}",
                where=str(target.state.run(head.run)),
                next_step="make it removable, then try again",
            )
            break
        if there:
            removed.append(head.run)
            freed += octets
    with contextlib.suppress(OSError):  # a copy may come back, no more
        retention.remember(target.state, [head.run for head in doomed if head.context and head.run in removed])
    document = msgspec.structs.replace(_document(target.state, [], 0), removed=removed, freed_bytes=freed)
    code = ExitCode.USAGE if failure else ExitCode.OK
    return Outcome(document, exit_code=code, failure=failure, next=("p2pnet runs",) if not failure else ())


async def _ask(doomed: list[RunHead], session: Session) -> None:
    several = len(doomed) > 1
    what = f"{len(doomed)} runs" if several else f"run {doomed[0].run}"
    size = format_size(sum(head.bytes for head in doomed))
    if not session.interactive:
        raise CommandError(
            f"nobody can be asked: {what} ({size}) {'stay' if several else 'stays'}",
            where="p2pnet runs",
            next_step=f"say -y to remove {'them' if several else 'it'}",
        )
    session.interrupted_note = "interrupted: nothing was removed"
    labelled = sum(bool(head.label) for head in doomed)
    with_labels = f", {labelled} of them with a label" if labelled else ""
    if not await ask(f"Remove {what} ({size}{with_labels}) for good?", session):
        raise CommandError(
            "nothing was removed",
            where="p2pnet runs",
            next_step="answer y, or use --yes",
            exit_code=ExitCode.INTERRUPTED,
        )


# --- the document ---


def _document(state: State, heads: Sequence[RunHead], matched: int, every: Sequence[RunHead] | None = None) -> KeptRuns:
    every = archive.list_heads(state) if every is None else every
    removed = retention.read_removed(state)
    try:
        limits = retention.limits_of(os.environ)
    except SpecError as error:
        raise CommandError(str(error), where="environment", next_step="correct it, or unset it") from None
    within = KeptWithin(
        runs=limits.runs, bytes=limits.bytes, removed_runs=removed.runs, removed_bytes=removed.bytes,
        last_removed_at=removed.last_at or None,
    )  # fmt: skip
    return KeptRuns(
        runs=[_line(head) for head in heads], matched=matched, kept=len(every),
        kept_bytes=sum(head.bytes for head in every), within=within,
    )  # fmt: skip


def _line(head: RunHead) -> KeptRun:
    return KeptRun(
        run=head.run, subnet=head.subnet, target=head.target, context=head.context, namespace=head.namespace,
        state=head.state, verdict=head.verdict, label=head.label, nodes=head.nodes, artifacts=head.artifacts,
        reach=head.reach, p95_ms=head.p95_ms, shared=head.shared, created_at=head.created_at,
        started_at=head.started_at, finished_at=head.finished_at, bytes=head.bytes,
    )  # fmt: skip
