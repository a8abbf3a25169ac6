"""Routes of `/v1` about the subnet itself: status, members, document, nodes, certificates, metrics, events, logs, stop."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast, get_args

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from p2pnet.lab.http.common import HEARTBEAT_S, LAB, answer, body, flag, number, stream
from p2pnet.lab.lab import Lab
from p2pnet.model.control import MembersTaken
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.events import EventKind
from p2pnet.model.jobs import LogLine, NodeAction, Revision, Rotation
from p2pnet.model.registry import Membership
from p2pnet.model.report import RUN_ENDED, LinkFigures, NetworkRow, RunSummary, Status, Verdict
from p2pnet.store.logs import LogQuery, ends_of, event_lines, follow, nodes_of, read_all
from p2pnet.subnet.document import digest_of, load_subnet, to_document

routes = web.RouteTableDef()

LINES_PER_WRITE = 500  # of logs: what is encoded between two turns of the event loop
REVISION_WAIT_MS_MAX = 60_000  # of a long poll for a revision: below the idle timeouts of proxies on the way
STOP_DELAY_S = 0.05  # after `stop` is answered: time for the answer to leave
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@routes.get("/v1/summary")
async def summary(request: web.Request) -> web.Response:
    """Answer with the status document."""
    lab = request.app[LAB]
    more = {"document": digest_of(lab.backend.subnet), "revision": lab.revision.current}
    return answer(msgspec.structs.replace(lab.status(), **more))


@routes.get("/v1/revision")
async def revision(request: web.Request) -> web.Response:
    """Long poll: answer with the revision of the status, as soon as it is not `after`, at the latest after `wait_ms`."""
    wait_s = number(request, "wait_ms", 0, most=REVISION_WAIT_MS_MAX) / 1000
    counter = request.app[LAB].revision
    return answer(Revision(await counter.wait_past(request.query.get("after", ""), wait_s), counter.boot))


@routes.get("/v1/members")
async def members(request: web.Request) -> web.Response:
    """Answer with the registry and edges in force."""
    return answer(request.app[LAB].backend.membership)


@routes.post("/v1/members")
async def take_members(request: web.Request) -> web.Response:
    """Take a newer registry from the operator; answer with the version in force."""
    membership = await body(request, Membership)
    return answer(MembersTaken(await request.app[LAB].take_members(membership)))


@routes.get("/v1/spec")
async def spec(request: web.Request) -> web.Response:
    """Answer with the Subnet document in force; TargetError once the lab is to end, for it is in force no more."""
    lab = request.app[LAB]
    if lab.stop_reason:
        raise TargetError(f"the lab of {lab.paths.name} stops: {lab.stop_reason}")
    return answer(to_document(request.app[LAB].backend.subnet))


@routes.put("/v1/spec")
async def take_spec(request: web.Request) -> web.Response:
    """Put a document in force that the operator has checked; answer with it."""
    subnet = load_subnet(await body(request, dict[str, Any]))
    request.app[LAB].backend.adopt_document(subnet)
    return answer(to_document(request.app[LAB].backend.subnet))


@routes.patch("/v1/spec")
async def edit(request: web.Request) -> web.Response:
    """Apply a live edit, a whole document or a merge patch; answer with the document in force."""
    return answer(await request.app[LAB].edit(await body(request, dict[str, Any])))


@routes.post("/v1/nodes/{node}")
async def execute(request: web.Request) -> web.Response:
    """Restart, kill, pause or resume a node; answer with its entry of the status."""
    return answer(await request.app[LAB].execute(request.match_info["node"], await body(request, NodeAction)))


@routes.post("/v1/rotate")
async def rotate(request: web.Request) -> web.Response:
    """Issue new leaves for all nodes and the lab."""
    return answer(Rotation(await request.app[LAB].renew(everything=True)))


@routes.post("/v1/stop")
async def stop(request: web.Request) -> web.Response:
    """Stop the lab once this is answered; questions for the document are refused from now on."""
    request.app[LAB].stop_reason = "the subnet was taken down"
    asyncio.get_running_loop().call_later(STOP_DELAY_S, request.app[LAB].stop, "the subnet was taken down")
    return answer({"stopping": True}, 202)


@routes.get("/v1/metrics")
async def prometheus(request: web.Request) -> web.Response:
    """Answer with the metrics of the subnet."""
    data = metrics_text(request.app[LAB].status())
    return web.Response(body=data, headers={"Content-Type": METRICS_TYPE})


@routes.get("/v1/events")
async def events(request: web.Request) -> web.StreamResponse:
    """Stream the subnet's events from `cursor` on, as they come; with `kinds` (joined by commas) those alone."""
    try:
        kinds = frozenset(map(EventKind, filter(None, request.query.get("kinds", "").split(","))))
    except ValueError as error:
        raise SpecError(f"kinds: {error}") from error
    return await stream(request, _events(request.app[LAB], number(request, "cursor", 0), kinds or frozenset(EventKind)))


@routes.get("/v1/logs")
async def logs(request: web.Request) -> web.StreamResponse:
    """Stream log lines in time order; with follow=1 also those to come."""
    lab, query = request.app[LAB], request.query
    artifact = query.get("artifact")
    if artifact:
        artifact = (await lab.artifacts.resolve(artifact)).artifact
    tail = number(request, "tail", 0) if "tail" in query else None
    since = number(request, "since_ms", 0) / 1000 if "since_ms" in query else None
    asked = LogQuery(nodes_of(query.get("node")), artifact, query.get("grep") or None, tail, since)
    files = lab.log_files()
    ends = ends_of(files)
    told = _ToldEvents(lab, artifact or "", asked)
    past = await asyncio.to_thread(read_all, files, asked, ends, members=lab.nodes())
    if artifact:
        past = sorted([*past, *await told.past()], key=lambda line: line.t)
        past = past if tail is None else past[len(past) - min(len(past), tail) :]
    return await stream(request, _lines(told, past, ends, on=flag(request, "follow")))


