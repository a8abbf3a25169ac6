"""How long a request may be, by its route: checked before its body is read."""

from collections.abc import Iterable

from p2pnet.model import limits
from p2pnet.model.peer_messages import (
    ASK_BYTES_MAX,
    ROUTE_HELLO,
    ROUTE_RECORDS,
    route_digest,
    route_fetch,
    route_synced,
    route_update,
)
from p2pnet.node.control import ROUTE_CAPS
from p2pnet.quic import Settings

SMALL_REQUEST_BYTES = 4 * limits.KIB
"""A hello, a fetch, a synced, and whatever goes to a route nobody knows."""

DIGEST_REQUEST_BYTES = 20 * limits.KIB
"""A digest and the most ids that may be listed with it."""


def settings_of(idle_s: float, clients: Iterable[str]) -> Settings:
    """The endpoint of a node with these clients: a cap for each of its routes, in bytes of payload."""
    names = list(clients)
    small = [ROUTE_HELLO, *map(route_fetch, names), *map(route_synced, names)]
    caps = {
        **ROUTE_CAPS,
        ROUTE_RECORDS: ASK_BYTES_MAX,
        **dict.fromkeys(small, SMALL_REQUEST_BYTES),
        **dict.fromkeys(map(route_digest, names), DIGEST_REQUEST_BYTES),
        **dict.fromkeys(map(route_update, names), limits.UPDATE_BODY_BYTES_MAX),
    }
    return Settings(idle_s=idle_s, message_bytes_max=SMALL_REQUEST_BYTES, route_caps=caps)
