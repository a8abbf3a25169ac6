"""How the lab asks nodes: a protocol, which lets runs and collection be tested without a network. `links` implements it."""

from typing import Protocol, TypeVar

import msgspec

from p2pnet.model.control import ControlRefusal, ControlReply
from p2pnet.model.errors import RemoteError

Reply = TypeVar("Reply")

ANSWER_S = 5.0  # of a node that is busy, on a busy machine


class NodeSilentError(RemoteError):
    """A node that is not connected, did not answer in time, or whose answer cannot be read."""

    def __init__(self, node: str, why: str) -> None:
        super().__init__(f"{node} does not answer: {why}")
        self.node = node


class NodeRefusedError(RemoteError):
    """A node that answered with a `ControlRefusal`, or with another shape than the route has."""

    def __init__(self, node: str, refusal: ControlRefusal) -> None:
        super().__init__(f"{node} refused: {refusal.code}: {refusal.message}")
        self.node = node
        self.refusal = refusal


class NodeClient(Protocol):
    """Asks one node one question over its control routes."""

    async def ask(
        self, node: str, route: bytes, request: msgspec.Struct, *, timeout_s: float = ANSWER_S
    ) -> ControlReply:
        """The node's reply, a refusal too. Raises NodeSilentError."""
        ...


async def ask_for(
    node_client: NodeClient,
    node: str,
    route: bytes,
    request: msgspec.Struct,
    shape: type[Reply],
    *,
    timeout_s: float = ANSWER_S,
) -> Reply:
    """The node's reply of this shape. Raises NodeSilentError, and NodeRefusedError for a refusal or another shape."""
    reply = await node_client.ask(node, route, request, timeout_s=timeout_s)
    if isinstance(reply, ControlRefusal):
        raise NodeRefusedError(node, reply)
    if not isinstance(reply, shape):
        raise NodeRefusedError(
            node, ControlRefusal("bad-request", f"answered {route.decode()} with {type(reply).__name__}")
        )
    return reply
