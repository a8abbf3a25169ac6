"""`down`: subnets stopped and removed; one that is gone already is no error."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from p2pnet.cli.documents import Removal
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import SubnetOptions, name_argument
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.model.errors import P2pnetError
from p2pnet.model.report import RUN_OPEN
from p2pnet.model.text import some
from p2pnet.store import archive

EXAMPLE = "p2pnet down demo --yes"
DEFAULT_NAME = "demo"
SHOWN = 8  # names in a sentence
ASK_S = 3.0  # for a lab's runs: one that does not answer is removed all the same


@dataclass(frozen=True)
class DownOptions(SubnetOptions):
    """Stop and remove a subnet.

    Its runs are kept. Ends well when it is already gone.
    """

    name: Annotated[str | None, name_argument("the only one there is")] = None
    every: Annotated[bool, typer.Option("--all", help="Every subnet of the target.")] = False
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False


async def run(options: DownOptions, session: Session) -> Outcome:
    """Ask on a terminal, want `--yes` elsewhere; then remove one after the other."""
    from p2pnet.cli.interaction import ask

    target = session.target()
    names = _names(options, target)
    session.interrupted_note = "interrupted: nothing was removed"
    present = [name for name in names if target.presence(name) != "absent"]
    runs = {name: await _open_runs(name, target) for name in present}
    if present and not options.yes:
        if not session.interactive:
            raise CommandError(
                f"this removes {_named(runs)}, and nobody can be asked: standard input is no terminal",
                where="p2pnet down",
                next_step=f"say yes: {' && '.join(f'p2pnet down {name} --yes' for name in present[:SHOWN])}",
            )
        kept = "Open runs end invalid, ended ones are kept" if any(runs.values()) else "Runs are kept"
        if not await ask(f"Remove {_named(runs)}? {kept}.", session):
            failure = CommandError(
                "nothing was removed",
                where=", ".join(present),
                next_step="answer y, or use --yes",
                exit_code=ExitCode.INTERRUPTED,
            )
            return Outcome(exit_code=failure.exit_code, failure=failure)
    session.interrupted_note = "interrupted: what was begun may be left half removed"
    session.resume = tuple(f"p2pnet down {name} --yes" for name in present)
    removed: list[str] = []
    absent: list[str] = []
    for name in names:
        if runs.get(name):
            session.note(f"{name} is taken down under its open {_runs_named(runs[name])}: invalid")
        (removed if await _removed(name, target, session) else absent).append(name)
    if simulated := [name for name in absent if _is_simulated(name, target)]:
        return Outcome(Removal(removed=removed, absent=absent), next=(f"p2pnet runs {simulated[0]} --keep 0",))
    hint = f"p2pnet up {names[0]}" if names else "p2pnet up"
    return Outcome(Removal(removed=removed, absent=absent), next=(hint,))


def _is_simulated(name: str, target: Target) -> bool:
    """Whether all there is of a subnet are runs of the simulator: they are what a person may want removed."""
    return any(head.target == "sim" and target.owns(head) for head in archive.list_heads(target.state, name))


async def _open_runs(name: str, target: Target) -> list[str]:
    """Ids of runs that would end with it: as its lab has them, else as they are kept here."""
    if target.presence(name) == "up":
        import asyncio

        with contextlib.suppress(P2pnetError, TimeoutError):
            async with target.lab(name) as client:
                runs = await asyncio.wait_for(client.runs(), ASK_S)
            return [run.run for run in runs if run.state in RUN_OPEN]
    return [
        head.run
        for head in archive.list_heads(target.state, name)
        if head.state in RUN_OPEN and bool(head.context) == (target.kind != "local")
    ]


def _named(runs: Mapping[str, list[str]]) -> str:
    """`demo with its open run r-1, other`."""
    words = [name + (f" with its open {_runs_named(ids)}" if ids else "") for name, ids in runs.items()]
    return some(words, SHOWN)


def _runs_named(ids: list[str]) -> str:
    return ("run " if len(ids) == 1 else "runs ") + some(ids, SHOWN)


async def _removed(name: str, target: Target, session: Session) -> bool:
    try:
        async with target.lock(name, session.listener):
            return await target.remove(name, session.listener)
    except OSError:
        if target.presence(name) != "absent":
            raise
        return False  # where no lock can be made nothing is being started either: gone is gone


def _names(options: DownOptions, target: Target) -> list[str]:
    if options.every:
        if options.name is not None:
            raise CommandError(
                f"both a name and --all: is it {options.name} or every subnet?",
                where="p2pnet down",
                next_step="give one of the two",
            )
        return target.names()
    if options.name is not None:
        return [options.name]
    names = target.names()
    if len(names) > 1:
        raise CommandError(
            f"which subnet? There are {some(names, SHOWN)}", where="p2pnet down", next_step="name one, or use --all"
        )
    return names or [DEFAULT_NAME]  # that one is gone already
