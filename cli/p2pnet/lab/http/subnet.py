"""/v1: the subnet itself. Its summary, members, document, nodes, certificates, metrics, events, logs and end."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from p2pnet.lab.http.common import HEARTBEAT_S, LAB, answer, body, flag, number, stream
from p2pnet.lab.lab import Lab
from p2pnet.model.control import MembersTaken
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import LogLine, NodeAction, Revision, Rotation
from p2pnet.model.registry import Membership
from p2pnet.model.report import Status
from p2pnet.store.logs import LogQuery, ends_of, follow, read_all
from p2pnet.subnet.document import digest_of, load_subnet, to_document

routes = web.RouteTableDef()

LINES_PER_WRITE = 500
NEWS_MS_MAX = 60_000


@routes.get("/v1/summary")
async def summary(request: web.Request) -> web.Response:
    """The status document."""
    lab = request.app[LAB]
    more = {"document": digest_of(lab.ground.subnet), "news": lab.news.version}
    return answer(msgspec.structs.replace(lab.status(), **more))


@routes.get("/v1/news")
async def news(request: web.Request) -> web.Response:
    """The version of the summary, as soon as it is another than `after`."""
    wait_s = number(request, "wait_ms", 0, most=NEWS_MS_MAX) / 1000
    return answer(Revision(await request.app[LAB].news.beyond(request.query.get("after", ""), wait_s)))


@routes.get("/v1/members")
async def members(request: web.Request) -> web.Response:
    """Registry and edges in force."""
    return answer(request.app[LAB].ground.membership)


@routes.post("/v1/members")
async def take_members(request: web.Request) -> web.Response:
    """A newer registry, where the lab does not make it; the version now in force."""
    membership = await body(request, Membership)
    return answer(MembersTaken(await request.app[LAB].take_members(membership)))


@routes.get("/v1/spec")
async def spec(request: web.Request) -> web.Response:
    """The Subnet document in force; TargetError once the lab has been told to end, for it is in force no more."""
    lab = request.app[LAB]
    if lab.stop_reason:
        raise TargetError(f"the lab of {lab.paths.name} stops: {lab.stop_reason}")
    return answer(to_document(request.app[LAB].ground.subnet))


@routes.put("/v1/spec")
async def take_spec(request: web.Request) -> web.Response:
    """A document checked elsewhere, where the lab is not asked whether it may be edited; the one now in force."""
    subnet = load_subnet(await body(request, dict[str, Any]))
    request.app[LAB].ground.adopt_document(subnet)
    return answer(to_document(request.app[LAB].ground.subnet))


@routes.patch("/v1/spec")
async def edit(request: web.Request) -> web.Response:
    """A live edit: a whole document, or a merge patch."""
    return answer(await request.app[LAB].edit(await body(request, dict[str, Any])))


@routes.post("/v1/nodes/{node}")
async def act(request: web.Request) -> web.Response:
    """Restart, kill, pause or resume a node."""
    return answer(await request.app[LAB].act(request.match_info["node"], await body(request, NodeAction)))


@routes.post("/v1/rotate")
async def rotate(request: web.Request) -> web.Response:
    """New leaves for everybody."""
    return answer(Rotation(await request.app[LAB].rotate()))


@routes.post("/v1/stop")
async def stop(request: web.Request) -> web.Response:
    """The end, once this is answered; whoever asks for the document meanwhile is told."""
    request.app[LAB].stop_reason = "the subnet was taken down"
    asyncio.get_running_loop().call_later(0.05, request.app[LAB].stop, "the subnet was taken down")
    return answer({"stopping": True}, 202)


@routes.get("/v1/metrics")
async def prometheus(request: web.Request) -> web.Response:
    """For Prometheus."""
    data = metrics_text(request.app[LAB].status())
    return web.Response(body=data, headers={"Content-Type": METRICS_TYPE})


@routes.get("/v1/faults")
async def faults(request: web.Request) -> web.Response:
    """Faults in force."""
    return answer(request.app[LAB].status().faults)


@routes.get("/v1/events")
async def events(request: web.Request) -> web.StreamResponse:
    """The subnet's events from `cursor` on, as they come."""
    return await stream(request, _events(request.app[LAB], number(request, "cursor", 0)))


@routes.get("/v1/logs")
async def logs(request: web.Request) -> web.StreamResponse:
    """Log lines by time; with follow=1 also those to come."""
    lab, query = request.app[LAB], request.query
    artifact = query.get("artifact")
    if artifact:
        artifact = (await lab.artifacts.meant(artifact)).artifact
    tail = number(request, "tail", 0) if "tail" in query else None
    since = number(request, "since_ms", 0) / 1000 if "since_ms" in query else None
    asked = LogQuery(query.get("node") or None, artifact, query.get("grep") or None, tail, since)
    files = lab.log_files()
    ends = ends_of(files)
    past = await asyncio.to_thread(read_all, files, asked, ends, members=lab.nodes())
    if artifact:
        past = sorted([*past, *await _told(lab, artifact, asked)], key=lambda line: line.t)
    return await stream(request, _lines(lab, asked, past, ends, on=flag(request, "follow")))


async def _lines(
    lab: Lab, query: LogQuery, past: list[LogLine], ends: dict[str, int], *, on: bool
) -> AsyncIterator[list[msgspec.Struct]]:
    for start in range(0, len(past), LINES_PER_WRITE):
        yield cast("list[msgspec.Struct]", past[start : start + LINES_PER_WRITE])
    if on:
        async for some in follow(lab.log_files, query, ends):
            yield cast("list[msgspec.Struct]", some)


async def _told(lab: Lab, artifact: str, query: LogQuery) -> list[LogLine]:
    """An artifact's events as lines: nodes do not log what they already tell as events."""
    found = await lab.artifacts.events(artifact)
    wall_s = lab.wall_s()
    matches = LogQuery(grep=query.grep).matcher()
    lines = [
        LogLine(
            wall_s + event.t_ns / 1e9, event.node, _sentence(event.kind, artifact, event.peer, event.hop, event.detail)
        )
        for event in found.events
        if query.node in (None, event.node)
    ]
    return [line for line in lines if matches(line)]


def _sentence(kind: str, artifact: str, peer: str, hop: int, detail: str) -> str:
    parts = [f"event {kind} artifact={artifact[:12]}"]
    parts += [f"peer={peer} hop={hop}"] if peer else []
    parts += [detail] if detail else []
    return " ".join(parts)


async def _events(lab: Lab, cursor: int) -> AsyncIterator[list[msgspec.Struct]]:
    while True:
        some, cursor = lab.collector.since(cursor)
        if some or not await lab.collector.grown(cursor, min(1.0, HEARTBEAT_S)):
            yield cast("list[msgspec.Struct]", some)


METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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


def metrics_text(status: Status) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry()
    registry.register(_OfStatus(status))
    return generate_latest(registry)
