"""The publication of what a run planned, through the nodes' control route."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence

from p2pnet.lab.nodes.node_client import NodeClient, NodeSilentError, ask_for
from p2pnet.measure.injection import Planned, payload_seed
from p2pnet.model import limits
from p2pnet.model.control import ROUTE_INJECT, ControlRefusal, Injected, InjectItem, InjectRequest
from p2pnet.model.errors import P2pnetError

NONCE_BYTES = 16
BATCH_BYTES_MAX = limits.MIB - 64 * limits.KIB  # of a control request that may carry 1 MiB; the rest is its frame
INJECT_S = 30.0  # plus a second per MiB
LINK_S = 8.0  # for a lost link to be there again, on a busy machine; asking again is safe: a node recognises the nonces
RETRY_S = 0.3  # between two attempts; on an idle machine a lost link is redialled within it
RETRY_WITHIN_S = 5.0  # a request that failed later than this timed out, and another attempt would too
OFF_LOOP_BYTES = limits.MIB  # batches from this size on are generated or read in a thread, off the event loop


def generated(seed: int, index: int, size: int) -> bytes:
    """The bytes of a generated payload: the same for the same seed, index and size, on every machine."""
    return random.Random(payload_seed(seed, index, size)).randbytes(size)


def take_batch(queue: list[Planned], start: int, elapsed_s: float) -> list[Planned]:
    """The longest batch from `queue[start]` on that is due and fits into one control request; at least one artifact."""
    batch = [queue[start]]
    cost = queue[start].cost
    for planned in queue[start + 1 :]:
        cost += planned.cost
        if planned.due_s > elapsed_s or cost > BATCH_BYTES_MAX:
            break
        batch.append(planned)
    return batch


class InjectionRefusedError(P2pnetError):
    """A node refused to publish: the run is invalid for this reason."""


class Injector:
    """Publishes planned artifacts when they are due, with one worker per publisher: a slow one delays only itself.

    A worker keeps the order and has one request under way. `load` gives an artifact's bytes, `on_published` is called
    with its id in hex. What a publisher cannot publish because a fault was ordered that hit it (`excuse` says so) is left
    out, and counted with `on_skipped`.
    """

    def __init__(
        self, node_client: NodeClient, planned: Sequence[Planned], *, client: str, load: Callable[[Planned], bytes],
        on_published: Callable[[Planned, str], None], excuse: Callable[[str], str] = lambda _node: "",
        on_skipped: Callable[[str, int], None] = lambda _node, _count: None,
    ) -> None:  # fmt: skip
        self._node_client = node_client
        self._client = client
        self._load = load
        self._on_published = on_published
        self._excuse = excuse
        self._on_skipped = on_skipped
        self._queues: dict[str, list[Planned]] = {}
        for item in planned:
            self._queues.setdefault(item.publisher, []).append(item)
        self._start_s = 0.0
        self._stopped = asyncio.Event()
        self.late_s = 0.0
        """The longest that an artifact was sent after it was due."""

    async def run(self) -> None:
        """Publish everything. Raises InjectionRefusedError or NodeSilentError for the first that cannot be."""
        self._start_s = time.monotonic()
        workers = [asyncio.create_task(self._publish_all(queue)) for queue in self._queues.values()]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def stop(self) -> None:
        """Publish nothing more; `run` returns once what was asked for is answered."""
        self._stopped.set()

    async def _publish_all(self, queue: list[Planned]) -> None:
        done = 0
        while done < len(queue) and not self._stopped.is_set():
            elapsed = time.monotonic() - self._start_s
            if queue[done].due_s > elapsed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), queue[done].due_s - elapsed)
                continue
            batch = take_batch(queue, done, elapsed)
            try:
                await self._publish(batch)
            except NodeSilentError:
                if not self._excuse(batch[0].publisher):
                    raise
                self._on_skipped(batch[0].publisher, len(batch))
            done += len(batch)

    async def _publish(self, batch: list[Planned]) -> None:
        size = sum(planned.size for planned in batch)
        items = await asyncio.to_thread(self._items, batch) if size >= OFF_LOOP_BYTES else self._items(batch)
        if batch[0].due_s > 0:
            self.late_s = max(self.late_s, time.monotonic() - self._start_s - batch[0].due_s)
        node = batch[0].publisher
        request = InjectRequest(items, self._client)
        timeout_s = INJECT_S + size / limits.MIB
        reply = await self._ask(node, request, timeout_s)
        if len(reply.results) != len(batch):
            raise InjectionRefusedError(f"{node} answered {len(reply.results)} of {len(batch)} artifacts")
        refused: list[ControlRefusal] = []
        for planned, result in zip(batch, reply.results, strict=True):
            if isinstance(result, ControlRefusal):
                refused.append(result)
            else:
                self._on_published(planned, result.hex())
        if refused:
            first = refused[0]
            raise InjectionRefusedError(
                f"{node} refused {len(refused)} of {len(batch)} artifacts: {first.code}: {first.message}"
            )

    async def _ask(self, node: str, request: InjectRequest, timeout_s: float) -> Injected:
        first_s = time.monotonic()
        while True:
            asked_s = time.monotonic()
            try:
                return await ask_for(self._node_client, node, ROUTE_INJECT, request, Injected, timeout_s=timeout_s)
            except NodeSilentError:
                now_s = time.monotonic()
                # Who was hit by an ordered fault is not waited for: what it publishes is left out.
                if now_s - asked_s > RETRY_WITHIN_S or now_s - first_s > LINK_S or self._excuse(node):
                    raise
                await asyncio.sleep(RETRY_S)

    def _items(self, batch: list[Planned]) -> list[InjectItem]:
        # The nonce makes every artifact unique: the same bytes injected twice are two artifacts.
        return [InjectItem(planned.name, self._load(planned), os.urandom(NONCE_BYTES)) for planned in batch]
