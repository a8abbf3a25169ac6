"""The phases of a run: look, publish, wait, settle, look again, report."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pnet.lab.nodes.clocks import Clocks
from p2pnet.lab.nodes.collector import Collector
from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.lab.runs.injector import InjectionRefusedError, Injector, Planned, generated
from p2pnet.lab.runs.recorder import draw
from p2pnet.lab.runs.run import Run
from p2pnet.lab.runs.uploads import Uploads
from p2pnet.measure import facts_of, unmeasured
from p2pnet.model.control import ROUTE_PEERS, PeersReply, PeersRequest
from p2pnet.model.errors import P2pnetError
from p2pnet.model.events import Gap
from p2pnet.model.jobs import LogLine
from p2pnet.model.log_lines import parts_of
from p2pnet.model.report import Report
from p2pnet.store.archive import LOGS_FILE
from p2pnet.store.logs import ends_of, write_run
from p2pnet.store.state import State

TROUBLES_SHOWN = 5  # nodes, in the notes of a report
SETTLE_S = 0.2  # after the last receipt: duplicates on their way, and the acknowledgements that byte counters see
FIRST_LOOK_S = 1.0
LOOK_S = 3.0
CLOCKS_S = 10.0  # between measurements of the clocks while a run goes on: a bound grows by 2 ms meanwhile


@dataclass
class RunContext:
    """What a run needs of the lab and of the subnet. The functions give what is so now."""

    gateway: NodeClient
    collector: Collector
    clocks: Clocks
    uploads: Uploads
    state: State
    subnet: str
    target: str
    version: str
    nodes: Callable[[], list[str]]
    spec: Callable[[], dict[str, Any]]
    seed: Callable[[], int]
    artifact_bytes_max: Callable[[], int]
    packed: Callable[[], bool]
    paused: Callable[[], set[str]] = set
    ignored: Callable[[], list[str]] = list
    """Fields of the document that are not in force, and why."""
    clients: Callable[[], list[str]] = lambda: ["blob"]
    """Names, in the document's order."""
    logs: Callable[[], dict[str, Path]] = dict
    """The files of the subnet's processes, by node."""


