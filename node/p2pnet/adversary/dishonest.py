"""`DishonestBroadcast`: the broadcast of an adversary, which a driver uses as any other."""

import msgspec

from p2pnet.adversary.attacks import OWN_TOKENS, FloodingConduct, ReplayingConduct
from p2pnet.adversary.conduct import AdversaryChance, Answering, Asking, Conduct, PeerRequest
from p2pnet.adversary.conducts import (
    ForgetfulConduct,
    LyingConduct,
    SelectiveConduct,
    SilentConduct,
    SlowConduct,
    WithholdingConduct,
)
from p2pnet.adversary.wire import accepted, answer_with
from p2pnet.broadcast import Broadcast, Client, effects, inputs
from p2pnet.broadcast.artifact import RandomSource
from p2pnet.broadcast.effects import Effect
from p2pnet.broadcast.inputs import Input
from p2pnet.model.behaviours import Behaviour
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.limits import UNVALIDATED_BYTES_PER_PEER

UNANSWERED_MAX = 4_096
"""Requests that an adversary leaves unanswered on all connections together; beyond, the eldest is answered with nothing."""

_ANSWERED = (inputs.UpdatesAnswered, inputs.FetchAnswered, inputs.DigestAnswered, inputs.StripesAnswered)


class DishonestBroadcast(Broadcast):
    """A `Broadcast` between whose core and driver stands a `Conduct`.

    The core is an honest one, so an adversary takes part in the protocol wherever its conduct leaves things alone.
    """

    def __init__(
        self,
        client: Client,
        me: str,
        settings: BroadcastSettings,
        rng: RandomSource,
        *,
        conduct: Conduct,
        unvalidated_bytes_per_peer: int = UNVALIDATED_BYTES_PER_PEER,
    ) -> None:
        """As `Broadcast`; `conduct` belongs to this broadcast alone."""
        super().__init__(
            client, me, conduct.settings(settings), rng, unvalidated_bytes_per_peer=unvalidated_bytes_per_peer
        )
        self._conduct = conduct
        self._open: dict[int, PeerRequest] = {}
        """Requests of peers that the core has not answered, by token, without their bodies."""
        self._unanswered: dict[int, PeerRequest] = {}
        """Those that are never answered. When their connection has ended they are, for a driver keeps each until then."""

    def handle(self, what: Input, now: int, wall: float) -> list[Effect]:
        """See `Broadcast.handle`."""
        done: list[Effect] = []
        told: list[Input] = []
        self._hear(what, now, told, done)
        for item in told:  # grows: what is not sent is answered here
            for effect in super().handle(item, now, wall):
                self._say(effect, now, told, done)
        if type(what) is inputs.Wake:
            done += self._conduct.acts(now)
        return done

    def next_wakeup(self, *, expiries: bool = True) -> int | None:
        """See `Broadcast.next_wakeup`; what the conduct does time and again counts as expiries do."""
        due = [
            one
            for one in (super().next_wakeup(expiries=expiries), self._conduct.due(lasting=expiries))
            if one is not None
        ]
        return min(due, default=None)

    # Inside

    def _hear(self, what: Input, now: int, told: list[Input], done: list[Effect]) -> None:
        conduct = self._conduct
        if isinstance(what, PeerRequest):
            self._hear_request(what, told, done)
            return
        if isinstance(what, _ANSWERED) and what.token >= OWN_TOKENS:
            conduct.answered(what.token, now)
            return
        if isinstance(what, inputs.PeerUp):
            self._end_connection(what.peer, done)
            conduct.peers[what.peer] = what.connection
            conduct.links_changed(now)
        elif isinstance(what, inputs.PeerDown) and conduct.peers.get(what.peer) == what.connection:
            self._end_connection(what.peer, done)
            del conduct.peers[what.peer]
            conduct.links_changed(now)
        told.append(what)

    def _hear_request(self, request: PeerRequest, told: list[Input], done: list[Effect]) -> None:
        found = self._conduct.hears(request)
        if isinstance(found, Answering):
            done.append(found)
            return
        self._open[request.token] = msgspec.structs.replace(request, body=b"")
        if found is None:
            self._leave_unanswered(request.token, done)
        else:
            told.append(found)

    def _say(self, effect: Effect, now: int, told: list[Input], done: list[Effect]) -> None:
        conduct = self._conduct
        if isinstance(effect, Asking):
            sent = conduct.asks(effect, now)
            if sent is not None:
                done += sent
            else:
                told.append(accepted(effect))
        elif isinstance(effect, Answering):
            given = conduct.answers(effect, now)
            if given is None:
                self._leave_unanswered(effect.token, done)
            else:
                del self._open[effect.token]
                done += given
        elif isinstance(effect, effects.Cancel):
            done += conduct.cancels(effect)
        else:
            done.append(effect)

    def _leave_unanswered(self, token: int, done: list[Effect]) -> None:
        request = self._open.pop(token)
        if self._conduct.peers.get(request.peer) != request.connection:
            done.append(answer_with(request, []))
            return
        self._unanswered[token] = request
        if len(self._unanswered) > UNANSWERED_MAX:
            done.append(answer_with(self._unanswered.pop(next(iter(self._unanswered))), []))

    def _end_connection(self, peer: str, done: list[Effect]) -> None:
        """Answer what was left unanswered on the connection that ends, into the void."""
        connection = self._conduct.peers.get(peer)
        ended = [one for one in self._unanswered.values() if (one.peer, one.connection) == (peer, connection)]
        done += [answer_with(self._unanswered.pop(request.token), []) for request in ended]


def make_conduct(
    behaviour: Behaviour, rng: AdversaryChance, *, me: str, seed: int, client: str, settings: BroadcastSettings
) -> Conduct:
    """The conduct of one node for one client. `seed`: the subnet's, from which a selective node's friends follow."""
    if plain := _PLAIN.get(behaviour):
        return plain(rng)
    match behaviour:
        case "withholding":
            return WithholdingConduct(rng, client)
        case "forgetful":
            return ForgetfulConduct(rng, client)
        case "selective":
            return SelectiveConduct(rng, me, seed)
        case "flooding":
            return FloodingConduct(rng, settings.slots_per_peer)
        case _:
            return Conduct(rng)


_PLAIN: dict[Behaviour, type[Conduct]] = {
    "silent": SilentConduct, "slow": SlowConduct, "lying": LyingConduct, "replaying": ReplayingConduct
}  # fmt: skip
"""Those that need nothing but chance."""
