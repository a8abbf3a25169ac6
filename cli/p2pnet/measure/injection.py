"""What a run publishes: a plan of who, what and when, the same on every target. Pure: chance is an argument."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from p2pnet.measure.pace import pace_of, schedule
from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import Payload, RunRequest, artifacts_asked

ITEM_OVERHEAD_BYTES = 48  # nonce, lengths and msgpack heads of one item of a control request


@dataclass(frozen=True, slots=True)
class Planned:
    """One artifact to publish: by whom, what, and when it is due, in nanoseconds from the start of the run."""

    index: int
    name: str
    size: int
    publisher: str
    due_ns: int
    payload: Payload

    @property
    def due_s(self) -> float:
        """The same in seconds."""
        return self.due_ns / 1e9

    @property
    def cost(self) -> int:
        """Bytes it takes in a control request."""
        return self.size + len(self.name.encode()) + ITEM_OVERHEAD_BYTES


def publishers_seed(seed: int) -> str:
    """The seed of the generator that chooses publishers, in a run of this seed."""
    return f"p2pnet publishers {seed}"


def payload_seed(seed: int, index: int, size: int) -> str:
    """The seed of the generator that makes the bytes of a generated payload, in a run of this seed."""
    return f"p2pnet payload {seed} {index} {size}"


def plan(
    request: RunRequest,
    nodes: list[str],
    sizes: Mapping[str, int],
    choose: Callable[[int], int],
    dishonest: Collection[str] = (),
) -> list[Planned]:
    """Every artifact in order of publication; `sizes`: bytes by upload. Raises SpecError.

    All payloads in turn, `count` times over; with publisher `all` every node publishes each of them. `choose(n)`: a number
    from 0 to n - 1 by chance, which a generator seeded with `publishers_seed` gives, so that all targets choose the same.
    `dishonest`: those of `nodes` that publish only when they are named.
    """
    honest = [node for node in nodes if node not in dishonest]
    total = check(request, nodes, len(honest))
    due_ns = schedule(pace_of(request.rate), total)
    planned: list[Planned] = []
    for _ in range(request.count):
        for payload in request.payloads:
            size = sizes[payload.upload] if payload.upload else payload.size
            for publisher in _publishers(request.publisher, honest, choose):
                index = len(planned)
                planned.append(Planned(index, payload.name, size, publisher, due_ns[index], payload))
    assert len(planned) == total  # noqa: S101 - else what `check` bounds is not what is made
    return planned


def payload_number(request: RunRequest, index: int, nodes: int) -> int:
    """Which of the request's payloads the planned artifact with this index is made of, in a subnet of so many honest nodes."""
    return index // (nodes if request.publisher == "all" else 1) % len(request.payloads)


def check(request: RunRequest, nodes: list[str], honest: int | None = None) -> int:
    """How many artifacts the request publishes. `honest`: how many of the nodes are, None: all.

    Raises SpecError naming what is wrong with it.
    """
    if not nodes:
        raise SpecError("the subnet has no nodes: nothing can be published")
    if not request.payloads:
        raise SpecError("the run has no payloads: name a file or a size")
    if request.count < 1:
        raise SpecError(f"count {request.count}: at least 1")
    pace_of(request.rate)
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
        count=request.count,
        payloads=len(request.payloads),
        publisher=request.publisher,
        nodes=len(nodes) if honest is None else honest,
    )
    if total > limits.RUN_ARTIFACTS_MAX:
        raise SpecError(f"{total} artifacts: a run publishes at most {limits.RUN_ARTIFACTS_MAX}")
    return total


def unpublished_notes(unpublished: Mapping[str, int]) -> list[str]:
    """A note for each publisher that ordered faults kept from publishing so many artifacts."""
    return [f"{artifacts(count)} not published: {node} was down, as ordered" for node, count in unpublished.items()]


def artifacts(count: int) -> str:
    """`1 artifact was`, `5 artifacts were`."""
    return "1 artifact was" if count == 1 else f"{count} artifacts were"


def _publishers(publisher: str, nodes: list[str], choose: Callable[[int], int]) -> list[str]:
    if publisher == "all":
        return nodes
    return [nodes[choose(len(nodes))] if publisher == "random" else publisher]
