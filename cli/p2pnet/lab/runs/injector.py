"""What a run publishes (a pure plan of who, what and when) and its publication through the nodes' control route."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from p2pnet.lab.nodes.node_client import NodeClient, NodeSilentError, ask_for
from p2pnet.measure import artifacts_asked
from p2pnet.model import limits
from p2pnet.model.control import ROUTE_INJECT, ControlRefusal, Injected, InjectItem, InjectRequest
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.jobs import Payload, RunRequest

NONCE_BYTES = 16
BATCH_BYTES_MAX = limits.MIB - 64 * limits.KIB  # of a control request that may carry 1 MiB; the rest is its frame
ITEM_OVERHEAD_BYTES = 48  # nonce, lengths and msgpack heads of one item
INJECT_S = 30.0  # plus a second per MiB
LINK_S = 8.0  # for a lost link to be there again, on a busy machine; asking again is safe: a node recognises the nonces
RETRY_S = 0.3  # between two attempts; on an idle machine a lost link is redialled within it
RETRY_WITHIN_S = 5.0  # a request that failed later than this timed out, and another attempt would too
OFF_LOOP_BYTES = limits.MIB  # batches from this size on are generated or read in a thread, off the event loop


@dataclass(frozen=True, slots=True)
class Planned:
    """One artifact to publish: by whom, what, and when it is due, in seconds from the start of the run."""

    index: int
    name: str
    size: int
    publisher: str
    due_s: float
    payload: Payload

    @property
    def cost(self) -> int:
        """Bytes it takes in a control request."""
        return self.size + len(self.name.encode()) + ITEM_OVERHEAD_BYTES


def plan(request: RunRequest, nodes: list[str], seed: int, sizes: Mapping[str, int]) -> list[Planned]:
    """Every artifact in order of publication; `sizes`: bytes by upload. Raises SpecError.

    All payloads in turn, `count` times over; with publisher `all` every node publishes each of them.
    """
    total = check(request, nodes)
    rng = random.Random(f"p2pnet publishers {seed}")
    planned: list[Planned] = []
    for _ in range(request.count):
        for payload in request.payloads:
            size = sizes[payload.upload] if payload.upload else payload.size
            for publisher in _publishers(request.publisher, nodes, rng):
                index = len(planned)
                due = index / request.rate if request.rate else 0.0
                planned.append(Planned(index, payload.name, size, publisher, due, payload))
    assert len(planned) == total  # noqa: S101 - else what `check` bounds is not what is made
    return planned


def check(request: RunRequest, nodes: list[str]) -> int:
    """How many artifacts the request publishes. Raises SpecError naming what is wrong with it."""
    if not nodes:
        raise SpecError("the subnet has no nodes: nothing can be published")
    if not request.payloads:
        raise SpecError("the run has no payloads: name a file or a size")
    if request.count < 1:
        raise SpecError(f"count {request.count}: at least 1")
    if request.rate is not None and not 0 < request.rate <= 1e6:
        raise SpecError(f"rate {request.rate}: above zero and at most a million per second")
    if not 0 < request.within_s <= 86_400:
        raise SpecError(f"within {request.within_s} s: above zero and at most a day")
    if request.publisher not in ("random", "all") and request.publisher not in nodes:
        raise SpecError(f"there is no node {request.publisher!r}: give a node's name, random or all")
    for payload in request.payloads:
        if payload.size < 0 or (payload.upload and payload.size):
            raise SpecError(f"payload {payload.name!r}: either an upload, or a size of at least 0 bytes")
        if len(payload.name.encode()) > limits.NAME_CHARS_MAX:
            raise SpecError(f"payload name {payload.name[:40]!r}...: at most {limits.NAME_CHARS_MAX} bytes")
    total = artifacts_asked(
        count=request.count, payloads=len(request.payloads), publisher=request.publisher, nodes=len(nodes)
    )
    if total > limits.RUN_ARTIFACTS_MAX:
        raise SpecError(f"{total} artifacts: a run publishes at most {limits.RUN_ARTIFACTS_MAX}")
    return total


def generated(seed: int, index: int, size: int) -> bytes:
    """The bytes of a generated payload: the same for the same seed, index and size, on every machine."""
    return random.Random(f"p2pnet payload {seed} {index} {size}").randbytes(size)


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


def _publishers(publisher: str, nodes: list[str], rng: random.Random) -> list[str]:
    if publisher == "all":
        return nodes
    return [nodes[rng.randrange(len(nodes))] if publisher == "random" else publisher]


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

    async def _publish_all(self, queue: list[Planned]) -> None:
        done = 0
        while done < len(queue):
            elapsed = time.monotonic() - self._start_s
            if queue[done].due_s > elapsed:
                await asyncio.sleep(queue[done].due_s - elapsed)
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
