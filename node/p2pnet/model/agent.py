"""What the lab and the agent of a pod say to each other about the processes of the pod's nodes: msgpack on `/agent/*`.

Each is a request and its reply on one stream, for a leaf whose URI is exactly the subnet's `/lab`. Every reply is
`Processes` or a `ControlRefusal`.
"""

from typing import Literal

import msgspec

from p2pnet.model.control import ControlRefusal

ROUTE_ACT = b"/agent/act"
"""A `ProcessAction`."""
ROUTE_PROCESSES = b"/agent/processes"
"""A `ProcessesRequest`."""

PORT_BELOW = 1
"""The agent's UDP port is this far below the one of its pod's first node: 4099 in a cluster."""

Action = Literal["restart", "kill", "pause", "resume", "hold", "release"]
LEASE_S_MAX = 86_400.0
"""The longest lease of a hold or a pause: a day."""
WHY_CHARS_MAX = 100
"""A fault's name has 63; a request of the agent's must fit a pipe in one piece."""
ORDERED = "as ordered"
"""Part of the sentence about a process that ended or was stopped by an order of ours, see `supervisor.table`."""

ProcessState = Literal["starting", "running", "restarting", "paused", "stopped", "unknown"]


class NodeProcess(msgspec.Struct, frozen=True):
    """A node's process as its supervisor knows it. `running`: it serves; `unknown`: somebody else stopped it by a signal."""

    name: str
    state: ProcessState
    restarts: int = 0
    """Starts that replaced a process that had ended by itself or by a kill."""
    starts: int = 0
    detail: str = ""
    """How the last process ended, while none runs; or who stopped the one that does."""
    ending: str = ""
    """How the process before this one ended; empty: there was none."""


class ProcessAction(msgspec.Struct, frozen=True):
    """Restart the node, or do something to its process and so to all nodes that share it.

    kill: it starts again. hold: it is killed and stays dead until it is released. pause, resume: as they say. Answered once
    it is done, with the processes as they then are.
    """

    name: str
    action: Action
    lease_s: float = 0.0
    """Seconds after which a `hold` or a `pause` is undone, unless it is ordered again; 0: it stays. A node whose lab is gone
    comes back by this."""
    why: str = ""
    """What ordered it, e.g. `fault two-die`, at most WHY_CHARS_MAX; empty: somebody, by the action's name."""


class ProcessesRequest(msgspec.Struct, frozen=True):
    """Long poll: the processes, as soon as their version is not `after`, at the latest in `wait_ms`."""

    after: str = ""
    wait_ms: int = 0


class Processes(msgspec.Struct, frozen=True, tag="processes"):
    """All nodes of the pod. `version` changes with every change, also from one agent of a pod to its next."""

    version: str
    nodes: list[NodeProcess]


AgentReply = Processes | ControlRefusal
