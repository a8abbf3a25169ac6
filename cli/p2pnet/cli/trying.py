"""Whether this machine's Python can run the clients of a document: asked before anything is started."""

import asyncio
import re
import sys

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.progress import ProgressListener
from p2pnet.cli.targets.lab_process import environment
from p2pnet.node.clients import try_clients
from p2pnet.subnet.node_config import client_configs
from p2pnet.subnet.spec import Subnet

_PLACE = re.compile(r"spec\.clients\[\d+\]\.(\w+)")


async def check_clients(subnet: Subnet, listener: ProgressListener) -> None:
    """CommandError (exit 2) naming the first client that nodes of this Python could not run. At most half a minute."""
    listener.waiting("its clients to be tried")
    why = await asyncio.to_thread(try_clients, client_configs(subnet), environment=environment())
    if why:
        place = _PLACE.match(why)
        raise CommandError(
            why, where=f"Subnet {subnet.name}, with {sys.executable}", next_step=_next_step(place[1] if place else "")
        )


def _next_step(key: str) -> str:
    if key == "settings":
        return "correct them: they are the keyword arguments of the class"
    return "correct it, and see that nodes can import it: install its package for that Python, or name its folder in PYTHONPATH"
