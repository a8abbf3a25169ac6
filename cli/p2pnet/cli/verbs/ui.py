"""`ui`: the live page of a subnet, served on loopback until Ctrl-C."""

from dataclasses import dataclass
from typing import Annotated

import typer

from p2pnet.cli.documents import LivePage
from p2pnet.cli.options import Name, SubnetOptions
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session

EXAMPLE = "p2pnet ui demo"


@dataclass(frozen=True)
class UiOptions(SubnetOptions):
    """Serve a live page of a subnet.

    Prints an address of this machine that works once, and serves until Ctrl-C: nodes, links, faults, artifacts as they spread,
    and what is slow; with buttons that inject, break and heal, and show the command they stand for.
    """

    name: Name
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="Of 127.0.0.1; 0: one that is free.")
    ] = 0


async def run(options: UiOptions, session: Session) -> Outcome:
    """Until Ctrl-C. TargetError (exit 3) where the subnet is not up at the beginning."""
    import asyncio

    from p2pnet.cli.ui.feed import Feed
    from p2pnet.cli.ui.server import serving

    target = session.target()
    feed = Feed(options.name, target)
    following = asyncio.create_task(feed.run(), name="feed")
    known = asyncio.create_task(feed.known.wait(), name="first view")
    session.interrupted_note = ""
    try:
        await asyncio.wait([following, known], return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            await following
        async with serving(feed, target, port=options.port, typed=session.place.typed()) as guard:
            session.show(LivePage(subnet=options.name, target=target.kind, url=guard.url()))
            session.remark("the address works once, in one browser; Ctrl-C ends the page, the subnet goes on")
            await following
    finally:
        for task in (following, known):
            task.cancel()
        await asyncio.gather(following, known, return_exceptions=True)
    return Outcome()
