"""Clients of simulated nodes: from a name, class or object to a fresh client for every incarnation of a node."""

import copy
from collections.abc import Callable
from typing import cast

from p2pnet.broadcast import Client
from p2pnet.broadcast.loading import OURS, entry_point, find_maker, takes_a_node
from p2pnet.model.errors import SpecError

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
    return (lambda node: make(node=node)) if takes_a_node(make) else (lambda _: make())


def _find(name: str) -> Callable[..., Client]:
    place = f"client {name}"
    return find_maker(name if ":" in name else OURS.get(name) or entry_point(name, place), place)
