"""Adversaries that only change what an honest core would say: they leave out, hold back and spoil."""

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from p2pnet.adversary.conduct import AdversaryChance, Answering, Asking, Conduct, PeerRequest
from p2pnet.adversary.wire import answer_with, least_of, pushes_as_adverts, spoil_answer, spoil_stripes, spoil_stripped
from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.artifact import id_prefix
from p2pnet.broadcast.wire import encode_gone
from p2pnet.model.config import BroadcastSettings

SLOW_NS = 2_000_000_000
"""How late a slow adversary says and answers everything, in nanoseconds: well beyond the pause after which honest nodes ask
somebody else."""
HELD_MAX = 4_096
"""Requests and answers that a slow adversary holds back; beyond, the eldest leaves at once."""


class SilentConduct(Conduct):
    """It takes what it is sent, and says nothing: it neither announces, passes on, serves, answers nor asks."""

    def asks(self, effect: Asking, now: int) -> None:
        """See `Conduct.asks`."""

    def answers(self, effect: Answering, now: int) -> None:
        """See `Conduct.answers`."""


class SlowConduct(Conduct):
    """It says and answers everything `SLOW_NS` late, and serves one part or leaf where it is asked for many."""

    def __init__(self, rng: AdversaryChance) -> None:
        super().__init__(rng)
        self._held: deque[tuple[int, effects.Effect]] = deque()
        """(when it leaves, what), the eldest first."""

    def hears(self, request: PeerRequest) -> PeerRequest | Answering | None:
        """See `Conduct.hears`."""
        if isinstance(request, inputs.FetchReceived):
            return msgspec.structs.replace(request, body=least_of(request.body))
        return request

    def asks(self, effect: Asking, now: int) -> Iterable[effects.Effect]:
        """See `Conduct.asks`."""
        return self._hold(effect, now)

    def answers(self, effect: Answering, now: int) -> Iterable[effects.Effect]:
        """See `Conduct.answers`."""
        return self._hold(effect, now)

    def cancels(self, effect: effects.Cancel) -> Iterable[effects.Effect]:
        """What has not left yet never does; what has is reset at once, for late resets hurt nobody."""
        held = next((one for one in self._held if isinstance(one[1], Asking) and one[1].token == effect.token), None)
        if held is None:
            return (effect,)
        self._held.remove(held)
        return ()

    def due(self, *, lasting: bool) -> int | None:  # noqa: ARG002 - whatever is asked
        """See `Conduct.due`."""
        return self._held[0][0] if self._held else None

    def acts(self, now: int) -> Iterable[effects.Effect]:
        """See `Conduct.acts`."""
        leaving = []
        while self._held and self._held[0][0] <= now:
            leaving.append(self._held.popleft()[1])
        return leaving

    def _hold(self, effect: effects.Effect, now: int) -> Iterable[effects.Effect]:
        self._held.append((now + SLOW_NS, effect))
        return (self._held.popleft()[1],) if len(self._held) > HELD_MAX else ()


class LyingConduct(Conduct):
    """It serves wrong bytes for right ids: parts, leaves, stripes that it deals out or passes on, and stripped forms."""

    def asks(self, effect: Asking, now: int) -> Iterable[effects.Effect]:  # noqa: ARG002 - see `Conduct`
        """See `Conduct.asks`."""
        if isinstance(effect, effects.SendStripes):
            return (msgspec.structs.replace(effect, body=spoil_stripes(b"".join(effect.body), self.rng)),)
        if isinstance(effect, effects.SendUpdates):
            return (msgspec.structs.replace(effect, body=spoil_stripped(effect.body, self.rng)),)
        return (effect,)

    def answers(self, effect: Answering, now: int) -> Iterable[effects.Effect]:  # noqa: ARG002 - see `Conduct`
        """See `Conduct.answers`."""
        if isinstance(effect, effects.AnswerFetch):
            return (msgspec.structs.replace(effect, body=spoil_answer(effect.body, self.rng)),)
        return (effect,)


class WithholdingConduct(Conduct):
    """It announces everything it holds to all peers, and serves nothing: a fetch is never answered, a stripe never passed on."""

    def __init__(self, rng: AdversaryChance, client: str) -> None:
        super().__init__(rng)
        self._prefix = id_prefix(client)

    @staticmethod
    def settings(settings: BroadcastSettings) -> BroadcastSettings:
        """See `Conduct.settings`: so that it advertises where an honest node would push, hold or scatter."""
        return msgspec.structs.replace(settings, push_below=0, relay="advert")

    def hears(self, request: PeerRequest) -> PeerRequest | Answering | None:
        """See `Conduct.hears`."""
        return None if isinstance(request, inputs.FetchReceived) else request

    def asks(self, effect: Asking, now: int) -> Iterable[effects.Effect] | None:  # noqa: ARG002 - see `Conduct`
        """See `Conduct.asks`."""
        if isinstance(effect, effects.SendStripes):
            return None
        if isinstance(effect, effects.SendUpdates):  # what the client calls urgent is pushed in spite of the settings
            return (msgspec.structs.replace(effect, body=pushes_as_adverts(effect.body, self._prefix)),)
        return (effect,)


class ForgetfulConduct(WithholdingConduct):
    """It announces everything it holds to all peers, and answers every fetch `gone`; a stripe it never passes on."""

    def hears(self, request: PeerRequest) -> PeerRequest | Answering | None:
        """See `Conduct.hears`."""
        return answer_with(request, encode_gone()) if isinstance(request, inputs.FetchReceived) else request


class SelectiveConduct(Conduct):
    """It is honest to about half of its peers. To the others it announces and passes on nothing, and answers fetches `gone`.

    Who they are follows from the seed and the names, the same live and in virtual time.
    """

    def __init__(self, rng: AdversaryChance, me: str, seed: int) -> None:
        super().__init__(rng)
        self._choice = f"{seed}/{me}/"
        self._friends: dict[str, bool] = {}

    def is_friend(self, peer: str) -> bool:
        """Whether it is honest to this peer."""
        found = self._friends.get(peer)
        if found is None:
            found = self._friends[peer] = blake2b((self._choice + peer).encode(), digest_size=1).digest()[0] < _HALF
        return found

    def hears(self, request: PeerRequest) -> PeerRequest | Answering | None:
        """See `Conduct.hears`."""
        if isinstance(request, inputs.FetchReceived) and not self.is_friend(request.peer):
            return answer_with(request, encode_gone())
        return request

    def asks(self, effect: Asking, now: int) -> Iterable[effects.Effect] | None:  # noqa: ARG002 - see `Conduct`
        """See `Conduct.asks`."""
        tells = isinstance(effect, effects.SendUpdates | effects.SendStripes)
        return None if tells and not self.is_friend(effect.peer) else (effect,)

    def links_changed(self, now: int) -> None:  # noqa: ARG002 - see `Conduct`
        """See `Conduct.links_changed`: those who are gone are forgotten."""
        self._friends = {peer: friend for peer, friend in self._friends.items() if peer in self.peers}


_HALF = 128
