"""What the canary needs of its lab, from the lab's parts."""

from collections.abc import Callable, Mapping

from p2pnet.lab.backends.backend import Backend
from p2pnet.lab.network.canary import Canary, CanaryFacts
from p2pnet.lab.network.control import NetworkControl
from p2pnet.lab.nodes.clocks import Clocks
from p2pnet.lab.nodes.collector import Collector
from p2pnet.lab.nodes.node_client import NodeClient
from p2pnet.model.control import PeersReply
from p2pnet.subnet.members import refused_everywhere


def canary_of(
    backend: Backend, node_client: NodeClient, network: NetworkControl, collector: Collector, clocks: Clocks, *,
    views: Mapping[str, PeersReply], expected: Callable[[str], bool], busy: Callable[[], bool],
) -> Canary:  # fmt: skip
    """A canary of a lab's nodes. `views`: what nodes that answer reported last; `expected(node)`: whether it should answer."""

    def peers() -> dict[str, set[str]]:
        return {node: {one.name for one in view.peers} for node, view in views.items()}

    def starts() -> dict[str, str]:
        return {node: view.incarnation for node, view in views.items()}

    def left_out() -> set[str]:
        out = {
            node for node in backend.groups() if node not in views or not expected(node) or backend.process(node).halted
        }
        return out | refused_everywhere(backend.subnet)

    return Canary(
        CanaryFacts(
            node_client=node_client, plan=lambda: network.plan, membership=lambda: backend.membership, peers=peers,
            starts=starts, left_out=left_out, still=network.still, lacking=network.pusher.lacking, clocks=clocks,
            boots=collector.boot_ids, busy=busy, seed=backend.subnet.spec.seed,
        )
    )  # fmt: skip
