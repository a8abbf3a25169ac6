"""The lab's metrics, made from the status when somebody asks. The only importer of prometheus_client in the lab."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from p2pnet.model.report import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _OfStatus(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[GaugeMetricFamily]:
        status = self._status
        nodes = GaugeMetricFamily("p2pnet_lab_nodes", "Nodes by how far they are.", labels=["state"])
        for state in ("desired", "running", "ready", "connected"):
            nodes.add_metric([state], getattr(status.nodes, state))
        links = GaugeMetricFamily("p2pnet_lab_links", "Links wanted, and authenticated at both ends.", labels=["state"])
        links.add_metric(["expected"], status.links.expected)
        links.add_metric(["up"], status.links.up)
        runs = GaugeMetricFamily("p2pnet_lab_runs", "Runs of this lab by state.", labels=["state"])
        for name in ("queued", "running", "finished", "cancelled"):
            runs.add_metric([name], sum(run.state == name for run in status.runs))
        restarts = GaugeMetricFamily("p2pnet_lab_restarts", "Restarts of nodes that ended, summed.")
        restarts.add_metric([], sum(member.restarts for member in status.members))
        return [nodes, links, runs, restarts]


def render(status: Status) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry()
    registry.register(_OfStatus(status))
    return generate_latest(registry)