async def _lines(
    told: "_ToldEvents", past: list[LogLine], ends: dict[str, int], *, on: bool
) -> AsyncIterator[list[msgspec.Struct]]:
    for start in range(0, len(past), LINES_PER_WRITE):
        yield cast("list[msgspec.Struct]", past[start : start + LINES_PER_WRITE])
    if on:
        async for some in follow(told.lab.log_files, told.query, ends):
            lines = sorted([*some, *told.fresh()], key=lambda line: line.t)
            yield cast("list[msgspec.Struct]", lines)


class _ToldEvents:
    """The events of an artifact as the lines that are wanted: those that are kept, then those to come, none of them twice."""

    def __init__(self, lab: Lab, artifact: str, query: LogQuery) -> None:
        """`artifact`: its whole id; empty: there are no events to tell."""
        self.lab = lab
        self.query = query
        self._artifact = artifact
        self._cursor = lab.collector.cursor
        self._seen: set[tuple[str, str, int]] = set()
        """What may come again: node, incarnation and number of those that are kept. One artifact's, so bounded by its nodes."""

    async def past(self) -> list[LogLine]:
        """Those that are kept; of a run from before this machine was started anew by that run's clock. Raises SpecError."""
        found = await self.lab.artifacts.events(self._artifact)
        self._seen = {(event.node, event.incarnation, event.seq) for event in found.events}
        offset_s = found.run.unix_offset_s
        return event_lines(found.events, self.lab.wall_s() if offset_s is None else offset_s, self.query)

    def fresh(self) -> list[LogLine]:
        """Those that came since it was last asked."""
        if not self._artifact:
            return []
        events, self._cursor = self.lab.collector.since(self._cursor)
        mine = [
            event
            for event in events
            if event.artifact == self._artifact and (event.node, event.incarnation, event.seq) not in self._seen
        ]
        return event_lines(mine, self.lab.wall_s(), self.query)


async def _events(lab: Lab, cursor: int, kinds: frozenset[EventKind]) -> AsyncIterator[list[msgspec.Struct]]:
    while True:
        some, cursor = lab.collector.since(cursor)
        if some or not await lab.collector.grown(cursor, min(1.0, HEARTBEAT_S)):
            yield [event for event in some if event.kind in kinds]


class _StatusMetrics(Collector):
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
        faults = GaugeMetricFamily("p2pnet_lab_faults", "Faults by state.", labels=["state"])
        for state in ("waiting", "active", "ended", "failed"):
            faults.add_metric([state], sum(fault.state == state for fault in status.faults))
        return [nodes, links, runs, restarts, faults, *_run_metrics(status.runs), *_network_metrics(status.network)]


def _run_metrics(runs: list[RunSummary]) -> list[GaugeMetricFamily]:
    """What runs have found: of the last one that ended its figures, of all that the lab knows their verdicts."""
    verdicts = GaugeMetricFamily(
        "p2pnet_lab_run_verdicts", "Runs of this lab that ended, by verdict.", labels=["verdict"]
    )
    for verdict in get_args(Verdict):
        verdicts.add_metric([verdict], sum(run.verdict == verdict for run in runs))
    reach = GaugeMetricFamily(
        "p2pnet_lab_last_run_reach_ratio", "Share of the receipts that the last run which ended asked for, from 0 to 1."
    )
    p95 = GaugeMetricFamily("p2pnet_lab_last_run_p95_seconds", "95th percentile of the latencies of that run.")
    artifacts = GaugeMetricFamily("p2pnet_lab_last_run_artifacts", "Artifacts of that run.")
    last = next((run for run in reversed(runs) if run.state in RUN_ENDED), None)  # they come oldest first
    if last is not None:
        artifacts.add_metric([], last.artifacts)
        if last.reach is not None:
            reach.add_metric([], last.reach)
        if last.p95_ms is not None:
            p95.add_metric([], last.p95_ms / 1000)
    return [verdicts, reach, p95, artifacts]


def _network_metrics(rows: list[NetworkRow]) -> list[GaugeMetricFamily]:
    """The emulated network, by rule: a document has at most 64, and as many faults."""
    held = GaugeMetricFamily(
        "p2pnet_lab_network_in_force", "Whether a rule was seen in force: 1 or 0.", labels=["rule"]
    )
    asked = GaugeMetricFamily(
        "p2pnet_lab_network_asked", "A figure as asked for, of a rule.", labels=["rule", "figure"]
    )
    seen = GaugeMetricFamily(
        "p2pnet_lab_network_seen", "A figure as the canary saw it last.", labels=["rule", "figure"]
    )
    for row in rows:
        if row.worst:
            continue
        held.add_metric([row.rule], float(row.ok))
        for figure in LinkFigures.__struct_fields__:
            for family, figures in ((asked, row.asked), (seen, row.seen)):
                value = getattr(figures, figure)
                if value is not None:
                    family.add_metric([row.rule, figure], value)
    return [held, asked, seen]


def metrics_text(status: Status) -> bytes:
    """A status in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_StatusMetrics(status))
    return generate_latest(registry)
