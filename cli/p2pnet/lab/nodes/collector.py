"""Gathers the events of all nodes: one reader per node, one bounded log for the subnet, and sinks for open runs."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.model import limits
from p2pnet.model.control import ROUTE_EVENTS, Events, EventsRequest
from p2pnet.model.events import Collected, Event, Gap
from p2pnet.model.log_lines import ABOUT_NODES

LOG_EVENTS_MAX = 50_000  # in the subnet's log in memory, some 20 MB; runs keep theirs on disk
WAIT_MS = 5_000  # long poll: how long a node withholds an empty answer
WAIT_MARGIN_S = 5.0  # for the answer itself
SILENT_PAUSE_S = 0.25  # before a node that did not answer is asked again
READS_PER_S = 200.0  # of all nodes together while events flow: faster reads load the lab and find few events each
READ_PAUSE_MIN_S = 0.03  # after an answer: events come in crowds, and one read takes many
PAST_MAX = 16  # ended incarnations remembered per node, so that a late answer of one changes nothing

about_nodes = logging.getLogger(ABOUT_NODES)


class Sink(Protocol):
    """Takes events as they come in, as an open run does."""

    def take(self, events: list[Collected]) -> None:
        """Take events of one node, in order."""
        ...

    def lost(self, gap: Gap) -> None:
        """Take note of events that are lost for good."""
        ...


class Collector:
    """Reads every node's events once and passes them to the subnet's log and to all sinks, on the lab's time axis."""

    def __init__(self, node_client: NodeClient, heard: Callable[[str], None] = lambda _node: None) -> None:
        """`heard(node)` is called with every answer."""
        self._node_client = node_client
        self._heard = heard
        self._cursors: dict[str, NodeCursor] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._sinks: list[Sink] = []
        self._log: deque[Collected] = deque(maxlen=LOG_EVENTS_MAX)
        self._logged = 0
        """Events ever put into the log: the cursor behind its last one."""
        self._grown = asyncio.Event()
        self.offsets_ns: dict[str, int] = {}
        """Added to an event's time by boot id, see `clocks.Offset`; 0 for other boots."""

    # --- sources and sinks ---

    def follow(self, nodes: Iterable[str]) -> None:
        """Read these nodes from now on, and no others."""
        wanted = set(nodes)
        for node in wanted - self._readers.keys():
            self._cursors[node] = NodeCursor(node)
            self._readers[node] = asyncio.create_task(self._read_forever(node), name=f"events of {node}")
        for node in self._readers.keys() - wanted:
            self._readers.pop(node).cancel()
            self._cursors.pop(node, None)

    async def close(self) -> None:
        """Stop reading."""
        readers = list(self._readers.values())
        self.follow(())
        await asyncio.gather(*readers, return_exceptions=True)

    def add(self, sink: Sink) -> None:
        """Pass events to this sink too, from now on."""
        self._sinks.append(sink)

    def remove(self, sink: Sink) -> None:
        """Pass no more events to this sink."""
        with contextlib.suppress(ValueError):
            self._sinks.remove(sink)

    def incarnation(self, node: str) -> str:
        """The incarnation whose events are being read; empty before the first answer."""
        cursor = self._cursors.get(node)
        return cursor.incarnation if cursor else ""

    def boot_ids(self) -> dict[str, list[str]]:
        """Nodes by boot id, see `peering.clock.boot_id`; nodes that named none are left out."""
        found: dict[str, list[str]] = {}
        for node, cursor in self._cursors.items():
            if cursor.boot_id:
                found.setdefault(cursor.boot_id, []).append(node)
        return found

    # --- reading ---

    async def flush(self, nodes: Iterable[str], *, timeout_s: float = 3.0) -> list[str]:
        """Read all events that these nodes have now; the nodes that did not answer within `timeout_s`."""
        asked = list(nodes)
        answers = await asyncio.gather(*(self._drain(node, timeout_s) for node in asked))
        return [node for node, answered in zip(asked, answers, strict=True) if not answered]

    async def _drain(self, node: str, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        # After a full answer the node may have had more when it was asked.
                        while await self._read(node, wait_ms=0, timeout_s=timeout_s) >= limits.EVENTS_PER_READ:
                            pass
                    except NodeSilentError:
                        await asyncio.sleep(SILENT_PAUSE_S)  # a link that was lost just now is redialled at once
                    else:
                        return True
        except (NodeRefusedError, TimeoutError):
            return False

    async def _read_forever(self, node: str) -> None:
        while True:
            try:
                count = await self._read(node, wait_ms=WAIT_MS, timeout_s=WAIT_MS / 1000 + WAIT_MARGIN_S)
            except (NodeSilentError, NodeRefusedError):
                await asyncio.sleep(SILENT_PAUSE_S)
                continue
            if count < limits.EVENTS_PER_READ:
                await asyncio.sleep(max(READ_PAUSE_MIN_S, len(self._readers) / READS_PER_S))

    async def _read(self, node: str, *, wait_ms: int, timeout_s: float) -> int:
        cursor = self._cursors.get(node)
        if cursor is None:
            return 0
        request = cursor.request(wait_ms=wait_ms, limit=limits.EVENTS_PER_READ)
        reply = await ask_for(self._node_client, node, ROUTE_EVENTS, request, Events, timeout_s=timeout_s)
        self._heard(node)
        if self._cursors.get(node) is not cursor:
            return 0  # the node was removed meanwhile, and perhaps added again
        events, gaps = cursor.accept(reply)
        for gap in gaps:
            missed = "an unknown number of" if gap.missed is None else gap.missed
            about_nodes.warning("%s: %s events lost of start %s: %s", gap.node, missed, gap.incarnation, gap.reason)
            for sink in list(self._sinks):
                sink.lost(gap)
        if events:
            offset = self.offsets_ns.get(cursor.boot_id, 0)
            self._dispatch([
                Collected(node, reply.incarnation, event.seq, event.mono_ns + offset, event.kind, event.client,
                          event.artifact, event.peer, event.hop, event.bytes, event.detail)
                for event in events
            ])  # fmt: skip
        return len(reply.events)

    def _dispatch(self, events: list[Collected]) -> None:
        self._log.extend(events)
        self._logged += len(events)
        self._grown.set()
        self._grown = asyncio.Event()
        for sink in list(self._sinks):
            sink.take(events)

    # --- the subnet's log ---

    @property
    def cursor(self) -> int:
        """Where `since` begins with what comes from now on."""
        return self._logged

    def since(self, cursor: int) -> tuple[list[Collected], int]:
        """Events of the log from `cursor` on that are still held, and the cursor to ask with next."""
        start = max(cursor, self._logged - len(self._log))
        fresh = list(islice(reversed(self._log), self._logged - start)) if start < self._logged else []
        return fresh[::-1], max(self._logged, cursor)

    def of_artifact(self, prefix: str) -> list[Collected]:
        """Events of the log about artifacts whose id (hex) begins with `prefix`, in time order."""
        found = [event for event in self._log if event.artifact.startswith(prefix)]
        return sorted(found, key=lambda event: (event.t_ns, event.node, event.seq))

    async def grown(self, cursor: int, timeout_s: float) -> bool:
        """Wait until the log has events from `cursor` on; whether it has."""
        if self._logged > cursor:
            return True
        try:
            await asyncio.wait_for(self._grown.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


@dataclass(slots=True)
class NodeCursor:
    """How far the lab has read one node's ring of events. No I/O.

    `accept` may be given replies in any order and more than once: every event comes out once.
    """

    node: str
    incarnation: str = ""
    """Whose events are read; empty before the first reply."""
    boot_id: str = ""
    next_seq: int = 0
    past: list[str] = field(default_factory=list)
    """The latest ended incarnations, at most PAST_MAX."""

    def request(self, *, wait_ms: int, limit: int) -> EventsRequest:
        """The next question. It names the incarnation, so that another one answers from its own first event on."""
        return EventsRequest(self.next_seq, self.incarnation, wait_ms, limit)

    def accept(self, reply: Events) -> tuple[list[Event], list[Gap]]:
        """The events of a reply not seen before, and the gaps before them: events lost for good."""
        if reply.incarnation in self.past:
            return [], []
        gaps = []
        if reply.incarnation != self.incarnation:
            if self.incarnation:
                # Events after the last read were lost with the process; how many there were cannot be known.
                gaps.append(Gap(self.node, self.incarnation, None, "restarted"))
                self.past = [*self.past[-PAST_MAX + 1 :], self.incarnation]
            self.incarnation, self.boot_id, self.next_seq = reply.incarnation, reply.boot_id, 0
        fresh = [event for event in reply.events if event.seq >= self.next_seq]
        first = fresh[0].seq if fresh else max(reply.cursor, self.next_seq)
        if first > self.next_seq:
            gaps.append(
                Gap(self.node, self.incarnation, first - self.next_seq, "left the node's ring before being read")
            )
        self.next_seq = max(self.next_seq, reply.cursor, fresh[-1].seq + 1 if fresh else 0)
        return fresh, gaps
