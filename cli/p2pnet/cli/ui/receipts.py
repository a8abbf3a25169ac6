"""Events of a subnet as the page takes them: who got which artifact when, from whom. Pure, and bounded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from p2pnet.measure.propagation import ARTIFACTS_DRAWN_MAX, RECEIPTS_DRAWN_MAX
from p2pnet.model.events import Collected, EventKind

PASSED_OVER_MAX = 20_000  # ids of artifacts that are not followed, so that late receipts do not begin them again
WAITED_NS = 60 * 10**9  # of one that is not everywhere yet: then it makes room

Json = dict[str, Any]


@dataclass(slots=True)
class _Followed:
    """One artifact: the first receipt of each node, and which of them nobody was told of yet."""

    begun_ns: int
    """When it was heard of first."""
    publisher: int = -1
    published_ns: int | None = None
    size: int = 0
    came: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """By node: time in ns, hop, sender."""
    untold: set[int] = field(default_factory=set)
    announced: bool = False


class LiveReceipts:
    """Artifacts of a subnet of these nodes, as many at the same time as a page draws.

    One that is everywhere makes room for a new one. Where none is, as in a burst, new ones are passed over: what is shown is
    shown to its end. Whatever is told may be told again: a page takes the first receipt of each node, and knows artifacts by
    their ids.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._numbers = {node: number for number, node in enumerate(nodes)}
        self._artifacts_max = max(1, min(ARTIFACTS_DRAWN_MAX, RECEIPTS_DRAWN_MAX // max(1, len(nodes))))
        self._artifacts: dict[str, _Followed] = {}
        self._passed_over: dict[str, None] = {}
        self._parting: list[Json] = []
        """What is to be told of artifacts that made room."""
        self._first_ns: int | None = None

    def take(self, event: Collected) -> None:
        """Take in one event, in whatever order nodes tell them; of most kinds nothing is kept."""
        node = self._numbers.get(event.node)
        if node is None or not event.artifact or event.kind not in (EventKind.PUBLISHED, EventKind.VALIDATED):
            return
        one = self._artifacts.get(event.artifact)
        if one is None:
            if event.artifact in self._passed_over or not self._has_room(event.t_ns):
                self._pass_over(event.artifact)
                return
            one = self._artifacts[event.artifact] = _Followed(begun_ns=event.t_ns)
        if event.kind is EventKind.PUBLISHED:
            if one.published_ns is None:
                one.publisher, one.published_ns, one.size = node, event.t_ns, event.bytes
                if self._first_ns is None:
                    self._first_ns = event.t_ns
        elif node not in one.came:
            one.came[node] = event.t_ns, event.hop, self._numbers.get(event.peer, -1)
            one.untold.add(node)

    def _has_room(self, now_ns: int) -> bool:
        """Whether one more can be followed, once the oldest that needs to be followed no more is let go."""
        if len(self._artifacts) < self._artifacts_max:
            return True
        others = len(self._numbers) - 1
        for artifact, one in self._artifacts.items():
            everywhere = one.published_ns is not None and len(one.came) >= others
            if everywhere or now_ns - one.begun_ns > WAITED_NS:
                if one.published_ns is not None and (one.untold or not one.announced):
                    self._parting = [*self._parting, self._told(artifact, one, sorted(one.untold))][
                        -self._artifacts_max :
                    ]
                del self._artifacts[artifact]
                self._pass_over(artifact)
                return True
        return False

    def _pass_over(self, artifact: str) -> None:
        self._passed_over[artifact] = None
        if len(self._passed_over) > PASSED_OVER_MAX:
            del self._passed_over[next(iter(self._passed_over))]

    def news(self) -> list[Json]:
        """What nobody was told of yet."""
        parting, self._parting = self._parting, []
        return parting + [
            self._told(artifact, one, sorted(one.untold))
            for artifact, one in self._artifacts.items()
            if one.published_ns is not None and (one.untold or not one.announced)
        ]

    def whole(self) -> list[Json]:
        """Everything there is, for a page that begins."""
        return [
            self._told(artifact, one, sorted(one.came), keep=True)
            for artifact, one in self._artifacts.items()
            if one.published_ns is not None
        ]

    def _told(self, artifact: str, one: _Followed, nodes: Sequence[int], *, keep: bool = False) -> Json:
        start = one.published_ns or 0
        came = [one.came[node] for node in nodes]
        if not keep:
            one.untold.clear()
            one.announced = True
        return {
            "id": artifact, "publisher": one.publisher, "size": one.size, "at_us": (start - (self._first_ns or 0)) // 1000,
            "node": list(nodes), "after_us": [(at - start) // 1000 for at, _, _ in came],
            "hop": [hop for _, hop, _ in came], "from": [sender for _, _, sender in came],
        }  # fmt: skip
