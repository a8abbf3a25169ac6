"""`status`: how a subnet is, once or as it changes; without a name, the only one or a list."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer

from p2pnet.cli.documents import SubnetList
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import SubnetOptions, name_argument
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.model.report import Status

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
    return Outcome(listing, next=("p2pnet status NAME",))


async def _one(name: str, target: Target, options: StatusOptions, session: Session) -> Outcome:
    async with target.lab(name) as client:
        if options.watch:
            await _watch(client.summary, session)
        status = await client.summary()
    return Outcome(status, next=_next(status))


def _nothing(target: Target) -> CommandError:
    return CommandError(
        "there is no subnet",
        where=f"target {target.kind}",
        next_step="p2pnet up demo --nodes 10",
        exit_code=ExitCode.NOT_FOUND,
    )


async def _watch(look: Callable[[], Awaitable[Status | SubnetList]], session: Session) -> None:
    """Show it whenever it changes; on a terminal once a second, because ages grow."""
    import asyncio

    from p2pnet.cli.interaction import while_read

    session.interrupted_note = ""
    drawn = session.output is Output.TABLE and session.stdout.isatty()
    shown: Status | SubnetList | None = None
    async with while_read(session.stdout):
        while True:
            now = await look()
            if shown is None or drawn or _changed(shown, now):
                session.show(now, clear=session.output is Output.TABLE)
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
