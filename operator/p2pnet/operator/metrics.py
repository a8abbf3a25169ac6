"""The operator's metrics: the only importer of prometheus_client here. The series of a resource end with it.

Series are bounded by resources: a Subnet has one per state, condition and status, and one for each condition's reason; Injections
are counted by their Subnet and state.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from p2pnet.operator.health import all_interfaces
from p2pnet.operator.kube.api import ApiError, ConflictError, ForbiddenError, Object
from p2pnet.operator.kube.queue import Controller, Key

RESULTS = ("ok", "conflict", "api", "forbidden", "error")
VERDICTS = ("pass", "fail", "invalid")
STATUSES = ("True", "False", "Unknown")


class Metrics:
    """All metrics of the process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        subnet = ["namespace", "subnet"]
        self._reconciled = Counter(
            "p2pnet_reconcile", "Reconciliations by result: ok, conflict, api, forbidden or error.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "p2pnet_reconcile_duration_seconds", "Duration of a reconciliation.", registry=self.registry,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )  # fmt: skip
        self._running = Gauge(
            "p2pnet_reconcile_in_progress_start_time_seconds", "Start of the reconciliation under way; alert on its age.",
            ["kind", "namespace", "name"], registry=self.registry,
        )  # fmt: skip
        self._requests = Counter(
            "p2pnet_api_requests", "Requests to the API server.", ["verb", "resource", "code"], registry=self.registry
        )
        self._nodes = Gauge(
            "p2pnet_subnet_nodes",
            "Nodes by state: desired, ready or connected.",
            [*subnet, "state"],
            registry=self.registry,
        )
        self._expiry = Gauge(
            "p2pnet_certificate_expiry_timestamp_seconds", "End of the leaf that expires first.", subnet,
            registry=self.registry,
        )  # fmt: skip
        self._renew_before = Gauge(
            "p2pnet_certificate_renew_before_seconds", "How long before their end the Subnet's leaves are renewed.", subnet,
            registry=self.registry,
        )  # fmt: skip
        self._depth = Gauge(
            "p2pnet_workqueue_depth", "Resources that are due and wait for a worker.", registry=self.registry
        )
        self._listed = Gauge(
            "p2pnet_last_list_timestamp_seconds", "Last full list of resources.", registry=self.registry
        )
        self._leader = Gauge("p2pnet_leader", "1 while this replica acts.", registry=self.registry)
        self._injections = Counter(
            "p2pnet_injections", "Injections that have ended, by verdict: pass, fail or invalid.", ["verdict"],
            registry=self.registry,
        )  # fmt: skip
        self._conditions = Gauge(
            "p2pnet_subnet_condition", "Whether a condition of a Subnet has a status, True, False or Unknown: 1 or 0.",
            [*subnet, "condition", "status"], registry=self.registry,
        )  # fmt: skip
        self._reasons = Gauge(
            "p2pnet_subnet_condition_reason", "1 for the reason that a condition of a Subnet gives now.",
            [*subnet, "condition", "reason"], registry=self.registry,
        )  # fmt: skip
        self._injections_now = Gauge(
            "p2pnet_subnet_injections", "Injections there are, by the Subnet they name and their state.", [*subnet, "state"],
            registry=self.registry,
        )  # fmt: skip
        self._reason_of: dict[tuple[str, str, str], str] = {}
        """By namespace, Subnet and condition."""
        self._injection_of: dict[Key, tuple[str, str]] = {}
        """Subnet and state of each Injection."""
        # A series that begins at 1 has never increased, as Prometheus sees it: alerts would miss the first failure.
        for result in RESULTS:
            self._reconciled.labels(result)
        for verdict in VERDICTS:
            self._injections.labels(verdict)
        self._began: dict[Key, float] = {}

    def serve(self, port: int) -> None:
        """Serve /metrics, in a thread of its own."""
        start_http_server(port, addr=all_interfaces(), registry=self.registry)

    def request(self, verb: str, resource: str, code: str) -> None:
        """A request to the API server has ended; `code` is the HTTP status, or `error` without an answer."""
        self._requests.labels(verb, resource, code).inc()

    def depth(self, depth: Callable[[], int]) -> None:
        """Where to read how many resources are due."""
        self._depth.set_function(depth)

    def listed(self) -> None:
        """All resources have just been listed."""
        self._listed.set_to_current_time()

    def leading(self, leads: bool) -> None:
        """Whether this replica acts."""
        self._leader.set(int(leads))

    def measured(self, controller: Controller) -> Controller:
        """The controller with its reconciliations counted and timed."""

        async def reconcile(key: Key) -> float | None:
            return await self._measure(controller, key)

        return replace(controller, reconcile=reconcile)

    async def _measure(self, controller: Controller, key: Key) -> float | None:
        began = time.monotonic()
        self._began[key] = began
        running = (key.kind.kind, key.namespace, key.name)
        self._running.labels(*running).set_to_current_time()
        result = "error"
        try:
            again = await controller.reconcile(key)
        except ConflictError:
            result = "conflict"
            raise
        except ApiError as error:
            # A used-up quota is the user's matter; a missing right is the installation's, and has an alert.
            result = "forbidden" if isinstance(error, ForbiddenError) and not error.quota else "api"
            raise
        else:
            result = "ok"
            return again
        finally:
            self._began.pop(key, None)
            self._running.remove(*running)
            self._reconciled.labels(result).inc()
            self._seconds.observe(time.monotonic() - began)

    @property
    def longest_running_s(self) -> float:
        """Age of the oldest reconciliation under way, 0 at rest: what tells a stuck operator from a quiet one."""
        return time.monotonic() - min(self._began.values()) if self._began else 0.0

    def subnet(self, key: Key, status: Object, expiries: Iterable[datetime], *, renew_before_s: float) -> None:
        """What the status of a Subnet says, when its leaves expire, and how long before that they are renewed."""
        self._renew_before.labels(key.namespace, key.name).set(renew_before_s)
        for state, count in (status.get("nodes") or {}).items():
            self._nodes.labels(key.namespace, key.name, state).set(count)
        first = min(expiries, default=None)
        if first is not None:
            self._expiry.labels(key.namespace, key.name).set(first.timestamp())

    def conditions(self, key: Key, status: Object) -> None:
        """What the conditions in a Subnet's status say."""
        for one in status.get("conditions") or []:
            place = (key.namespace, key.name, one["type"])
            for value in STATUSES:
                self._conditions.labels(*place, value).set(one["status"] == value)
            before, reason = self._reason_of.get(place), one["reason"]
            self._reason_of[place] = reason
            self._reasons.labels(*place, reason).set(1)
            if before not in (None, reason):
                self._reasons.remove(*place, before)

    def injection(self, key: Key, subnet: str, state: str) -> None:
        """An Injection of this Subnet is in this state."""
        self._count_injection(key, (subnet, state))

    def forget_injection(self, key: Key) -> None:
        """An Injection is gone."""
        self._count_injection(key, None)

    def _count_injection(self, key: Key, now: tuple[str, str] | None) -> None:
        before = self._injection_of.pop(key, None)
        if now is not None:
            self._injection_of[key] = now
        if before == now:
            return
        for subnet in {place[0] for place in (before, now) if place is not None}:
            found = Tally(
                state for other, (its, state) in self._injection_of.items()
                if (other.namespace, its) == (key.namespace, subnet)
            )  # fmt: skip
            labels = {"namespace": key.namespace, "subnet": subnet}
            if not found:
                self._injections_now.remove_by_labels(labels)
                continue
            for state in {*found, *(place[1] for place in (before, now) if place is not None and place[0] == subnet)}:
                self._injections_now.labels(key.namespace, subnet, state).set(found[state])

    def injection_ended(self, verdict: str) -> None:
        """An Injection has ended with this verdict."""
        self._injections.labels(verdict).inc()

    def forget(self, key: Key) -> None:
        """A Subnet is gone, and its series with it."""
        for family in (self._nodes, self._expiry, self._renew_before, self._conditions, self._reasons):
            family.remove_by_labels({"namespace": key.namespace, "subnet": key.name})
        for place in [place for place in self._reason_of if place[:2] == (key.namespace, key.name)]:
            del self._reason_of[place]