class Runner:
    """Takes one run from its start to its report. Never raises for what happens to the run: that is in the report."""

    def __init__(self, world: RunContext, run: Run) -> None:
        self._world = world
        self._run = run
        self._before: dict[str, PeersReply] = {}
        self._after: dict[str, PeersReply] = {}
        self._silent: set[str] = set()
        self._clock_bound_ms = 0.0
        self._logs_begun: dict[str, int] = {}

    async def go(self) -> None:
        """All phases. When it returns the run has ended, on disk too."""
        run, collector = self._run, self._world.collector
        self._logs_begun = ends_of(self._world.logs())
        run.start(time.time())
        collector.add(run)
        try:
            if not run.ending.is_set():
                await self._look_before()
                await self._until_ending(self._publish_and_wait(), self._keep_clocks())
                await self._look_after()
        except Exception as error:
            run.invalidate(f"a bug of p2pnet ended the run: {type(error).__name__}: {error}")
            raise
        finally:
            collector.remove(run)
            await self._end()

    async def _until_ending(self, work: Coroutine[Any, Any, None], beside: Coroutine[Any, Any, None]) -> None:
        task, ending = asyncio.create_task(work), asyncio.create_task(self._run.ending.wait())
        besides = asyncio.create_task(beside)
        try:
            await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (task, ending, besides):
                one.cancel()
            await asyncio.gather(besides, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # --- phases ---

    async def _look_before(self) -> None:
        run, world = self._run, self._world
        run.waiting_for = "a first look at the nodes"
        silent = set(await world.collector.flush(run.file.nodes, timeout_s=FIRST_LOOK_S))
        run.absent = {node: world.collector.incarnation(node) for node in silent}
        self._silent = silent
        world.collector.offsets_ns = await world.clocks.measure(world.collector.boot_ids())
        self._before = await self._look()

    async def _keep_clocks(self) -> None:
        while True:
            await asyncio.sleep(CLOCKS_S)
            await self._measure_clocks()

    async def _measure_clocks(self) -> None:
        """Measure again; how wrong the offsets may have become that were in force until now counts for the report."""
        world = self._world
        boots = world.collector.boot_ids()
        self._clock_bound_ms = max(self._clock_bound_ms, world.clocks.bound_ms(boots))
        world.collector.offsets_ns = await world.clocks.measure(boots)

    async def _publish_and_wait(self) -> None:
        run = self._run
        injector = Injector(
            self._world.gateway,
            run.planned,
            client=run.file.request.client,
            load=self._load,
            on_published=run.published,
        )
        run.waiting_for = "publications"
        try:
            self._check_sizes()
            await injector.run()
        except (InjectionRefusedError, NodeSilentError, NodeRefusedError, P2pnetError) as error:
            run.invalidate(f"not everything could be published: {error}")
            return
        finally:
            run.late_s = injector.late_s
        run.publishing_is_over()
        run.waiting_for = "receipts"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.complete.wait(), run.file.request.within_s)

    def _check_sizes(self) -> None:
        bound = self._world.artifact_bytes_max()
        large = next((planned for planned in self._run.planned if planned.size > bound), None)
        if large is not None:
            raise InjectionRefusedError(
                f"too-large: {large.name} has {large.size} bytes, spec.broadcast.artifactBytesMax is {bound}"
            )

    async def _look_after(self) -> None:
        run, world = self._run, self._world
        run.waiting_for = "the last events"
        if not run.publishing:
            await asyncio.sleep(SETTLE_S)
        there = [node for node in run.file.nodes if node not in run.absent]
        silent = await asyncio.gather(
            world.collector.flush(there, timeout_s=LOOK_S), world.collector.flush(run.absent, timeout_s=FIRST_LOOK_S)
        )
        self._silent = {node for nodes in silent for node in nodes}
        self._after = await self._look()
        await self._measure_clocks()
        for node in sorted(self._silent):
            self._judge_silence(node)

    def _judge_silence(self, node: str) -> None:
        run, world = self._run, self._world
        incarnation = world.collector.incarnation(node)
        if node in world.paused() and run.absent.get(node) == incarnation:
            return  # stood still all the time: what it has not received is a miss, and known
        run.absent.pop(node, None)
        run.lost(Gap(node, incarnation, None, "silent at the end of the run"))

    async def _end(self) -> None:
        run, world = self._run, self._world
        run.publishing = False
        boots = world.collector.boot_ids()
        if world.clocks.unmeasured & boots.keys():
            run.invalidate("the clock offset of some nodes could not be measured")
        if len(names := world.clients()) > 1:
            run.notes.append(f"bytes sent are those of all clients ({', '.join(names)})")
        await asyncio.to_thread(run.recorder.end_events)
        await asyncio.to_thread(self._keep_logs)
        try:
            report = report_of(
                run, sent=self._sent(), packed=world.packed(),
                clock_bound_ms=max(self._clock_bound_ms, world.clocks.bound_ms(boots)),
            )  # fmt: skip
        except Exception as error:
            run.end(unmeasured(run.file, [*run.invalid, f"no report could be made: {error}"]), time.time())
            raise
        run.recorder.papers = await asyncio.to_thread(draw, run.recorder.folder, run.file, report)
        run.end(report, time.time())

    def _keep_logs(self) -> None:
        run = self._run
        since = run.file.started_at or run.file.created_at
        try:
            warnings = write_run(
                run.recorder.folder / LOGS_FILE, self._world.logs(), self._logs_begun, since, time.time()
            )
            run.notes += troubles(warnings, run.ordered, f"p2pnet logs {self._world.subnet} --run {run.id}")
        except OSError as error:  # a run is no less valid for it
            run.notes.append(f"the logs could not be kept with the run: {error.strerror}")

    # --- looking ---

    async def _look(self) -> dict[str, PeersReply]:
        async def one(node: str) -> PeersReply | None:
            try:
                return await ask_for(
                    self._world.gateway, node, ROUTE_PEERS, PeersRequest(), PeersReply, timeout_s=LOOK_S
                )
            except (NodeSilentError, NodeRefusedError):
                return None

        nodes = [node for node in self._run.file.nodes if node not in self._silent]
        found = await asyncio.gather(*(one(node) for node in nodes))
        return {node: peers for node, peers in zip(nodes, found, strict=True) if peers is not None}

    def _sent(self) -> int | None:
        """Growth of all UDP counters; None when one node's cannot be known."""
        total = 0
        for node in self._run.file.nodes:
            before, after = self._before.get(node), self._after.get(node)
            if before is None or after is None or before.incarnation != after.incarnation:
                return None
            total += after.udp_sent - before.udp_sent
        return total

    def _load(self, planned: Planned) -> bytes:
        if planned.payload.upload:
            return self._world.uploads.read(planned.payload.upload)
        return generated(self._run.file.seed, planned.index, planned.size)


def _and_more(count: int, command: str) -> str:
    return f" (and {count} more warning{'s' if count > 1 else ''}: {command})" if count else ""


def troubles(warnings: list[LogLine], ordered: set[str], command: str) -> list[str]:
    """A note for each node that something happened to which this run did not order; `command` shows the rest."""
    first: dict[str, list[str]] = {}
    for line in warnings:
        if line.node not in ordered and (parts := parts_of(line.line)) is not None:
            first.setdefault(line.node, []).append(parts[2].partition(": ")[2])
    notes = [f"{node}: {said[0]}" + _and_more(len(said) - 1, command) for node, said in first.items()]
    rest = len(notes) - TROUBLES_SHOWN
    return notes if rest <= 0 else [*notes[:TROUBLES_SHOWN], f"{rest} more nodes had troubles: {command}"]


def report_of(run: Run, *, sent: int | None, packed: bool, clock_bound_ms: float) -> Report:
    """The report of a run that ends now. `sent`: growth of all nodes' UDP byte counters, None when it is not known."""
    notes = list(run.notes)
    if sent is None and run.open:
        notes.append("bytes sent are unknown: a node was silent or restarted during the run")
    facts = facts_of(
        run.file, asked=run.total, sent=sent, clock_bound_ms=clock_bound_ms, invalid=run.invalid, notes=notes,
        unknown_nodes=run.unknown_nodes, packed=packed, state="cancelled" if run.cancelled else "finished",
        late_s=run.late_s,
    )  # fmt: skip
    return run.measure.report(facts)
