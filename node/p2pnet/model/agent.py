"""The lab's words with a pod's warden, who reaches the processes of the pod's nodes: msgpack payloads of `/warden/*`.

Each is a request and its reply on one stream, for a leaf whose URI is exactly the subnet's `/lab`. Every reply is
`Processes` or a `control.Refusal`.
"""

from typing import Literal

import msgspec

from p2pnet.model.control import ControlRefusal

ROUTE_ACT = b"/warden/act"
ROUTE_PROCESSES = b"/warden/processes"

PORT_BELOW = 1
"""The warden's UDP port is this far below the one of its pod's first node: 4099 in a cluster."""

Action = Literal["restart", "kill", "pause", "resume"]
ORDERED = "as ordered"
"""Stands in the words about an end or a halt that somebody asked for here."""

State = Literal["starting", "running", "restarting", "paused", "stopped", "unknown"]


class NodeProcess(msgspec.Struct, frozen=True):
    """A node's process as its nursery knows it. `running`: it said that it serves; `unknown`: somebody else stopped it."""

    name: str
    state: State
    restarts: int = 0
    """Starts that replaced a process that had ended by itself or by a kill."""
    starts: int = 0
    detail: str = ""
    ending: str = ""
    """How the process before this one ended; empty: there was none."""


class ProcessAction(msgspec.Struct, frozen=True):
    """Restart the node, or kill (it starts again), pause or resume its process and so all nodes that share it.

    Answered once it is done, with the processes as they then are.
    """

    name: str
    action: Action


class ProcessesRequest(msgspec.Struct, frozen=True):
    """The processes, as soon as they are not those of version `after`, at the latest in `wait_ms`."""

    after: str = ""
    wait_ms: int = 0


class Processes(msgspec.Struct, frozen=True, tag="processes"):
    """All nodes of the pod. `version` differs whenever something else does, also between two wardens of a pod."""

    version: str
    nodes: list[NodeProcess]


AgentReply = Processes | ControlRefusal
