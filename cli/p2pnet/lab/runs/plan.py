"""What a run will publish: who, what, when. A function of the request, the members and the seed. No I/O."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from p2pnet.measure import artifacts_asked
from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import Payload, RunRequest

NONCE_BYTES = 16
BATCH_BYTES_MAX = limits.MIB - 64 * limits.KIB  # of a control request that may carry 1 MiB; the rest is its frame
ITEM_OVERHEAD_BYTES = 48  # nonce, lengths and msgpack heads of one item


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
    """Every artifact in order of publication; `sizes` gives the bytes of uploads. Raises SpecError.

    Rounds of all payloads, `count` times; with publisher `all` every node makes each of them its own.
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
    assert len(planned) == total  # noqa: S101 - the check and the loop say the same
    return planned


def check(request: RunRequest, nodes: list[str]) -> int:
    """How many artifacts the request makes. Raises SpecError naming what is wrong with it."""
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
    """From `queue[start:]`, what is due and fits into one control request; at least one."""
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
