"""Whether nodes of this Python could run the clients of a document, asked before any is started."""

import asyncio
import re
import sys

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.progress import ProgressListener
from p2pnet.cli.targets.lab_process import environment
from p2pnet.node.clients import try_clients
from p2pnet.subnet.node_config import client_configs
from p2pnet.subnet.spec import Subnet

_CLIENT_FIELD = re.compile(r"spec\.clients\[\d+\]\.(\w+)")


async def check_clients(subnet: Subnet, listener: ProgressListener) -> None:
    """CommandError (exit 2) naming the first client that nodes of this Python could not run. At most half a minute."""
    listener.waiting("its clients to be tried")
    why = await asyncio.to_thread(try_clients, client_configs(subnet), environment=environment())
    if why:
        field_ = _CLIENT_FIELD.match(why)
        raise CommandError(
            why,
            where=f"Subnet {subnet.name}, with {sys.executable}",
            next_step=_client_hint(field_[1] if field_ else ""),
        )


def _client_hint(key: str) -> str:
    if key == "settings":
        return "correct them: they are the keyword arguments of the class"
    return "correct it, and see that nodes can import it: install its package for that Python, or name its folder in PYTHONPATH"
