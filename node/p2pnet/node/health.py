"""Plain HTTP for probes and scrapes: `/healthz`, `/readyz`, `/metrics`. No control on it.

h11 reads and writes the messages, asyncio carries them: importing a whole web server would cost each pod's start more
CPU than all of QUIC. prometheus_client is imported here only, and when the first scrape comes.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import h11

from p2pnet.broadcast import Broadcast
from p2pnet.model.control import PeersReply
from p2pnet.model.events import EventKind
from p2pnet.node.probes import PROBE_FATES
from p2pnet.node.seam import NetworkSeam
from p2pnet.quic.hosts import listener

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.core import GaugeMetricFamily

CONNECTIONS_MAX = 16
"""Connections at a time; one more is closed at once. A kubelet and a Prometheus need two."""
HEAD_BYTES_MAX = 8192
"""Longest request line with headers."""
IDLE_S = 15.0
"""How long a connection may take to its next whole request."""
READ_BYTES = 4096
"""Read from a connection at a time."""
PLAIN = "text/plain; charset=utf-8"
"""Content type of the other pages."""
METRICS = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of Prometheus' text format."""

DROP_REASONS = ("lost", "overflowed", "blocked", "too_large")
"""Why the emulated network drops datagrams: counters of `netem.LinkCounters`."""

Page = tuple[int, str, bytes]
"""HTTP status, content type, body."""


class MeasuredNode(Protocol):
    """What health page and metrics read of a node."""

    def state(self) -> PeersReply:
        """The node's state, as answered to the lab."""

    def event_counts(self) -> dict[EventKind, int]:
        """Events of this incarnation by kind."""

    def broadcasts(self) -> dict[str, Broadcast]:
        """By client name."""

    def loop_lag_s(self) -> float:
        """Seconds by which the loop's last tick was late."""

    def refusals(self) -> int:
        """Handshakes, hellos and records refused since the start."""

    @property
    def seam(self) -> NetworkSeam:
        """Where the emulated network acts."""

    def probe_counts(self) -> Mapping[str, int]:
        """Probes by what became of them, see PROBE_FATES."""

    def unready(self) -> str:
        """Why the node is not ready; empty when it is."""


class PageServer:
    """A small HTTP server for a few pages, by path."""

    def __init__(self, pages: Mapping[str, Callable[[], Page | Awaitable[Page]]]) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._pages = pages

    async def start(self, host: str, port: int, door: socket.socket | None = None) -> tuple[str, int]:
        """Serve, on `door` where that listens already; the address really bound. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._accept, sock=door if door is not None else listener(host, port))
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        """Serve no more; requests in flight are cut off."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio calls this in a task
        if len(self._connections) >= CONNECTIONS_MAX:
            # Aborted without an answer: writing one would let clients hold more than the bound.
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, until the client closes, is idle, or sends what is not HTTP."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        while http.our_state is not h11.MUST_CLOSE:
            try:
                async with asyncio.timeout(IDLE_S):
                    request = await _next_request(http, reader)
            except h11.RemoteProtocolError as error:
                _answer(http, writer, (error.error_status_hint, PLAIN, f"{error}\n".encode()), close=True)
                await writer.drain()
                return
            if request is None:
                return
            _answer(http, writer, await self._page(request), body=request.method != b"HEAD")  # RFC 9110, 9.3.2
            async with asyncio.timeout(IDLE_S):
                await writer.drain()
            # Keep-alive: a Prometheus scrapes over one connection.
            if http.our_state is h11.DONE and http.their_state is h11.DONE:
                http.start_next_cycle()

    async def _page(self, request: h11.Request) -> Page:
        page = self._pages.get(request.target.partition(b"?")[0].decode("latin-1"))
        if page is None:
            return 404, PLAIN, f"there are {', '.join(self._pages)}\n".encode()
        if request.method not in (b"GET", b"HEAD"):
            return 405, PLAIN, b"only to be read: GET\n"
        made = page()
        return await made if isinstance(made, Awaitable) else made


class HealthPage(PageServer):
    """The pages of one node."""

    def __init__(self, node: MeasuredNode) -> None:
        super().__init__(
            {
                "/healthz": lambda: (200, PLAIN, b"ok\n"),  # an answer at all means that the loop turns
                "/readyz": self._readyz,
                "/metrics": self._metrics,
            }
        )
        self._node = node

    def _readyz(self) -> Page:
        why = self._node.unready()
        return (503 if why else 200), PLAIN, f"{why or 'ok'}\n".encode()

    def _metrics(self) -> Page:
        return 200, METRICS, exposition(self._node)


