"""What `/metrics` says: read from the node when it is scraped, so that nothing is counted twice or between scrapes.

Labels are bounded: event kinds, client names and directions, never peers or artifacts. The only importer of
prometheus_client here.
"""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from p2pnet.broadcast import Broadcast
from p2pnet.model.control import PeersReply
from p2pnet.model.events import EventKind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Measured(Protocol):
    """What a node lets metrics and health see of itself."""

    def state(self) -> PeersReply:
        """As answered to the lab."""

    def event_counts(self) -> dict[EventKind, int]:
        """Events of this incarnation by kind."""

    def broadcasts(self) -> dict[str, Broadcast]:
        """By client name."""

    def loop_lag_s(self) -> float:
        """How late the loop's last tick was."""

    def refusals(self) -> int:
        """Handshakes and hellos refused."""

    def unready(self) -> str:
        """Why the node is not ready; empty when it is."""


class NodeCollector(Collector):
    """One scrape is one look at the node."""

    def __init__(self, node: Measured) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """The node's state as metric families."""
        state = self._node.state()
        yield _gauge("ready", "1 while the node is ready", float(state.ready))
        yield _gauge("peers", "Links in use", len(state.peers))
        yield _gauge("peers_wanted", "Peers this node should be connected to", len(state.wanted))
        yield _gauge("registry_version", "Version of the registry in force", state.registry_version)
        yield _gauge("certificate_not_after_seconds", "End of the leaf, Unix time", state.cert_not_after)
        yield _gauge("loop_lag_seconds", "How late the event loop's last tick was", self._node.loop_lag_s())
        udp = CounterMetricFamily(
            "p2pnet_node_udp_bytes", "UDP payload exchanged with peers, the lab left out", labels=["direction"]
        )
        udp.add_metric(["sent"], state.udp_sent)
        udp.add_metric(["received"], state.udp_received)
        yield udp
        events = CounterMetricFamily("p2pnet_node_events", "Events by kind", labels=["kind"])
        counts = self._node.event_counts()
        for kind in EventKind:
            events.add_metric([kind.value], counts.get(kind, 0))
        yield events
        pools = GaugeMetricFamily("p2pnet_node_pool_artifacts", "Artifacts in the validated pool", labels=["client"])
        for client, size in state.pool.items():
            pools.add_metric([client], size)
        yield pools
        counters = CounterMetricFamily("p2pnet_broadcast", "Counts of the broadcast by name", labels=["client", "what"])
        gauges = GaugeMetricFamily("p2pnet_broadcast_now", "What the broadcast has now", labels=["client", "what"])
        for client, broadcast in self._node.broadcasts().items():
            for what, count in broadcast.counters.items():
                counters.add_metric([client, what], count)
            for what, count in broadcast.gauges().items():
                gauges.add_metric([client, what], count)
        yield counters
        yield gauges
        yield CounterMetricFamily("p2pnet_node_refused", "Handshakes and hellos refused", value=self._node.refusals())
        yield CounterMetricFamily("p2pnet_node_cpu_seconds", "CPU used, user and system", value=state.cpu_s)


def exposition(node: Measured) -> bytes:
    """The whole page in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node))
    return generate_latest(registry)


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"p2pnet_node_{name}", words, value=value)
