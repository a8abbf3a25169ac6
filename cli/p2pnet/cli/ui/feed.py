"""What the pages are told: the lab is followed, its loss is said, and it is looked for until it is back."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from p2pnet.cli.full_report import network_of
from p2pnet.cli.targets.target import Target
from p2pnet.cli.ui.receipts import LiveReceipts
from p2pnet.cli.ui.streams import Streams, message
from p2pnet.lab_client import LabClient
from p2pnet.model.errors import P2pnetError
from p2pnet.model.registry import Membership
from p2pnet.model.report import RunSummary, Status
from p2pnet.present import Surroundings, live_view

TELL_S = 0.25  # between two messages about receipts
LOOK_S = 1.0  # between two looks at the status, and at a lab that is gone
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
        self._status: Json | None = None
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
            await self._renew(membership, spec)
            self._source = lab, version
        following = asyncio.create_task(self._take_events(client), name="events of the lab")
        looked = 0.0
        try:
            while not following.done():
                if time.monotonic() - looked >= LOOK_S:
                    looked, status = time.monotonic(), await client.summary()
                    self._tell_status(status)
                    if status.registry_version != version:
                        return
                if news := self._receipts.news():
                    self.streams.tell("receipts", news)
                await asyncio.wait([following], timeout=TELL_S)
            await following
            await asyncio.sleep(LOOK_S)  # it ended without an error: ask again, not at once
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, P2pnetError):
                await following

    async def _renew(self, membership: Membership, spec: Json) -> None:
        nodes = [member.name for member in membership.registry.members]
        seed = (spec.get("spec") or {}).get("seed")
        self.view = await asyncio.to_thread(
            _drawn, self.name, self._target.kind, membership, spec, seed if isinstance(seed, int) else 0
        )
        self._receipts = LiveReceipts(nodes)
        self.generation += 1
        self.known.set()
        self.streams.tell("generation", self.generation)

    async def _take_events(self, client: LabClient) -> None:
        async with aclosing(client.events()) as events:
            async for event in events:
                self._receipts.take(event)

    def _tell_status(self, status: Status) -> None:
        told = told_of(status)
        if told != self._status or self._lost:
            self._status, self._lost = told, ""
            self.streams.tell("status", told)

    def _beginning(self) -> Sequence[bytes]:
        """For a page that begins, or comes back."""
        first = [message("generation", self.generation), message("receipts", self._receipts.whole())]
        if self._status is not None:
            first.append(message("status", self._status))
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
    return live_view(name, kind, nodes, around, seed)
