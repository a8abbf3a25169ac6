"""The time series of a run: asks nodes for their samples while it goes on, and writes them to the run's directory."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.measure.findings import TimeSeries
from p2pnet.model import limits
from p2pnet.model.control import ROUTE_SAMPLES, Samples, SamplesRequest
from p2pnet.model.time_series import NodeSample
from p2pnet.store.archive import SAMPLES_FILE

POLL_S = 2.0  # nodes make one sample a second and keep ten minutes of them
ANSWER_S = 3.0
BEFORE_NS = 60_000_000_000  # before the run: as long as what was measured then counts for it, see `canary.FRESH_S`
ASKED_MAX = 32  # nodes that are asked at a time
BYTES_MAX = 128 * limits.MIB  # of samples.ndjson: 50 nodes that all talk to each other fill it in a quarter of an hour

log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()


class RunSampler:
    """Gathers the samples of one run's nodes from now on."""

    def __init__(
        self, node_client: NodeClient, nodes: Sequence[str], folder: Path, *, boots: Callable[[], Mapping[str, list[str]]],
        offsets_ns: Callable[[], Mapping[str, int]], now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:  # fmt: skip
        """`boots`: nodes by boot id; `offsets_ns`: by boot id, added to a node's clock it gives the run's, which is `now_ns`."""
        self._node_client = node_client
        self._folder = folder
        self._boots = boots
        self._offsets_ns = offsets_ns
        self._begun_ns = now_ns()
        self._after_ns: dict[str, int | None] = dict.fromkeys(nodes)
        """By node, the end of its last sample on its own clock; None: none has come."""
        self._file: BinaryIO | None = None
        self._bytes = 0
        self.sent_bytes = 0
        """What all nodes have sent each other since the run began, as far as they have told."""
        self._over = False
        """Whether nothing more is written."""
        self.series = TimeSeries()
        self._before = TimeSeries()
        """The seconds before the run, in which trains were sent that count for it."""
        self.notes: list[str] = []
        """What of the time series is missing."""

    async def poll_forever(self) -> None:
        """Ask all nodes again and again."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.poll()

    async def poll(self) -> None:
        """Ask all nodes once."""
        slots = asyncio.Semaphore(ASKED_MAX)
        boots = {node: boot for boot, nodes in self._boots().items() for node in nodes}
        await asyncio.gather(*(self._poll(node, boots.get(node, ""), slots) for node in self._after_ns))

    def longest_lag_s(self) -> dict[str, float]:
        """By node, the longest that its event loop came late, in the run and shortly before."""
        every = (self._before.longest_lag_s(), self.series.longest_lag_s())
        return {node: max(one.get(node, 0.0) for one in every) for node in {**every[0], **every[1]}}

    def close(self) -> None:
        """Write no more."""
        file, self._file, self._over = self._file, None, True
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._note_failure(error)

    async def _poll(self, node: str, boot: str, slots: asyncio.Semaphore) -> None:
        after_ns = self._after_ns[node]
        if after_ns is None:
            after_ns = self._begun_ns - BEFORE_NS - self._offsets_ns().get(boot, 0)
        try:
            async with slots:
                request = SamplesRequest(max(0, after_ns))
                reply = await ask_for(self._node_client, node, ROUTE_SAMPLES, request, Samples, timeout_s=ANSWER_S)
        except (NodeSilentError, NodeRefusedError) as error:
            log.debug("samples: %s", error)  # what it missed to tell it tells the next time, if it lives
            return
        offset = self._offsets_ns().get(reply.boot_id, 0)
        after_ns = self._after_ns[node] or after_ns  # another poll may have been faster
        fresh = [NodeSample(node, one.mono_ns + offset, one) for one in reply.samples if one.mono_ns > after_ns]
        if fresh:
            self._after_ns[node] = fresh[-1].sample.mono_ns
            own = [one for one in fresh if one.t_ns >= self._begun_ns]
            for one in fresh:
                (self.series if one.t_ns >= self._begun_ns else self._before).add(one)
            self.sent_bytes += sum(link.sent_bytes for one in own for link in one.sample.links)
            self._write(b"".join(_encoder.encode(one) + b"\n" for one in own))

    def _write(self, data: bytes) -> None:
        if self._over or not data:
            return
        try:
            if self._file is None:
                self._file = (self._folder / SAMPLES_FILE).open("ab", buffering=0)
            if self._bytes + len(data) > BYTES_MAX:
                self.notes.append(f"{SAMPLES_FILE} ends before the run: it has reached {BYTES_MAX >> 20} MiB")
                self.close()
                return
            self._bytes += len(data)
            self._file.write(data)
        except OSError as error:
            self._note_failure(error)
            self.close()

    def _note_failure(self, error: OSError) -> None:
        # The time series is a help, not the measurement: the run stays valid.
        note = f"the time series could not be kept with the run: {error.strerror}"
        if note not in self.notes:
            self.notes.append(note)
