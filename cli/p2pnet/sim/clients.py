"""Clients of simulated nodes: from a name, class or object to a fresh client for every incarnation of a node."""

import copy
import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from inspect import signature
from typing import cast

from p2pnet.broadcast import Client
from p2pnet.model.errors import SpecError

ENTRY_POINTS = "p2pnet.clients"
_OURS = {"blob": "p2pnet.broadcast.blob:BlobClient", "beacon": "p2pnet.broadcast.beacon:BeaconClient"}

ClientLike = str | Callable[..., Client] | Client
"""How a node's client is named: `blob`, `beacon`, a name in the entry point group `p2pnet.clients`, `module:Class`, a class or
other callable that makes a client (it is called with `node`, the node's name, if it has that parameter), or a client, of which
every incarnation gets a deep copy."""


def client_maker(client: ClientLike) -> Callable[[str], Client]:
    """A function from a node's name to a fresh client. Raises SpecError for a name that cannot be resolved."""
    if isinstance(client, str):
        return _calling(_find(client))
    if not isinstance(client, type) and hasattr(client, "on_state_change"):
        # A restarted node must not find the state of its former incarnation.
        return lambda _: copy.deepcopy(cast("Client", client))
    if not callable(client):
        raise SpecError(f"{client!r} is no client: it has no method on_state_change, and makes none when it is called")
    return _calling(client)


def _calling(make: Callable[..., Client]) -> Callable[[str], Client]:
    try:
        takes_node = "node" in signature(make).parameters
    except ValueError:  # written in C
        takes_node = False
    return (lambda node: make(node=node)) if takes_node else (lambda _: make())


def _find(name: str) -> Callable[..., Client]:
    target = name if ":" in name else _OURS.get(name) or _entry_point(name)
    module_name, _, class_name = target.partition(":")
    try:
        made: Callable[..., Client] = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"client {name}: cannot find {target}: {error}") from error
    return made


def _entry_point(name: str) -> str:
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.value
    raise SpecError(
        f"client {name}: no entry point of that name in {ENTRY_POINTS}, and it is not of the form module:Class"
    )
