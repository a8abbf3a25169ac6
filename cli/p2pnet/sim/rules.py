"""The rules of the broadcast that leave no trace in who holds what: judged from every input and effect, and from nodes at rest.

Listed with their bounds in docs/broadcast.md, "Rules that the simulator judges". Dishonest nodes are not judged.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from p2pnet.adversary import DishonestBroadcast
from p2pnet.broadcast import Broadcast, effects, inputs
from p2pnet.broadcast.stripes import decode_stripes
from p2pnet.model.errors import P2pnetError
from p2pnet.model.ids import ArtifactId
from p2pnet.sim.node import Node
from p2pnet.sim.quantities import NS

LOOKS_PER_NEWS = 12
"""Looks at fetches, for each fetch begun, request sent and update received: else work grows with all fetches there are."""
FAILURES_PER_ROW = 9
"""Requests in vain, for each announcement: as often a source is asked that has not got what it announces."""
COST_SLACK = 100
"""Looks and requests in vain that are always allowed."""
INPUTS_PER_LOOK = 500
"""Inputs of all nodes between two judgements of a node's work."""
SAME_CONNECTION_NS = 100_000_000
"""The two ends of one connection come up within this time of each other."""
STRIPES_REMEMBERED = 100_000
"""Stripes passed on that are remembered, the latest."""
SENTENCES_MAX = 100
"""Broken rules that are kept."""
WRONG_STRIPE = "wrong stripe"  # detail of the event that blames a peer
_NAMED_MAX = 5  # artifacts in a sentence

Slots = Mapping[ArtifactId, int]


class BrokenRuleError(P2pnetError):
    """A node broke a rule of the broadcast, in a world that was to stop there."""


