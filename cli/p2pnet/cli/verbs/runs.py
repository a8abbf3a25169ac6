"""`runs`: what is kept of runs: listed, labelled, cancelled, removed."""

import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.documents import DamagedLine, KeptRun, KeptRuns, KeptWithin
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import KeptOptions, duration, name_argument
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.resolve import match_runs, no_runs, pick_run
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.ids import check_label
from p2pnet.model.text import some
from p2pnet.model.units import format_size
from p2pnet.store import State, archive, retention
from p2pnet.store.damaged import DamagedRun, damaged_runs
from p2pnet.store.heads import RunHead, bytes_of

EXAMPLE = "p2pnet runs demo --verdict fail --since 2h"


class VerdictChoice(StrEnum):
    """`--verdict`."""

    PASS = "pass"  # noqa: S105 - a word of a report
    FAIL = "fail"
    INVALID = "invalid"


class StateChoice(StrEnum):
    """`--state`."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class RunsOptions(KeptOptions):
    """List the runs that are kept, or tidy them up.

    Newest first, of one subnet or of all; also after `down`. Label, cancel or remove some.
    """

    name: Annotated[str | None, name_argument("all")] = None
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--rm",
            metavar="RUN",
            help="Remove a run for good. Repeatable.",
            show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ] = None
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=0,
            metavar="N",
            help="Remove all that the filters name but the newest N; open and labelled ones stay.",
            show_default=False,
        ),
    ] = None
    cancel: Annotated[
        list[str] | None,
        typer.Option(
            "--cancel",
            metavar="RUN",
            help="End an open run. Repeatable.",
            show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ] = None
    set_label: Annotated[
        list[str] | None,
        typer.Option(
            "--set-label",
            metavar="RUN=TEXT",
            help="Give a run a label; RUN= takes it away. Repeatable.",
            show_default=False,
        ),
    ] = None
    verdicts: Annotated[
        list[VerdictChoice] | None, typer.Option("--verdict", help="Only these. Repeatable.", show_default=False)
    ] = None
    states: Annotated[
        list[StateChoice] | None, typer.Option("--state", help="Only these. Repeatable.", show_default=False)
    ] = None
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="PATTERN", help="Only those with such a label, like 'base*'.", show_default=False
        ),
    ] = None
    since_s: Annotated[
        float | None,
        typer.Option(
            "--since",
            parser=duration,
            metavar="DURATION",
            help="Only those asked for since then.",
            show_default=False,
        ),
    ] = None
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="List at most so many.")] = 100
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Remove without asking.")] = False


async def run(options: RunsOptions, session: Session) -> Outcome:
    """A list, or one thing done to some of its runs, which are listed then."""
    _check(options)
    target = session.target()
    if options.name is not None:
        with contextlib.suppress(P2pnetError):  # what is here already can be shown without it
            await target.collect(options.name)
    every = _with_orphans_ended(archive.list_heads(target.state), target)
    heads = [head for head in every if options.name in (None, head.subnet) and target.owns(head)]
    damaged = _damaged(every, options, target, session.now())
    _check_name(options, [*heads, *(one.head for one in damaged)], target)
    chosen = _filtered(heads, options, session.now())
    if options.set_label:
        return await _label(options, heads, target)
    if options.cancel:
        return await _cancel(options, heads, target, session)
    if options.remove:
        doomed = _unique(_meant(word, heads, damaged, target, options.name) for word in options.remove)
        return await _remove(doomed, options, target, session)
    if options.keep is not None:
        return await _keep(chosen, damaged, options, target, session)
    shown = list(reversed(chosen))[: options.limit]
    document = _document(target.state, shown, len(chosen), every, damaged)
    if damaged and session.output is Output.NDJSON:
        session.note(f"damaged, and no line here: {some([one.head.run for one in damaged])}")
    return Outcome(document, next=_next(options, shown, damaged, target, kept=bool(heads)))


def _next(
    options: RunsOptions, shown: Sequence[RunHead], damaged: Sequence[DamagedRun], target: Target, *, kept: bool
) -> tuple[str, ...]:
    """After a list. `kept`: whether there is a run, though the filters let none through."""
    removal = (f"p2pnet runs --rm {damaged[0].head.run}",) if damaged else ()
    if shown:
        return (f"p2pnet report {options.name or shown[0].subnet}", *removal)
    if kept:
        return (f"p2pnet runs {options.name}" if options.name is not None else "p2pnet runs", *removal)
    if target.kind == "sim":
        return ("p2pnet sim -f FILE", *removal)
    names = [options.name] if options.name is not None else target.names()
    up = next((name for name in names if target.presence(name) == "up"), None)
    start = f"p2pnet up {names[0]}" if names else "p2pnet up demo --nodes 10"
    return (f"p2pnet inject {up}" if up is not None else start, *removal)


def _check_name(options: RunsOptions, known: Sequence[RunHead], target: Target) -> None:
    """A subnet that is there has an empty list; one that is not, and of which no run tells, is an error."""
    if options.name is None or any(head.subnet == options.name for head in known):
        return
    if any(head.run in (options.remove or ()) for head in known) or target.presence(options.name) != "absent":
        return
    raise no_runs(target, options.name)


def _damaged(every: Sequence[RunHead], options: RunsOptions, target: Target, now: float) -> list[DamagedRun]:
    """Those that may be meant, oldest first: nobody knows whose some of them are."""
    return [
        one
        for one in damaged_runs(target.state, now, every)
        if (options.name is None or one.head.subnet in ("", options.name))
        and (not one.head.target or target.owns(one.head))
    ]


def _meant(word: str, heads: list[RunHead], damaged: Sequence[DamagedRun], target: Target, name: str | None) -> RunHead:
    """The run to remove that a word means: a damaged one has its id alone, or the beginning of it."""
    ids = [one.head for one in damaged if one.head.run.startswith((word, f"r-{word}"))] if word else []
    exact = [head for head in ids if head.run == word]
    if exact or (len(ids) == 1 and not match_runs(word, heads)):
        return (exact or ids)[0]
    return pick_run(word, heads, target, name)


def _check(options: RunsOptions) -> None:
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
        if target.kind == "local" and target.presence(subnet) in ("absent", "dead"):
            archive.invalidate_open_runs(target.state, subnet, f"the lab of {subnet} died while the run was open")
            ended = True
    return archive.list_heads(target.state) if ended else heads


def _filtered(heads: Sequence[RunHead], options: RunsOptions, now: float) -> list[RunHead]:
    """Those that every filter lets through, oldest first."""
    tests: list[Callable[[RunHead], bool]] = []
    if verdicts := options.verdicts:
        tests.append(lambda head: head.verdict in verdicts)
    if states := options.states:
        tests.append(lambda head: head.state in states)
    if (pattern := options.label) is not None:
        tests.append(lambda head: bool(head.label) and fnmatch.fnmatchcase(head.label, pattern))
    if (since_s := options.since_s) is not None:
        tests.append(lambda head: head.created_at >= now - since_s)
    return [head for head in heads if all(test(head) for test in tests)]


def _unique(heads: Iterable[RunHead]) -> list[RunHead]:
    return list({head.run: head for head in heads}.values())


# --- labels ---


async def _label(options: RunsOptions, heads: list[RunHead], target: Target) -> Outcome:
    wanted: dict[str, tuple[RunHead, str]] = {}
    for given in options.set_label or ():
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
            async with target.lab(head.subnet) as client:
                await client.label(head.run, text)
    runs = [msgspec.structs.replace(head, label=text) for head, text in wanted.values()]
    document = _document(target.state, runs, len(runs))
    hint = tuple(f"p2pnet report {head.subnet} {head.run}" for head in runs[:1])
    return Outcome(msgspec.structs.replace(document, labelled=list(wanted)), next=hint)


# --- cancelling ---


async def _cancel(options: RunsOptions, heads: list[RunHead], target: Target, session: Session) -> Outcome:
    from p2pnet.lab_client import ProblemError

    chosen = _unique(pick_run(word, heads, target, options.name) for word in options.cancel or ())
    ended = [head.run for head in chosen if head.ended]
    if ended:
        session.note(f"ended already: {', '.join(ended)}")
    cancelled: list[str] = []
    for head in chosen:
        if head.ended:
            continue
        session.listener.waiting(f"run {head.run} to be cancelled")
        async with target.lab(head.subnet) as client:
            try:
                await client.cancel(head.run)
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


async def _keep(
    chosen: list[RunHead], damaged: Sequence[DamagedRun], options: RunsOptions, target: Target, session: Session
) -> Outcome:
    """Remove all but the newest of those chosen; with them damaged ones, of which no filter can be asked."""
    filtered = options.verdicts or options.states or options.label is not None or options.since_s is not None
    more = [] if filtered else [one.head for one in damaged if options.name in (None, one.head.subnet)]
    every = sorted([*chosen, *more], key=lambda head: (head.created_at, head.run), reverse=True)
    ended = [head for head in every if head.ended and not head.spared]
    outcome = await _remove(ended[options.keep :][::-1], options, target, session)
    if not isinstance(outcome.document, KeptRuns):
        return outcome
    return replace(outcome, document=msgspec.structs.replace(outcome.document, matched=len(every)))


async def _remove(doomed: list[RunHead], options: RunsOptions, target: Target, session: Session) -> Outcome:
    """Ask where somebody can be asked, then remove one after the other; exactly what went is in the document."""
    import asyncio

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
    shown = document if removed or failure is None else None
    return Outcome(shown, exit_code=code, failure=failure, next=("p2pnet runs",) if not failure else ())


async def _ask(doomed: list[RunHead], session: Session) -> None:
    from p2pnet.cli.interaction import ask

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
    labelled = sum(head.spared for head in doomed)
    with_labels = f", {labelled} of them with a label" if labelled else ""
    if not await ask(f"Remove {what} ({size}{with_labels}) for good?", session):
        raise CommandError(
            "nothing was removed",
            where="p2pnet runs",
            next_step="answer y, or use --yes",
            exit_code=ExitCode.INTERRUPTED,
        )


# --- the document ---


def _document(
    state: State, heads: Sequence[RunHead], matched: int, every: Sequence[RunHead] | None = None,
    damaged: Sequence[DamagedRun] = (),
) -> KeptRuns:  # fmt: skip
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
        kept_bytes=sum(head.bytes for head in every), within=within, damaged=[_damaged_line(one) for one in damaged],
    )  # fmt: skip


def _damaged_line(one: DamagedRun) -> DamagedLine:
    return DamagedLine(run=one.head.run, subnet=one.head.subnet, why=one.why, bytes=one.head.bytes)


def _line(head: RunHead) -> KeptRun:
    return KeptRun(
        run=head.run, subnet=head.subnet, target=head.target, context=head.context, namespace=head.namespace,
        state=head.state, verdict=head.verdict, label=head.label, nodes=head.nodes,
        artifacts=head.artifacts if head.ended else head.asked, reach=head.reach, p95_ms=head.p95_ms,
        shared=head.shared, created_at=head.created_at, started_at=head.started_at, finished_at=head.finished_at,
        bytes=head.bytes,
    )  # fmt: skip
