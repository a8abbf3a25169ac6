"""Which network is in force at a node: the boot copy, then what the lab pushes, healed when the lab falls silent.

A network that the lab leases ends with the lease, so that nothing stays broken whoever broke it has died.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pnet.model.control import ROUTE_NETWORK, ControlRefusal, ControlReply, NetworkPush, NetworkTaken
from p2pnet.model.errors import SpecError
from p2pnet.model.network import NETWORK_BYTES_MAX, NodeNetwork
from p2pnet.node.seam import NetworkSeam
from p2pnet.quic import Endpoint

AWAIT_NETWORK_S = 30.0
"""How long a node that is to wait for the lab's network waits: a subnet without a lab must come up, too."""
LEASE_S_MAX = 86_400.0
"""The longest lease: a day; what is to stay longer is no lease."""
LATE_S = 1.0
"""A lease that ends this much too late ends in a process that was paused or starved, and could not hear the lab."""
REJOIN_S = 5.0
"""Such a process gives the lab this long to reach it and to renew the lease."""

log = logging.getLogger("p2pnet.node")

Join = Callable[[], None]


class NetworkKeeper:
    """Puts networks in force at one seam.

    `boot`: the network at the start. `awaits`: whether to hear the lab's first. `on_network`: told of each.
    """

    def __init__(
        self, seam: NetworkSeam, boot: NodeNetwork, *, awaits: bool, on_network: Callable[[NodeNetwork], None]
    ) -> None:
        self.seam = seam
        self._on_network = on_network
        self.routes: Mapping[bytes, tuple[type[Any], Callable[[Any], ControlReply]]] = {
            ROUTE_NETWORK: (NetworkPush, self.take)
        }
        self._loop = asyncio.get_running_loop()
        self._awaits = awaits
        self._join: Join | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._lease: asyncio.TimerHandle | None = None
        self._apply(boot)

    @property
    def is_waiting(self) -> bool:
        """Whether the node is still waiting for the lab's first network, and hears no peer before."""
        return self.seam.isolated

    def start(self, endpoint: Endpoint, join: Join) -> None:
        """Act on this endpoint, which has sent nothing yet. `join` is called when the node may dial: now, or later."""
        self.seam.attach(endpoint)
        if not self._awaits:
            join()
            return
        self._join = join
        self.seam.isolate(True)
        self._waiting = self._loop.call_later(AWAIT_NETWORK_S, self._waited_in_vain)

    def stop(self) -> None:
        """No lease ends any more, and nothing joins. Shapes stay in force."""
        self._join = None
        for timer in (self._waiting, self._lease):
            if timer is not None:
                timer.cancel()

    def take(self, push: NetworkPush) -> ControlReply:
        """Put the lab's network in force. Whatever it pushed last counts, for a new lab may count versions anew."""
        lease_s = push.lease_s
        if lease_s is not None and not (math.isfinite(lease_s) and 0 < lease_s <= LEASE_S_MAX):
            return ControlRefusal("bad-request", f"lease_s: {lease_s} is not above 0 and at most {LEASE_S_MAX:.0f}")
        if push.network != self.seam.network:
            log.info("%s", _sentence(push.network, lease_s))
            self._apply(push.network)
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None
        if lease_s is not None:
            self._lend(lease_s, push.healed or NodeNetwork())
        self._let_in()
        return NetworkTaken(push.network.version)

    def _lend(self, lease_s: float, healed: NodeNetwork) -> None:
        self._lease = self._loop.call_later(lease_s, self._lapse, healed, self._loop.time() + lease_s)

    def _lapse(self, healed: NodeNetwork, due_s: float) -> None:
        if self._loop.time() - due_s > LATE_S:
            # The silence was this process's own: paused in the middle of a fault, it must not come back healed.
            self._lend(REJOIN_S, healed)
            return
        self._lease = None
        log.warning("the lab has not renewed its lease: %s", _sentence(healed, None))
        self._apply(healed)

    def _apply(self, network: NodeNetwork) -> None:
        self.seam.apply(network)
        self._on_network(network)

    def _waited_in_vain(self) -> None:
        log.warning("no network from the lab in %.0f s: %s", AWAIT_NETWORK_S, _sentence(self.seam.network, None))
        self._let_in()

    def _let_in(self) -> None:
        """Hear peers and dial them from now on."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self.seam.isolated:
            self.seam.isolate(False)
        join, self._join = self._join, None
        if join is not None:
            join()


def read_network(path: Path | None) -> NodeNetwork:
    """The boot copy of a node's network: JSON. Without a file nothing is shaped. Raises SpecError naming the file."""
    if path is None:
        return NodeNetwork()
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # a subnet whose network was never shaped has none
        return NodeNetwork()
    except OSError as error:
        raise SpecError(f"{path}: cannot read the network: {error.strerror}") from error
    if len(data) > NETWORK_BYTES_MAX:
        raise SpecError(f"{path}: the network is larger than {NETWORK_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=NodeNetwork)
    except (msgspec.DecodeError, UnicodeDecodeError, SpecError) as error:
        raise SpecError(f"{path}: not a network: {error}") from error


def _sentence(network: NodeNetwork, lease_s: float | None) -> str:
    """What is in force, for the log."""
    shaped = sum(not network.shape(peer).clear for peer in network.paths)
    parts = {f"{shaped} paths shaped": shaped, "uplink": network.up, "downlink": network.down}
    what = ", ".join(name for name, there in parts.items() if there) or "nothing is shaped"
    lease = "" if lease_s is None else f", for {lease_s:g} s unless renewed"
    return f"network {network.version} is in force: {what}{lease}"
