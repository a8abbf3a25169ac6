"""Publishes what was planned, when it is due, through the nodes' control route."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from p2pnet.lab.nodes.node_client import NodeClient, NodeSilentError, ask_for
from p2pnet.lab.runs.plan import NONCE_BYTES, Planned, take_batch
from p2pnet.model import limits
from p2pnet.model.control import ROUTE_INJECT, ControlRefusal, Injected, InjectItem, InjectRequest
from p2pnet.model.errors import P2pnetError

INJECT_S = 30.0  # plus a second per MiB
RETRIES = 2  # of a request whose link was lost: by their nonces a node knows artifacts it has published already
RETRY_S = 0.3
RETRY_WITHIN_S = 5.0  # a request that was silent for longer is not asked again
OFF_LOOP_BYTES = limits.MIB  # from here on bytes are made or read in a thread


class InjectionRefusedError(P2pnetError):
    """A node would not publish: the run is invalid, and this says why."""


class Injector:
    """One worker per publisher, each in order and with one request at a time: a slow publisher delays only itself."""

    def __init__(
        self, gateway: NodeClient, planned: Sequence[Planned], *, client: str, load: Callable[[Planned], bytes],
        on_published: Callable[[Planned, str], None],
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._client = client
        self._load = load
        self._on_published = on_published
        self._queues: dict[str, list[Planned]] = {}
        for item in planned:
            self._queues.setdefault(item.publisher, []).append(item)
        self._start_s = 0.0
        self.late_s = 0.0
        """The most that a request left after an artifact in it was due."""

    async def run(self) -> None:
        """Until everything is published. Raises InjectionRefusedError or NodeSilentError at the first that is not."""
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
            await self._publish(batch)
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
        for _ in range(RETRIES):
            asked_s = time.monotonic()
            try:
                return await ask_for(self._gateway, node, ROUTE_INJECT, request, Injected, timeout_s=timeout_s)
            except NodeSilentError:
                if time.monotonic() - asked_s > RETRY_WITHIN_S:
                    raise
                await asyncio.sleep(RETRY_S)
        return await ask_for(self._gateway, node, ROUTE_INJECT, request, Injected, timeout_s=timeout_s)

    def _items(self, batch: list[Planned]) -> list[InjectItem]:
        # The nonce makes every artifact one of a kind: the same bytes injected twice are two artifacts.
        return [InjectItem(planned.name, self._load(planned), os.urandom(NONCE_BYTES)) for planned in batch]