async def _next_request(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next request, read to its end; None when the other side has gone. Raises h11.RemoteProtocolError."""
    request: h11.Request | None = None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.Data):
            raise h11.RemoteProtocolError("requests here have no body", error_status_hint=413)
        else:  # closed, or an event that a server of GET alone has no use for
            return None


def _answer(
    http: h11.Connection, writer: asyncio.StreamWriter, page: Page, *, body: bool = True, close: bool = False
) -> None:
    status, content_type, text = page
    headers = [("content-type", content_type), ("content-length", str(len(text)))]
    if close:
        headers.append(("connection", "close"))
    if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return  # the request was too malformed for any answer
    writer.write(http.send(h11.Response(status_code=status, headers=headers)) or b"")
    if body:
        writer.write(http.send(h11.Data(data=text)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")


def exposition(node: MeasuredNode) -> bytes:
    """The metrics page in Prometheus' text format: read from the node now, so that nothing is counted twice."""
    from prometheus_client import CollectorRegistry, generate_latest  # imported by nodes that are scraped, not by all
    from prometheus_client.registry import Collector

    class NodeCollector(Collector):
        def collect(self) -> "Iterator[Metric]":
            return _families(node)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector())
    return generate_latest(registry)


def _families(node: MeasuredNode) -> "Iterator[Metric]":
    """The node's state as metric families. Labels are bounded: event kinds, client names, directions; never peers."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    state = node.state()
    yield _gauge("ready", "1 while the node is ready", float(state.ready))
    yield _gauge("peers", "Links in use", len(state.peers))
    yield _gauge("peers_wanted", "Peers this node should be connected to", len(state.wanted))
    yield _gauge("registry_version", "Version of the registry in force", state.registry_version)
    yield _gauge("certificate_not_after_seconds", "End of the leaf, Unix time", state.cert_not_after)
    yield _gauge("loop_lag_seconds", "How late the event loop's last tick was", node.loop_lag_s())
    udp = CounterMetricFamily(
        "p2pnet_node_udp_bytes", "UDP payload exchanged with peers, the lab left out", labels=["direction"]
    )
    udp.add_metric(["sent"], state.udp_sent)
    udp.add_metric(["received"], state.udp_received)
    yield udp
    events = CounterMetricFamily("p2pnet_node_events", "Events by kind", labels=["kind"])
    counts = node.event_counts()
    for kind in EventKind:
        events.add_metric([kind.value], counts.get(kind, 0))
    yield events
    pools = GaugeMetricFamily("p2pnet_node_pool_artifacts", "Artifacts in the validated pool", labels=["client"])
    for client, size in state.pool.items():
        pools.add_metric([client], size)
    yield pools
    counters = CounterMetricFamily("p2pnet_broadcast", "Counts of the broadcast by name", labels=["client", "what"])
    gauges = GaugeMetricFamily("p2pnet_broadcast_now", "What the broadcast has now", labels=["client", "what"])
    for client, broadcast in node.broadcasts().items():
        for what, count in broadcast.counters.items():
            counters.add_metric([client, what], count)
        for what, count in broadcast.gauges().items():
            gauges.add_metric([client, what], count)
    yield counters
    yield gauges
    yield from _network_families(node)
    yield CounterMetricFamily("p2pnet_node_refused", "Handshakes and hellos refused", value=node.refusals())
    yield CounterMetricFamily("p2pnet_node_cpu_seconds", "CPU used, user and system", value=state.cpu_s)


def _network_families(node: MeasuredNode) -> "Iterator[Metric]":
    """The emulated network: `at` is paths (to all peers together), uplink or downlink."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    seam = node.seam
    paths = seam.path_counters()
    counters = {"paths": list(paths.values()), "uplink": [seam.up_counters], "downlink": [seam.down_counters]}
    queued = {"uplink": seam.up_queued_bytes(), "downlink": seam.down_queued_bytes()}
    queued["paths"] = sum(seam.queued_bytes(peer) for peer in paths)
    yield _gauge("network_version", "Version of the emulated network in force", seam.network.version)
    dropped = CounterMetricFamily(
        "p2pnet_node_network_dropped", "Datagrams that the emulated network dropped", labels=["at", "reason"]
    )
    passed = CounterMetricFamily(
        "p2pnet_node_network_bytes", "Bytes of IP packets that passed the emulated network", labels=["at"]
    )
    waiting = GaugeMetricFamily("p2pnet_node_network_queued_bytes", "Bytes that wait for a bandwidth", labels=["at"])
    for at, found in counters.items():
        for reason in DROP_REASONS:
            dropped.add_metric([at, reason], sum(getattr(one, reason) for one in found))
        passed.add_metric([at], sum(one.bytes_passed for one in found))
        waiting.add_metric([at], queued[at])
    yield dropped
    yield passed
    yield waiting
    probes = CounterMetricFamily("p2pnet_node_probes", "Probe datagrams by what became of them", labels=["fate"])
    counts = node.probe_counts()
    for fate in PROBE_FATES:
        probes.add_metric([fate], counts.get(fate, 0))
    yield probes


def _gauge(name: str, help_text: str, value: float) -> "GaugeMetricFamily":
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"p2pnet_node_{name}", help_text, value=value)
