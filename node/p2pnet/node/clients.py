"""From a name in the config to a client of the broadcast: one of ours, an entry point, or `module:Class`."""

import importlib
import random
import re

from p2pnet.broadcast import Broadcast, Client
from p2pnet.model.config import ClientSpec, NodeConfig
from p2pnet.model.errors import SpecError

ENTRY_POINTS = "p2pnet.clients"
_OURS = {"blob": "p2pnet.broadcast.blob:BlobClient"}
"""Without a look at every installed package's metadata: that costs each node's start 10 ms."""
_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")  # it names routes


def load_client(spec: ClientSpec) -> Client:
    """The client a config asks for, named as it says. Raises SpecError naming it."""
    if not _NAME.fullmatch(spec.name):
        raise SpecError(f"client {spec.name!r}: a name is at most 12 lower-case letters and digits, a letter first")
    target = spec.use or _OURS.get(spec.name) or _entry_point(spec.name)
    module_name, colon, class_name = target.partition(":")
    if not colon:
        raise SpecError(f"client {spec.name}: {target!r} is not of the form module:Class")
    try:
        made = getattr(importlib.import_module(module_name), class_name)(**spec.settings)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SpecError(f"client {spec.name}: cannot make {target}: {error}") from error
    client: Client = made
    client.name = spec.name
    return client


def make_broadcast(config: NodeConfig, client: Client, incarnation: str) -> Broadcast:
    """The broadcast of one client at this node, with a generator of its own: no two starts draw the same back-offs."""
    chance = random.Random(f"{config.seed}/{config.name}/{client.name}/{incarnation}")
    return Broadcast(client, config.name, config.broadcast, chance)


def _entry_point(name: str) -> str:
    from importlib.metadata import entry_points  # csv, email and more: for those who bring clients of their own

    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.value
    raise SpecError(f"client {name}: no entry point of that name in {ENTRY_POINTS}, and no `use: module:Class`")
