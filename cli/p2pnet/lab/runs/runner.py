"""The phases of a run: read the nodes, measure the network, publish, wait for receipts, let traffic settle, read the nodes
again, report.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pnet.lab.network.canary import Canary
from p2pnet.lab.network.control import NetworkControl
from p2pnet.lab.network.sampler import RunSampler
from p2pnet.lab.nodes.clocks import Clocks
from p2pnet.lab.nodes.collector import Collector
from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.lab.runs.injector import InjectionRefusedError, Injector, generated
from p2pnet.lab.runs.recorder import render_report_files
from p2pnet.lab.runs.run import Run
from p2pnet.lab.runs.uploads import Uploads
from p2pnet.lab.runs.watch import RunWatch
from p2pnet.measure import facts_of, unmeasured
from p2pnet.measure.early import DRAIN_S, EarlyWatch
from p2pnet.measure.injection import Planned, artifacts, unpublished_notes
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.control import ROUTE_PEERS, PeersReply, PeersRequest
from p2pnet.model.errors import P2pnetError
from p2pnet.model.events import Gap
from p2pnet.model.jobs import LogLine
from p2pnet.model.log_lines import parts_of
from p2pnet.model.report import Report
from p2pnet.store.archive import LOGS_FILE
from p2pnet.store.logs import ends_of, write_run
from p2pnet.store.state import State
from p2pnet.subnet.document import in_force
from p2pnet.subnet.members import adversaries, cut_off_notes
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import ignored

NODES_NOTED_MAX = 5  # in the notes of a report
SETTLE_S = 0.2  # after the last receipt: for duplicates under way, and acknowledgements that byte counters include
BEFORE_S = 1.0  # for nodes to answer before the run: silent ones are known from then on
ANSWER_S = 3.0
LOOKS_APART = 20  # times as long as a look takes: the lab has more to do than to look ahead
CLOCKS_S = 10.0  # between measurements of the clocks while a run goes on: a bound grows by 2 ms meanwhile


@dataclass
class RunContext:
    """What runs need of the lab and of its subnet. Callables and methods tell what holds now."""

    node_client: NodeClient
    collector: Collector
    clocks: Clocks
    uploads: Uploads
    state: State
    name: str
    """The subnet's name."""
    target: str
    version: str
    """Version of p2pnet, for run.json."""
    nodes: Callable[[], list[str]]
    """Names of the members, in member order."""
    subnet: Callable[[], Subnet]
    """The document in force."""
    network: NetworkControl
    logs: Callable[[], dict[str, Path]]
    """Paths of the logs on this machine, by node."""
    canary: Canary

    @property
    def artifact_bytes_max(self) -> int:
        """The largest artifact that nodes take."""
        return self.subnet().spec.broadcast.artifact_bytes_max.bytes

    @property
    def seed(self) -> int:
        """The seed of runs that ask for none."""
        return self.subnet().spec.seed

    @property
    def packed(self) -> bool:
        """Whether several nodes share a process."""
        return self.subnet().spec.nodes_per_pod > 1

    @property
    def clients(self) -> list[str]:
        """Names of the artifact clients, in the document's order."""
        return [client.name for client in self.subnet().spec.clients]

    @property
    def document(self) -> dict[str, Any]:
        """The part of the document that this target honours, for run.json."""
        return in_force(self.subnet(), self.target)

    @property
    def adversaries(self) -> list[AdversaryGroup]:
        """The nodes that do not behave, as far as this target has them so."""
        return adversaries(self.subnet())

    @property
    def ignored(self) -> list[str]:
        """Fields of the document that are not in force, `path: why`."""
        return ignored(self.subnet(), self.target)


