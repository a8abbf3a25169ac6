"""The logs of a subnet's pods as one: read through the API server, merged by time, filtered, followed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Self, TypeAlias

from p2pnet.cli.targets.cluster.status import ROLE_LABEL, Object, name_of
from p2pnet.cli.threads import in_daemon
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.lab_client.proxy import KubeWire
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.jobs import LogLine
from p2pnet.model.log_lines import json_line, parts_of
from p2pnet.store.logs import EVENT_BEGINS, LAB, LINE_CHARS_MAX, LogQuery, about

LOG_BYTES_MAX = 16 << 20  # of one pod; a kubelet keeps 10 MiB of a container by default
READS_MAX = 8  # pods read at a time
LOOK_S = 5.0  # between looks for pods that are new
BACKLOG_MAX = 10_000  # lines nobody has taken yet


Lines: TypeAlias = "asyncio.Queue[LogLine | None]"


class PodLogs:
    """One reading; `read`, then perhaps `follow`."""

    def __init__(self, kube: Kube, query: LogQuery) -> None:
        self._kube = kube
        self._query = query
        self._wants = query.matcher()
        self._wire = KubeWire(kube)
        self._last: dict[str, float] = {}
        """Per pod, the time of the last line seen."""
        self._level: dict[str, tuple[str, str]] = {}
        """Per pod, level and node of the last line that says so itself: a traceback's lines belong to it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.close()

    async def read(self, pods: list[Object]) -> list[LogLine]:
        """What the pods have written so far. Raises SpecError for a node that has none."""
        chosen = self._chosen(pods)
        for node in self._query.nodes:
            if all(node not in _nodes(pod) for pod in chosen):
                there = ", ".join(sorted(label for pod in pods for label in _nodes(pod)))
                raise SpecError(f"there is no pod of node {node!r}; there are those of {there or 'none'}")
        gate = asyncio.Semaphore(READS_MAX)

        async def one(pod: Object) -> list[LogLine]:
            async with gate:
                try:
                    return [line async for line in self._lines(pod, {"limitBytes": str(LOG_BYTES_MAX)})]
                except KubeError as error:
                    if error.status in (400, 404):
                        return []  # its container has not begun
                    raise

        return [line for lines in await asyncio.gather(*map(one, chosen)) for line in lines]

    async def follow(self, look: Callable[[], list[Object]]) -> AsyncIterator[LogLine]:
        """What they write from now on, also pods that come later; until the subnet is gone."""
        lines: Lines = asyncio.Queue(BACKLOG_MAX)
        watching = asyncio.create_task(self._watch(look, lines))
        try:
            while (line := await lines.get()) is not None:
                yield line
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, look: Callable[[], list[Object]], lines: "Lines") -> None:
        readers: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for pod in self._chosen(await _looked(look)):
                    reader = readers.get(name_of(pod))
                    if reader is None or reader.done():
                        readers[name_of(pod)] = asyncio.create_task(self._read_on(pod, lines))
                await asyncio.sleep(LOOK_S)
        except TargetError:
            await lines.put(None)  # the subnet is gone, and its pods with it
        finally:
            for reader in readers.values():
                reader.cancel()
            await asyncio.gather(*readers.values(), return_exceptions=True)

    async def _read_on(self, pod: Object, lines: "Lines") -> None:
        query = {"follow": "true"}
        if last := self._last.get(name_of(pod)):
            query["sinceTime"] = datetime.fromtimestamp(int(last)).astimezone().isoformat()
        try:
            async for line in self._lines(pod, query):
                await lines.put(line)
        except P2pnetError:
            return  # the pod is gone, or silent for long: the next look begins again

    async def _lines(self, pod: Object, query: dict[str, str]) -> AsyncIterator[LogLine]:
        """Lines that are wanted and newer than the last one seen."""
        pod_name, label = name_of(pod), " ".join(_nodes(pod)) or name_of(pod)
        path = f"/api/v1/namespaces/{self._kube.namespace}/pods/{pod_name}/log"
        seen = self._last.get(pod_name, 0.0)
        async with self._wire.open("GET", path, query={**query, "timestamps": "true"}) as response:
            rest = b""
            async for chunk in response.pieces():
                *whole, rest = (rest + chunk).split(b"\n")
                for raw in whole:
                    t, text = _stamped(raw.decode(errors="replace"))
                    if t <= seen:
                        continue
                    self._last[pod_name] = max(t, self._last.get(pod_name, 0.0))
                    for line in self._read_line(pod_name, label, t, text):
                        if self._wants(line):
                            yield line

    def _read_line(self, pod_name: str, label: str, t: float, text: str) -> Iterator[LogLine]:
        """The line of a pod; of an object also those of its traceback."""
        logged = json_line(text)
        for one in logged.texts if logged else [text]:
            if parts_of(one) is not None or one.startswith(EVENT_BEGINS) or pod_name not in self._level:
                self._level[pod_name] = about(one, (logged and logged.name) or label)
            level, node = self._level[pod_name]
            yield LogLine(t, node, one[:LINE_CHARS_MAX], level)

    def _chosen(self, pods: list[Object]) -> list[Object]:
        """Those of the nodes asked for, and the lab's, which tells what happened to nodes."""
        nodes = frozenset(self._query.nodes) | {LAB}
        return [pod for pod in pods if not self._query.nodes or not nodes.isdisjoint(_nodes(pod))]


async def _looked(look: Callable[[], list[Object]]) -> list[Object]:
    try:
        return await in_daemon(look)
    except KubeError:
        return []  # the API server is busy or away: the next look may tell


def _nodes(pod: Object) -> list[str]:
    """The nodes of a pod; `lab` for the lab's."""
    if (pod["metadata"].get("labels") or {}).get(ROLE_LABEL) == "lab":
        return [LAB]
    for container in pod["spec"].get("containers") or []:
        for variable in container.get("env") or []:
            if variable.get("name") == "P2PNET_MEMBERS":
                return [name for name in str(variable.get("value") or "").split(",") if name]
    return []


def _stamped(line: str) -> tuple[float, str]:
    """Unix seconds and text of a line with the kubelet's stamp, nanoseconds and all."""
    stamp, _, text = line.partition(" ")
    head, dot, tail = stamp.partition(".")
    fraction = tail.rstrip("Z")
    try:
        whole = datetime.fromisoformat(head.removesuffix("Z")).replace(tzinfo=UTC).timestamp()
        return whole + (float(f"0.{fraction}") if dot and fraction.isdigit() else 0.0), text
    except ValueError:
        return 0.1, line
