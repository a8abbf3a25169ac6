"""What the pages are told: the lab is followed, its loss is said, and it is looked for until it is back."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from p2pnet.cli.full_report import network_of
from p2pnet.cli.targets.target import Target
from p2pnet.cli.ui.fault_history import FaultHistory
from p2pnet.cli.ui.phases import SlowHops
from p2pnet.cli.ui.receipts import KINDS, LiveReceipts
from p2pnet.cli.ui.sampling import LiveSamples
from p2pnet.cli.ui.streams import Streams, message
from p2pnet.lab_client import LabClient
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.registry import Membership
from p2pnet.model.report import SERVING_STATES, RunSummary, Status
from p2pnet.present import LiveSums, Surroundings, live_parts, live_view

TELL_S = 0.25  # between two messages about receipts
LOOK_S = 1.0  # between two looks at the status, at sums and samples, and at a lab that is gone
SUMS_APART = 10  # times as long as it takes to make them: that is the pause after sums of many nodes
LINES_MAX = 40  # nodes that are not well, faults and runs, together
RUNS_SHOWN = 3
FAULTS_MAX = 100

Json = dict[str, Any]


class Feed:
    """One subnet as its pages see it."""

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self.view: Json = live_view(name, target.kind, [], Surroundings())
        """What is drawn of the nodes there are."""
        self.generation = 0
        """Grows with every new view: of other nodes, or of another process of the lab."""
        self.streams = Streams(self._beginning)
        self.known = asyncio.Event()
        """Set once there is a view."""
        self._target = target
        self._receipts = LiveReceipts([])
        self._samples = LiveSamples()
        self._faults = FaultHistory()
        self._hops = SlowHops([])
        self._status: Status | None = None
        self._said: Json = {}
        """What pages were told of the status last."""
        self._parts: dict[str, bytes] = {}
        """What pages were told last of each part that is told whole."""
        self._sum_again = 0.0
        self._begun = time.time()
        self._lost = ""
        self._source: tuple[str, int] | None = None

    async def run(self) -> None:
        """Follow the lab for ever, through its restarts. P2pnetErrors only of the first time it is asked."""
        while True:
            try:
                async with self._target.lab(self.name) as client:
                    await self._follow(client)
            except P2pnetError as error:
                if not self.known.is_set():
                    raise
                self._lost = str(error)
                self.streams.tell("lost", self._lost)
                await asyncio.sleep(LOOK_S)

    async def _follow(self, client: LabClient) -> None:
        """Until other nodes are in force."""
        lab, membership, spec = await client.lab(), await client.members(), await client.spec()
        version = membership.registry.version
        if self._source != (lab, version):
            await self._renew(membership, spec, same_lab=self._source is not None and self._source[0] == lab)
            self._source = lab, version
        beside = [
            asyncio.create_task(self._take_events(client), name="events of the lab"),
            asyncio.create_task(self._take_samples(client), name="samples of runs"),
        ]
        looked = 0.0
        try:
            while not any(task.done() for task in beside):
                if time.monotonic() - looked >= LOOK_S:
                    looked, status = time.monotonic(), await client.summary()
                    self._tell_status(status)
                    if status.registry_version != version:
                        return
                if news := self._receipts.news():
                    self.streams.tell("receipts", news)
                self._tell_sums()
                await asyncio.wait(beside, timeout=TELL_S, return_when=asyncio.FIRST_COMPLETED)
            for task in beside:
                if task.done():
                    await task
            await asyncio.sleep(LOOK_S)  # it ended without an error: ask again, not at once
        finally:
            for task in beside:
                task.cancel()
            for task in beside:
                with contextlib.suppress(asyncio.CancelledError, P2pnetError):
                    await task

    async def _renew(self, membership: Membership, spec: Json, *, same_lab: bool) -> None:
        """Begin anew, unless the same process of the lab has the same nodes and links as before."""
        seed = (spec.get("spec") or {}).get("seed")
        groups = _adversaries(spec)
        view = await asyncio.to_thread(
            _drawn, self.name, self._target.kind, membership, spec, seed if isinstance(seed, int) else 0
        )
        if same_lab and view == self.view:
            return  # renewed certificates, say
        self.view = view
        away = {node for group in groups for node in group.nodes}
        nodes = [member.name for member in membership.registry.members]
        self._receipts, self._hops = LiveReceipts(nodes, away), SlowHops(nodes, groups)
        self._samples, self._faults, self._parts, self._said = LiveSamples(), FaultHistory(), {}, {}
        self.generation += 1
        self.known.set()
        self.streams.tell("generation", self.generation)

    async def _take_events(self, client: LabClient) -> None:
        async with aclosing(client.events(kinds=KINDS)) as events:
            async for event in events:
                self._receipts.take(event)

    async def _take_samples(self, client: LabClient) -> None:
        while True:
            runs = self._status.runs if self._status is not None else []
            running = next((run.run for run in runs if run.state == "running"), "")
            with contextlib.suppress(P2pnetError):  # a help: that the lab is gone is heard elsewhere
                await self._samples.look(client, running, self._receipts.first_ns)
                if runs and not running:
                    await self._hops.look(client, self._receipts.sums.spread)
            await asyncio.sleep(LOOK_S)

    def _tell_status(self, status: Status) -> None:
        self._status = status
        self._faults.take(status.faults)
        told = told_of(status) | {"states": self._states(status)}
        if told != self._said or self._lost:
            self._said, self._lost = told, ""
            self.streams.tell("status", told)

    def _states(self, status: Status) -> dict[str, list[int]]:
        """By state, the numbers of nodes that take part in nothing."""
        numbers = {name: number for number, name in enumerate(self._receipts.nodes)}
        found: dict[str, list[int]] = {}
        for member in status.members:
            if member.state not in SERVING_STATES and member.name in numbers:
                found.setdefault(member.state, []).append(numbers[member.name])
        return found

    def _tell_sums(self) -> None:
        """The parts that have changed, not so often that it takes much of the time."""
        begun = time.monotonic()
        if begun < self._sum_again:
            return
        parts = {key: msgspec.json.encode(part) for key, part in live_parts(self._sums()).items()}
        changed = {key: msgspec.Raw(part) for key, part in parts.items() if part != self._parts.get(key)}
        self._parts = parts
        if changed:
            self.streams.tell("parts", changed)
        now = time.monotonic()
        self._sum_again = now + max(LOOK_S, SUMS_APART * (now - begun))

    def _sums(self) -> LiveSums:
        sums, samples = self._receipts.sums, self._samples
        per_node = sums.per_node()
        first_ns, offset_s = self._receipts.first_ns, samples.unix_offset_s
        return LiveSums(
            sums=sums.spread, reach=sums.reach.curve(), series=samples.series, faults=self._faults.listed(),
            start=self._begun if first_ns is None or offset_s is None else first_ns / 1e9 + offset_s,
            network=self._status.network if self._status is not None else [], per_node=per_node,
            findings=samples.findings(per_node), slow=self._hops.hops,
        )  # fmt: skip

    def _beginning(self) -> Sequence[bytes]:
        """For a page that begins, or comes back."""
        first = [message("generation", self.generation), message("receipts", self._receipts.whole())]
        if self._parts:
            first.append(message("parts", {key: msgspec.Raw(part) for key, part in self._parts.items()}))
        if self._said:
            first.append(message("status", self._said))
        return [*first, message("lost", self._lost)] if self._lost else first


def told_of(status: Status) -> Json:
    """What a page says of a status: counts, names of faults that can be healed, and lines of text."""
    standing = [fault for fault in status.faults if fault.origin == "spec" or fault.state != "ended"]
    odd = [member for member in status.members if member.state != "connected"]
    lines = [_of_run(run) for run in status.runs[-RUNS_SHOWN:]]
    lines += [
        f"Fault {fault.name} ({fault.what}) is {fault.state}" + (f" until {fault.until}" if fault.until else "")
        for fault in standing
    ]
    lines += [
        f"Node {member.name} is {member.state}, with {member.peers} of {member.wanted} peers"
        + (f": {member.detail}" if member.detail else "")
        for member in odd
    ]
    more = len(lines) - LINES_MAX
    return {
        "nodes": {"desired": status.nodes.desired, "connected": status.nodes.connected},
        "links": {"expected": status.links.expected, "up": status.links.up},
        "faults": [fault.name for fault in standing[:FAULTS_MAX]],
        "lines": lines[:LINES_MAX] + ([f"... and {more} more: p2pnet status {status.name}"] if more > 0 else []),
    }


def _of_run(run: RunSummary) -> str:
    parts = [f"Run {run.run} is {run.state}"]
    if run.artifacts:
        parts.append(f"artifacts: {run.artifacts}")
    if run.reach is not None:
        parts.append(f"reach {run.reach:.1%}")
    if run.p95_ms is not None:
        parts.append(f"p95 {run.p95_ms:.0f} ms")
    return ", ".join([*parts, run.verdict] if run.verdict else parts)


def _drawn(name: str, kind: str, membership: Membership, spec: Json, seed: int) -> Json:
    """The view of these members, laid out: seconds of work for thousands."""
    nodes = [member.name for member in membership.registry.members]
    places = network_of(spec)[2]
    around = Surroundings(links=membership.edges or (), full=membership.edges is None, places=places)
    return live_view(name, kind, nodes, around, seed=seed, adversaries=_adversaries(spec))


def _adversaries(spec: Mapping[str, Any]) -> list[AdversaryGroup]:
    """The nodes that do not behave, as the lab has them; none where the document is of another version."""
    from p2pnet.subnet.document import load_subnet
    from p2pnet.subnet.members import adversaries
    from p2pnet.subnet.spec import SIMULATED_NODES_MAX

    try:
        return adversaries(load_subnet(spec, nodes_max=SIMULATED_NODES_MAX))
    except SpecError:
        return []