class Runner:
    """Takes one run from its start to its report. What goes wrong with the run is in its report, not raised."""

    def __init__(self, context: RunContext, run: Run) -> None:
        self._context = context
        self._run = run
        self._before: dict[str, PeersReply] = {}
        self._after: dict[str, PeersReply] = {}
        """What nodes reported before and after the run, for the growth of their byte counters."""
        self._silent: set[str] = set()
        """Nodes that did not answer when last read."""
        self._still: set[str] = set()
        """Nodes that were paused or kept dead throughout the run."""
        self._began_s = time.monotonic()
        """When the run began."""
        self._clock_bound_ms = 0.0
        """The largest clock bound seen during the run."""
        self._logs_begun: dict[str, int] = {}
        """Lengths of the logs at the start, by node."""
        collector = context.collector
        sampler = RunSampler(
            context.node_client, run.file.nodes, run.recorder.folder, boots=collector.boot_ids,
            offsets_ns=lambda: collector.offsets_ns,
        )  # fmt: skip
        run.sent_bytes = lambda: sampler.sent_bytes
        self._watch = RunWatch(context.canary, sampler, run)

    async def execute(self) -> None:
        """Go through all phases. When this returns the run has ended, on disk too. Raises for bugs only."""
        run, collector = self._run, self._context.collector
        self._logs_begun = ends_of(self._context.logs())
        network = self._context.network
        run.faults = network.record()
        run.update(faults=network.recorded(run.faults))  # on disk from the start, in case the lab dies
        run.start(time.time())
        self._began_s = time.monotonic()
        run.order(network.hit_lately(), time.monotonic_ns())
        collector.add(run)
        try:
            if not run.ending.is_set():
                await self._read_before()
                await self._until_ending(self._watch.before(), self._keep_clocks())
                if not run.ending.is_set():
                    await self._until_ending(
                        self._publish_and_wait(), self._keep_clocks(), self._watch.throughout(), self._stop_early()
                    )
                await self._read_after()
        except Exception as error:
            run.invalidate(f"a bug of p2pnet ended the run: {type(error).__name__}: {error}")
            raise
        finally:
            collector.remove(run)
            await self._end()

    async def _until_ending(self, work: Coroutine[Any, Any, None], *background: Coroutine[Any, Any, None]) -> None:
        """Run `work` until it ends or the run is told to end, and what goes on in the background for as long."""
        task, ending = asyncio.create_task(work), asyncio.create_task(self._run.ending.wait())
        beside = [asyncio.create_task(one) for one in background]
        try:
            await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (task, ending, *beside):
                one.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # --- phases ---

    async def _read_before(self) -> None:
        """Read what nodes did before the run, so that it is not counted; note who is silent; measure clocks."""
        run, context = self._run, self._context
        run.waiting_for = "a first look at the nodes"
        silent = set(await context.collector.flush(run.file.nodes, timeout_s=BEFORE_S))
        run.absent = {node: context.collector.incarnation(node) for node in silent}
        self._silent = silent
        context.collector.offsets_ns = await context.clocks.measure(context.collector.boot_ids())
        self._before = await self._ask_all()

    async def _keep_clocks(self) -> None:
        while True:
            await asyncio.sleep(CLOCKS_S)
            await self._measure_clocks()

    async def _measure_clocks(self) -> None:
        """Measure again; the report states the bound that the offsets had reached until now."""
        context = self._context
        boots = context.collector.boot_ids()
        self._clock_bound_ms = max(self._clock_bound_ms, context.clocks.bound_ms(boots))
        context.collector.offsets_ns = await context.clocks.measure(boots)

    async def _publish_and_wait(self) -> None:
        run = self._run
        injector = Injector(
            self._context.node_client,
            run.planned,
            client=run.file.request.client,
            load=self._bytes_of,
            on_published=run.published,
            excuse=self._context.network.excuse,
            on_skipped=run.unpublish,
        )
        run.waiting_for, run.injecting = "publications", True
        stopping = asyncio.create_task(self._run.early.stopping.wait())
        stopping.add_done_callback(lambda _: injector.stop())
        try:
            self._check_sizes()
            await injector.run()
        except (InjectionRefusedError, NodeSilentError, NodeRefusedError, P2pnetError) as error:
            run.invalidate(f"not everything could be published: {error}")
            return
        finally:
            stopping.cancel()
            run.late_s = injector.late_s
        run.publishing_is_over()
        run.waiting_for = "receipts"
        await self._receipts()

    async def _receipts(self) -> None:
        """Until all are in, or their time is over; where the run is stopped early only for those under way."""
        run = self._run
        waits = [asyncio.create_task(run.complete.wait()), asyncio.create_task(run.early.stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=run.file.request.within_s, return_when=asyncio.FIRST_COMPLETED)
            if run.early.stopping.is_set():
                await asyncio.wait(waits[:1], timeout=min(DRAIN_S, run.file.request.within_s))
        finally:
            for one in waits:
                one.cancel()

    async def _stop_early(self) -> None:
        """Look again and again whether an expectation can hold no more, where that was asked for."""
        run, context = self._run, self._context
        if not run.file.request.stop_early:
            return
        early = EarlyWatch(run.measure, run.file.request.expect, run.planned, frozenset(run.file.honest))
        begun_ns, took_ns = time.monotonic_ns(), 0
        while True:
            now_ns = time.monotonic_ns()
            await asyncio.sleep(max(EarlyWatch.next_look_ns(begun_ns, now_ns) - now_ns, LOOKS_APART * took_ns) / 1e9)
            bound_ms = context.clocks.bound_ms(context.collector.boot_ids())
            now_ns = time.monotonic_ns()
            lost = early.look(now_ns, bound_ms=bound_ms, excused=run.ordered)
            took_ns = time.monotonic_ns() - now_ns
            if lost is None:
                continue
            # What a node knows already may not have been read yet; one that does not answer tells nothing.
            silent = await context.collector.flush(run.file.nodes, timeout_s=BEFORE_S)
            lost = early.look(now_ns, bound_ms=bound_ms, excused={*run.ordered, *silent})
            if lost is not None:
                run.stop_early(lost.expr)
                return

    def _check_sizes(self) -> None:
        bound = self._context.artifact_bytes_max
        large = next((planned for planned in self._run.planned if planned.size > bound), None)
        if large is not None:
            raise InjectionRefusedError(
                f"too-large: {large.name} has {large.size} bytes, spec.broadcast.artifactBytesMax is {bound}"
            )

    async def _read_after(self) -> None:
        """Read the last events and counters; a node that does not answer any more has lost events for this run."""
        run, context = self._run, self._context
        run.waiting_for = "the last events"
        if not run.publishing:
            await asyncio.sleep(SETTLE_S)
        present = [node for node in run.file.nodes if node not in run.absent]
        silent = await asyncio.gather(
            context.collector.flush(present, timeout_s=ANSWER_S),
            context.collector.flush(run.absent, timeout_s=BEFORE_S),
        )
        self._silent = {node for nodes in silent for node in nodes}
        self._after = await self._ask_all()
        await self._watch.after()
        await self._measure_clocks()
        for node in sorted(self._silent):
            self._judge_silence(node)

    def _judge_silence(self, node: str) -> None:
        run, context = self._run, self._context
        incarnation = context.collector.incarnation(node)
        if node in context.network.still() and run.absent.get(node) == incarnation:
            self._still.add(node)
            return  # paused or dead throughout: it did nothing, and what it has not received is a known miss
        run.absent.pop(node, None)
        run.lost(Gap(node, incarnation, None, "silent at the end of the run"))

    async def _end(self) -> None:
        """Write what is left, make the report and end the run with it; a run without a report ends invalid."""
        run, context = self._run, self._context
        run.publishing = False
        self._watch.close()
        context.network.forget(run.faults)
        times = context.network.times(run.faults, self._began_s)
        run.update(faults=context.network.recorded(run.faults), fault_times=times)
        boots = context.collector.boot_ids()
        if context.clocks.unmeasured & boots.keys():
            run.invalidate("the clock offset of some nodes could not be measured")
        run.notes += cut_off_notes(context.subnet())
        if len(names := context.clients) > 1:
            run.notes.append(f"bytes sent are those of all clients ({', '.join(names)})")
        await asyncio.to_thread(run.recorder.end_events)
        await asyncio.to_thread(self._keep_logs)
        try:
            report = report_of(
                run, sent=self._sent(), packed=context.packed,
                clock_bound_ms=max(self._clock_bound_ms, context.clocks.bound_ms(boots)),
            )  # fmt: skip
            report = self._watch.completed(report)
        except Exception as error:
            run.end(unmeasured(run.file, [*run.invalid, f"no report could be made: {error}"]), time.time())
            raise
        run.recorder.report_files = await asyncio.to_thread(render_report_files, run.recorder.folder, run.file, report)
        run.end(report, time.time())

    def _keep_logs(self) -> None:
        run = self._run
        since = run.file.started_at or run.file.created_at
        try:
            warnings = write_run(
                run.recorder.folder / LOGS_FILE, self._context.logs(), self._logs_begun, since, time.time()
            )
            run.notes += notes_about_nodes(
                warnings, set(run.ordered), f"p2pnet logs {self._context.name} --run {run.id}"
            )
        except OSError as error:  # logs are a help, not a measurement: the run stays valid
            run.notes.append(f"the logs could not be kept with the run: {error.strerror}")

    # --- nodes and bytes ---

    async def _ask_all(self) -> dict[str, PeersReply]:
        """The state of every node that answers, by node."""

        async def one(node: str) -> PeersReply | None:
            try:
                return await ask_for(
                    self._context.node_client, node, ROUTE_PEERS, PeersRequest(), PeersReply, timeout_s=ANSWER_S
                )
            except (NodeSilentError, NodeRefusedError):
                return None

        nodes = [node for node in self._run.file.nodes if node not in self._silent]
        found = await asyncio.gather(*(one(node) for node in nodes))
        return {node: peers for node, peers in zip(nodes, found, strict=True) if peers is not None}

    def _sent(self) -> int | None:
        """Growth of all nodes' UDP byte counters; None when one node's is unknown. Covers other runs' traffic too."""
        total = 0
        for node in self._run.file.nodes:
            if node in self._still:
                continue
            before, after = self._before.get(node), self._after.get(node)
            if before is None or after is None or before.incarnation != after.incarnation:
                return None
            total += after.udp_sent - before.udp_sent
        return total

    def _bytes_of(self, planned: Planned) -> bytes:
        if planned.payload.upload:
            return self._context.uploads.read(planned.payload.upload)
        return generated(self._run.file.seed, planned.index, planned.size)


def notes_about_nodes(warnings: list[LogLine], ordered: set[str], command: str) -> list[str]:
    """A note for each node with warnings in the log, except those that the run ordered; `command` shows all warnings."""
    texts: dict[str, list[str]] = {}
    for line in warnings:
        if line.node not in ordered and (parts := parts_of(line.line)) is not None:
            texts.setdefault(line.node, []).append(parts[2].partition(": ")[2])
    notes = [f"{node}: {found[0]}" + _and_more(len(found) - 1, command) for node, found in texts.items()]
    rest = len(notes) - NODES_NOTED_MAX
    return notes if rest <= 0 else [*notes[:NODES_NOTED_MAX], f"{rest} more nodes had problems: {command}"]


def _and_more(count: int, command: str) -> str:
    return f" (and {count} more warning{'s' if count > 1 else ''}: {command})" if count else ""


def notes_about_publishers(run: Run) -> tuple[int, list[str]]:
    """How many artifacts ordered faults kept from being published, or their publication from being known; and a note each."""
    lost: dict[str, int] = {}
    for artifact in run.file.artifacts:
        publisher = run.publisher_of(artifact)
        if publisher in run.lost_until_ns and not run.measure.is_published(artifact):
            lost[publisher] = lost.get(publisher, 0) + 1
    notes = [
        *unpublished_notes(run.unpublished),
        *(f"{artifacts(count)} left out: its publication was lost with {node}" for node, count in lost.items()),
    ]
    return sum(run.unpublished.values()) + sum(lost.values()), notes


def report_of(run: Run, *, sent: int | None, packed: bool, clock_bound_ms: float) -> Report:
    """The report of a run that ends now. `sent`: growth of all nodes' UDP byte counters, None when it is not known."""
    left_out, notes = notes_about_publishers(run)
    notes = [*run.notes, *notes]
    if sent is None and run.open and run.attempted:
        notes.append("bytes sent are unknown: a node was silent or restarted during the run")
    asked = run.total if run.stopped_early is None else run.attempted
    facts = facts_of(
        run.file, asked=asked - left_out, sent=sent, clock_bound_ms=clock_bound_ms, invalid=run.invalid, notes=notes,
        lost_until_ns=run.lost_until_ns, packed=packed, state="cancelled" if run.cancelled else "finished",
        late_s=run.late_s, stopped_early=run.stopped_early,
    )  # fmt: skip
    return run.measure.report(facts)
