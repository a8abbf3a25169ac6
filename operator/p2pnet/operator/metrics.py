"""The operator's metrics: the only importer of prometheus_client here. Series of a Subnet go with it."""

import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from p2pnet.operator.health import everywhere
from p2pnet.operator.kube.api import ApiError, ConflictError, ForbiddenError, Object
from p2pnet.operator.kube.queue import Key


class Metrics:
    """Everything counted, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        place = ["namespace", "subnet"]
        self._looks = Counter(
            "p2pnet_reconcile", "Looks at Subnets by how they ended.", ["result"], registry=self.registry
        )
        self._seconds = Histogram(
            "p2pnet_reconcile_duration_seconds", "How long a look took.", registry=self.registry,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )  # fmt: skip
        self._running = Gauge(
            "p2pnet_reconcile_in_progress_start_time_seconds", "When the look under way began; alert on its age.", place,
            registry=self.registry,
        )  # fmt: skip
        self._requests = Counter(
            "p2pnet_api_requests", "Requests to the API server.", ["verb", "resource", "code"], registry=self.registry
        )
        self._nodes = Gauge(
            "p2pnet_subnet_nodes", "Nodes by how far they are.", [*place, "state"], registry=self.registry
        )
        self._expiry = Gauge(
            "p2pnet_certificate_expiry_timestamp_seconds",
            "End of the leaf that ends first.",
            place,
            registry=self.registry,
        )
        self._depth = Gauge(
            "p2pnet_workqueue_depth", "Subnets that are due and wait for a worker.", registry=self.registry
        )
        self._listed = Gauge("p2pnet_last_list_timestamp_seconds", "Last full list of Subnets.", registry=self.registry)
        self._leader = Gauge("p2pnet_leader", "1 while this replica acts.", registry=self.registry)
        self._busy: dict[Key, float] = {}

    def serve(self, port: int) -> None:
        """Serve /metrics, in a thread of its own."""
        start_http_server(port, addr=everywhere(), registry=self.registry)

    def request(self, verb: str, resource: str, code: str) -> None:
        """A request to the API server has ended; `code` is the HTTP status, or a word."""
        self._requests.labels(verb, resource, code).inc()

    def depth(self, depth: Callable[[], int]) -> None:
        """Where to read how many Subnets are due."""
        self._depth.set_function(depth)

    def listed(self) -> None:
        """All Subnets have just been listed."""
        self._listed.set_to_current_time()

    def leading(self, leads: bool) -> None:
        """Whether this replica acts."""
        self._leader.set(int(leads))

    async def watched(self, key: Key, look: Callable[[Key], Awaitable[float | None]]) -> float | None:
        """Look, and count it."""
        began = time.monotonic()
        self._busy[key] = began
        self._running.labels(*key).set_to_current_time()
        result = "error"
        try:
            again = await look(key)
        except ConflictError:
            result = "conflict"
            raise
        except ApiError as error:
            result = "forbidden" if isinstance(error, ForbiddenError) and not error.quota else "api"
            raise
        else:
            result = "ok"
            return again
        finally:
            self._busy.pop(key, None)
            self._running.remove(*key)
            self._looks.labels(result).inc()
            self._seconds.observe(time.monotonic() - began)

    @property
    def longest_look_s(self) -> float:
        """Age of the oldest look under way: what tells a stuck operator from a quiet one."""
        return time.monotonic() - min(self._busy.values()) if self._busy else 0.0

    def subnet(self, key: Key, status: Object, ends: Iterable[datetime]) -> None:
        """What a Subnet's status says."""
        for state, count in (status.get("nodes") or {}).items():
            self._nodes.labels(*key, state).set(count)
        first = min(ends, default=None)
        if first is not None:
            self._expiry.labels(*key).set(first.timestamp())

    def forget(self, key: Key) -> None:
        """The Subnet is gone: so are its series."""
        for family in (self._nodes, self._expiry):
            family.remove_by_labels({"namespace": key.namespace, "subnet": key.name})
