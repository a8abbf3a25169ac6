"""`status`: how a subnet is, once or as it changes; without a name, the only one or a list."""

import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from p2pnet.cli.documents import SubnetList
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import SubnetOptions, name_argument
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.cli.trends import Trends, Watched
from p2pnet.model.errors import P2pnetError
from p2pnet.model.jobs import RunState
from p2pnet.model.report import Status

if TYPE_CHECKING:  # not for `--help`
    from p2pnet.lab_client import LabClient

EXAMPLE = "p2pnet status demo --watch"
WATCH_S = 1.0
PASSING = re.compile(rb'"last_heard":(?:"[^"]*"|null)|silent for \d+ s')
"""What changes from look to look though nothing happened."""


@dataclass(frozen=True)
class StatusOptions(SubnetOptions):
    """Show how a subnet is.

    Nodes, links, certificates, recent runs and faults; without NAME of the only subnet, or a list of all.
    """

    name: Annotated[str | None, name_argument("the only one, else a list of all")] = None
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on showing changes until Ctrl-C.")] = False


async def run(options: StatusOptions, session: Session) -> Outcome:
    """One subnet, or the list of all; with a watch until Ctrl-C, or until nobody reads it any more.

    In JSON, YAML and NDJSON a command line without NAME always gives the list, whatever there is.
    """
    from p2pnet.cli.listing import following

    target = session.target()
    if options.name is not None:
        return await _one(options.name, target, options, session)
    names = target.names()
    if session.output is Output.TABLE and len(names) == 1:
        return await _one(names[0], target, options, session)
    if options.watch:
        await _watch(lambda: _listing(target), session)
    failure = None if names else _nothing(target)
    listing = await _listing(target)
    if failure is not None:
        shown = None if session.output is Output.TABLE else listing
        return Outcome(shown, exit_code=failure.exit_code, failure=failure)
    return Outcome(listing, next=following(listing.subnets))


async def _one(name: str, target: Target, options: StatusOptions, session: Session) -> Outcome:
    async with target.lab(name) as client:
        if options.watch:
            await _watch(client.summary, session, _Looks(client))
        status = await client.summary()
    return Outcome(status, next=_next(status))


def _nothing(target: Target) -> CommandError:
    return CommandError(
        "there is no subnet",
        where=f"target {target.kind}",
        next_step="p2pnet up demo --nodes 10",
        exit_code=ExitCode.NOT_FOUND,
    )


class _Looks:
    """What one subnet did in the last minute, one look after the other."""

    def __init__(self, client: "LabClient") -> None:
        self._client = client
        self._watched = Watched()

    async def see(self, status: Status) -> Trends:
        """With one more look, also at the run that goes on."""
        running: RunState | None = None
        open_runs = [run.run for run in status.runs if run.state == "running"]
        if open_runs:
            with contextlib.suppress(
                P2pnetError
            ):  # it may have been removed meanwhile; a lab that is gone says so itself
                running = await self._client.run(open_runs[-1])
        return self._watched.see(status, running, time.monotonic())


async def _watch(
    look: Callable[[], Awaitable[Status | SubnetList]], session: Session, looks: _Looks | None = None
) -> None:
    """Show it whenever it changes; on a terminal once a second, because ages grow, and with what `looks` tell."""
    import asyncio

    from p2pnet.cli.interaction import while_read

    session.interrupted_note = ""
    drawn = session.output is Output.TABLE and session.stdout.isatty()
    shown: Status | SubnetList | None = None
    async with while_read(session.stdout):
        while True:
            now = await look()
            if shown is None or drawn or _changed(shown, now):
                trends = await looks.see(now) if drawn and looks is not None and isinstance(now, Status) else None
                session.show(now, clear=session.output is Output.TABLE, trends=trends)
                shown = now
            await asyncio.sleep(WATCH_S)


def _changed(shown: Status | SubnetList, now: Status | SubnetList) -> bool:
    return _still(shown) != _still(now)


def _still(document: Status | SubnetList) -> bytes:
    """The document without what only says how time goes by."""
    return PASSING.sub(b"", msgspec.json.encode(document))


async def _listing(target: Target) -> SubnetList:
    from p2pnet.cli.listing import subnet_lines

    return SubnetList(subnets=await subnet_lines(target))


def _next(status: Status) -> tuple[str, ...]:
    if status.nodes.connected < status.nodes.desired:
        return (f"p2pnet logs {status.name}",)
    return (f"p2pnet inject {status.name} --size 64KiB --count 20 --rate 10/s",)
