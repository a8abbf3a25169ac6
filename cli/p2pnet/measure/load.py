"""The load a run was asked to offer, out of its request. Pure."""

from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Load


def artifacts_asked(*, count: int, payloads: int, publisher: str, nodes: int) -> int:
    """How many artifacts come of `payloads` things to publish, each `count` times, by one node or by all `nodes`."""
    return count * payloads * (nodes if publisher == "all" else 1)


def load_of(run: RunFile) -> Load:
    """What a run was asked to publish."""
    request = run.request
    return Load(
        rate_per_s=request.rate, publisher=request.publisher, within_s=request.within_s, seed=run.seed,
        client=request.client or DEFAULT_CLIENT,
        count=artifacts_asked(
            count=request.count, payloads=len(request.payloads), publisher=request.publisher, nodes=len(run.nodes)
        ),
    )  # fmt: skip
