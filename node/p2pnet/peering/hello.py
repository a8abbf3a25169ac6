"""The hello: the first words on every connection between nodes, checked against the certificate that came before them."""

import msgspec

from p2pnet.model.errors import RemoteError
from p2pnet.model.peer_messages import Hello

PROTOCOL = 1

CROSSED = "crossed"
"""Refusal of the dial that loses to one in the other direction."""
NO_EDGE = "no edge"
"""Refusal of a peer that the topology does not connect with this node."""


class HelloRefusedError(RemoteError):
    """The peer is who its certificate says, and there will be no link."""


def write_hello(hello: Hello) -> bytes:
    """The hello as it travels."""
    return msgspec.msgpack.encode(hello)


def read_hello(payload: bytes, name: str) -> Hello:
    """The hello of the peer that its certificate calls `name`. Raises HelloRefusedError for anything else."""
    try:
        hello = msgspec.msgpack.decode(payload, type=Hello)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HelloRefusedError(f"not a hello: {error}") from error
    if hello.name != name:
        raise HelloRefusedError(f"the hello names {hello.name[:80]!r}, the certificate {name}")
    return hello