class RuleWatch:
    """Sees every input of every honest node and what followed. `broken`: a sentence for each rule broken so far, in order."""

    def __init__(self, *, raises: bool = False) -> None:
        """`raises`: BrokenRuleError, at the first."""
        self._raises = raises
        self.broken: dict[str, None] = {}
        self._cores: dict[str, Broadcast] = {}
        self._ups: dict[tuple[str, str], tuple[int, int, Slots]] = {}
        """By node and peer: when its present connection came up, the connection's id, and what was announced then."""
        self._starts: dict[str, int] = {}
        self._passed: dict[tuple[str, int, str, int, bytes, int], None] = {}
        """Stripes by node and its start, peer and connection, artifact and place in it."""
        self._costly: dict[tuple[str, int, str], None] = {}
        """Rules about work that a start of a node has broken."""
        self._seen = 0

    def __call__(self, core: Broadcast, what: inputs.Input, done: list[effects.Effect], now: int) -> None:
        """A core handled this input at `now`, in nanoseconds since the start; `done`: its effects."""
        if isinstance(core, DishonestBroadcast):
            return
        if self._cores.get(core.me) is not core:
            self._cores[core.me] = core
            self._starts[core.me] = self._starts.get(core.me, 0) + 1
        self._seen += 1
        if not self._seen % INPUTS_PER_LOOK:
            self._look_at_work(core, now)
        for effect in done:
            if isinstance(effect, effects.SendStripes):
                self._look_at_stripes(core, effect, now)
            elif isinstance(effect, effects.Emit) and effect.detail == WRONG_STRIPE and effect.peer in self._cores:
                self._say(f"{core.me} blames {effect.peer} for a wrong stripe, which somebody else has made", now)
        if isinstance(what, inputs.PeerUp):
            self._ups[core.me, what.peer] = (now, what.connection, core.announced_slots(what.peer))
        elif isinstance(what, inputs.SyncedReceived) and what.peer in self._cores:
            self._look_at_synced(core, self._cores[what.peer], what.connection, now)

    def look_at_all(self, nodes: Iterable[Node], now: int) -> None:
        """Judge the work of these nodes now."""
        for node in nodes:
            self._look_at_work(node.core, now)

    def _say(self, sentence: str, now: int) -> None:
        told = f"{sentence}, {now / NS:.3f} s after the start"
        if self._raises:
            raise BrokenRuleError(told)
        if len(self.broken) < SENTENCES_MAX:
            self.broken[told] = None

    def _look_at_work(self, core: Broadcast, now: int) -> None:
        """Looking at fetches costs as much as there is news, not as there are fetches; nobody is asked in vain for ever."""
        counted = core.counters
        news = counted["tasks_started"] + counted["fetches"] + counted["updates"]
        looked, announced = counted["tasks_looked_at"], counted["rows_new"] + counted["rows_overwritten"]
        failed = counted["fetch_errors"]
        if looked > LOOKS_PER_NEWS * news + COST_SLACK:
            self._say_once(core, "work", f"{core.me} looked {looked} times at fetches, for {news} pieces of news", now)
        if failed > FAILURES_PER_ROW * announced + COST_SLACK:
            self._say_once(
                core, "asked in vain", f"{core.me} asked {failed} times in vain, for {announced} announcements", now
            )

    def _say_once(self, core: Broadcast, rule: str, sentence: str, now: int) -> None:
        """It grows with every look: the first is told."""
        start = (core.me, self._starts.get(core.me, 0), rule)
        if start not in self._costly:
            self._costly[start] = None
            self._say(sentence, now)

    def _look_at_stripes(self, core: Broadcast, sent: effects.SendStripes, now: int) -> None:
        """What was dealt to a node it passes on to a peer once."""
        for stripe in decode_stripes(b"".join(sent.body)):
            if stripe.first_hand:
                continue
            passed = (core.me, self._starts[core.me], sent.peer, sent.connection, stripe.short, stripe.first)
            if passed in self._passed:
                self._say(f"{core.me} passed a stripe on to {sent.peer} twice", now)
            elif len(self._passed) >= STRIPES_REMEMBERED:
                del self._passed[next(iter(self._passed))]
            self._passed[passed] = None

    def _look_at_synced(self, receiver: Broadcast, sender: Broadcast, connection: int, now: int) -> None:
        """`synced` comes when everything is shown that was announced when the connection came up."""
        at, current, _ = self._ups.get((receiver.me, sender.me), (0, 0, {}))
        there, _, active = self._ups.get((sender.me, receiver.me), (0, 0, {}))
        if current != connection or abs(at - there) > SAME_CONNECTION_NS:
            return  # it came on an older connection than one of them uses now
        shown = {*receiver.announced_by(sender.me), *receiver.announcing()}
        still = sender.announced_slots(receiver.me)
        # What left and came back meanwhile has another slot.
        missed = [
            artifact
            for artifact, slot in active.items()
            if still.get(artifact) == slot and artifact not in shown and not receiver.is_refused(artifact)
        ]
        if missed:
            self._say(f"{sender.me} said synced to {receiver.me} before it announced {_shorts(missed)}", now)


def broken_at_rest(nodes: Collection[Node]) -> Iterator[str]:
    """Rules that these honest nodes break although they have nothing left to do."""
    for node in nodes:
        queued = [artifact for artifact in node.core.waiting_for_slot() if not node.holds(artifact)]
        if queued:
            yield f"{node.name} keeps {_shorts(queued)} in line for a slot, and does not hold it"
        announced, peers = set(node.core.announcing()), set(node.peers())
        for other in nodes:
            if other is not node and other.name in peers:
                ghosts = [artifact for artifact in other.core.announced_by(node.name) if artifact not in announced]
                if ghosts:
                    yield f"{other.name} keeps {_shorts(ghosts)} as announced by {node.name}, which announces no such thing"


def _shorts(artifacts: list[ArtifactId]) -> str:
    more = f" and {len(artifacts) - _NAMED_MAX} more" if len(artifacts) > _NAMED_MAX else ""
    return ", ".join(artifact.hex()[:8] for artifact in artifacts[:_NAMED_MAX]) + more
