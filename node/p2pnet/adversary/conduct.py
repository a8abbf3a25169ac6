"""`Conduct`: what one kind of adversary does to the inputs and effects of its core. Each kind overrides some of it."""

from collections.abc import Iterable
from typing import Protocol

from p2pnet.broadcast import effects, inputs
from p2pnet.model.config import BroadcastSettings

PeerRequest = inputs.UpdatesReceived | inputs.FetchReceived | inputs.DigestReceived | inputs.StripesReceived
"""An input that asks for an answer."""
Asking = effects.SendUpdates | effects.Fetch | effects.SendSynced | effects.SendDigest | effects.SendStripes
"""An effect that sends a request to a peer."""
Answering = effects.AnswerUpdates | effects.AnswerFetch | effects.AnswerDigest | effects.AnswerStripes
"""An effect that answers a peer's request."""


class AdversaryChance(Protocol):
    """What an adversary draws from; `random.Random` is one."""

    def random(self) -> float:
        """At least 0 and below 1."""

    def randbytes(self, n: int, /) -> bytes:
        """So many random bytes."""


class Conduct:
    """The conduct of one node towards its peers, for one client. By itself an honest one; times are monotonic nanoseconds.

    Everything here is called for an input or effect of the core that concerns a peer; what is left unsaid is as an honest node
    has it.
    """

    def __init__(self, rng: AdversaryChance) -> None:
        self.rng = rng
        self.peers: dict[str, int] = {}
        """Peer -> id of the connection in use."""

    @staticmethod
    def settings(settings: BroadcastSettings) -> BroadcastSettings:
        """The settings that its core is given in the place of these."""
        return settings

    def hears(self, request: PeerRequest) -> PeerRequest | Answering | None:
        """A peer's request: what the core is told, or an answer in the core's place, or None: it is never answered."""
        return request

    def asks(self, effect: Asking, now: int) -> Iterable[effects.Effect] | None:  # noqa: ARG002 - for subclasses
        """What becomes of a request of the core; None: it is not sent, and the core is told that it was taken."""
        return (effect,)

    def answers(self, effect: Answering, now: int) -> Iterable[effects.Effect] | None:  # noqa: ARG002 - for subclasses
        """What becomes of an answer of the core; None: it is never given."""
        return (effect,)

    def cancels(self, effect: effects.Cancel) -> Iterable[effects.Effect]:
        """What becomes of the core's giving up a request."""
        return (effect,)

    def due(self, *, lasting: bool) -> int | None:  # noqa: ARG002 - for subclasses
        """When it does something by itself next; None: never. Not `lasting`: without what it does time and again."""
        return None

    def acts(self, now: int) -> Iterable[effects.Effect]:  # noqa: ARG002 - for subclasses
        """What it does by itself, now that it is due; a request has a token of `OWN_TOKENS` and above."""
        return ()

    def answered(self, token: int, now: int) -> None:
        """A request of its own has its answer, or has failed."""

    def links_changed(self, now: int) -> None:
        """`peers` has changed."""
