"""The subnets of a target, a line each: for `status` without a name, and `ls`."""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from p2pnet.cli.documents import SubnetLine
from p2pnet.cli.targets.target import Target
from p2pnet.cli.threads import in_daemon
from p2pnet.model.errors import P2pnetError

ASKED_AT_ONCE_MAX = 16  # labs


async def subnet_lines(target: Target) -> list[SubnetLine]:
    """A line for every subnet there is, sorted by name. Asking a dead lab also ends its open runs."""
    room = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def line(name: str) -> SubnetLine:
        async with room:
            return await _line(target, name)

    return list(await asyncio.gather(*map(line, await in_daemon(target.names))))


def following(lines: Sequence[SubnetLine]) -> tuple[str, ...]:
    """The commands to type next after a list of subnets; none after an empty one."""
    first: dict[str, str] = {}
    for line in lines:
        ended = line.state if line.target == "local" else ""
        first.setdefault(ended if ended in ("dead", "damaged") else "alive", line.name)
    return (
        *(("p2pnet status NAME",) if "alive" in first else ()),
        *((f"p2pnet up {first['dead']}",) if "dead" in first else ()),
        *((f"p2pnet down {first['damaged']}",) if "damaged" in first else ()),
    )


async def _line(target: Target, name: str) -> SubnetLine:
    context, namespace = target.location()
    known = SubnetLine(name=name, target=target.kind, state="dead", context=context, namespace=namespace)
    try:
        async with target.lab(name) as client:
            status = await client.summary()
    except P2pnetError:
        presence = target.presence(name)
        return replace(known, state="silent" if presence == "up" else "dead" if presence == "absent" else presence)
    return replace(
        known, state="up", desired=status.nodes.desired, connected=status.nodes.connected,
        links_expected=status.links.expected, links_up=status.links.up, up_since=status.up_since,
    )  # fmt: skip
