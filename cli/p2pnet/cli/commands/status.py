"""`status`: how a subnet is now, once or as it changes; without a name, of the only one or a list."""

import asyncio
from dataclasses import dataclass

import msgspec

from p2pnet.cli.documents import SubnetLine, SubnetList
from p2pnet.cli.failure import CommandError, ExitCode
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.session import Session
from p2pnet.cli.targets import Target
from p2pnet.model.errors import P2pnetError
from p2pnet.model.report import Status

WATCH_S = 1.0
ASKED_MAX = 32  # labs that are asked at the same time


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    name: str | None = None
    watch: bool = False


async def run(options: Options, session: Session) -> Outcome:
    """One status, a list, or a watch that only Ctrl-C ends."""
    target = session.target()
    name = options.name or _only(target)
    if name is None:
        return Outcome(SubnetList(subnets=await lines_of(target)), next=("p2pnet status NAME",))
    async with target.desk(name) as desk:
        status = await desk.summary()
        if options.watch:
            session.interrupted_note = ""
            await _watch(desk.summary, status, session)
    return Outcome(status, next=_next(status))


def _only(target: Target) -> str | None:
    names = target.names()
    if not names:
        raise CommandError(
            "there is no subnet",
            where=f"target {target.kind}",
            todo="p2pnet up demo --nodes 10",
            exit_code=ExitCode.NOT_FOUND,
        )
    return names[0] if len(names) == 1 else None


async def _watch(summary, status: Status, session: Session) -> None:  # type: ignore[no-untyped-def]
    shown: Status | None = None
    while True:
        if shown is None or (session.output is Output.TABLE and session.stdout.isatty()) or _changed(shown, status):
            session.show(status, clear=session.output is Output.TABLE)
            shown = status
        await asyncio.sleep(WATCH_S)
        status = await summary()


def _changed(shown: Status, status: Status) -> bool:
    return msgspec.json.encode(shown) != msgspec.json.encode(status)


async def lines_of(target: Target) -> list[SubnetLine]:
    """Every subnet of a target."""
    gate = asyncio.Semaphore(ASKED_MAX)

    async def one(name: str) -> SubnetLine:
        async with gate:
            return await _line(target, name)

    return list(await asyncio.gather(*map(one, target.names())))


async def _line(target: Target, name: str) -> SubnetLine:
    try:
        async with target.desk(name) as desk:  # of a dead one too: this is what ends its open runs
            status = await desk.summary()
    except P2pnetError:
        return SubnetLine(name, target.kind, "damaged" if target.look(name) == "damaged" else "dead")
    nodes, links = status.nodes, status.links
    return SubnetLine(
        name, target.kind, "up", nodes.desired, nodes.connected, links.expected, links.up, status.up_since
    )


def _next(status: Status) -> tuple[str, ...]:
    if status.nodes.connected < status.nodes.desired:
        return (f"p2pnet logs {status.name}",)
    return (f"p2pnet inject {status.name} --size 64KiB --count 20",)
