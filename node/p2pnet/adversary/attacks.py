"""Adversaries that behave, and beside that send their peers what nobody asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from p2pnet.adversary.conduct import AdversaryChance, Asking, Conduct, PeerRequest
from p2pnet.adversary.wire import (
    garbage,
    garbage_adverts,
    garbage_digest,
    garbage_push,
    garbage_question,
    garbage_stripes,
)
from p2pnet.broadcast import effects, inputs
from p2pnet.model.limits import KIB, MIB

OWN_TOKENS = 1 << 60
"""An adversary's own requests have tokens from here on; a core counts from 1."""
FLOOD_PERIOD_NS = 250_000_000
"""How often a flooding adversary sends, in nanoseconds."""
FLOOD_BYTES_PER_S = MIB // 2
"""What a flooding adversary sends at most, to all its peers together: so that a machine with a whole subnet on it survives."""
FLOOD_REQUESTS_PER_S = 32
"""The same in requests."""
FLOOD_ADVERTS = 64
"""Adverts in one request of a flooding adversary: each makes a peer ask for something, so they cost more than their bytes."""
FLOOD_OPEN_PER_PEER = 16
"""Requests without an answer of a flooding adversary at one peer: beyond, it waits, as it would on a full connection."""
FLOOD_TIMEOUT_S = 10.0
"""How long it waits for the answer to a garbage fetch, in seconds."""
REPLAY_PERIOD_NS = 100_000_000
"""How often a replaying adversary repeats a request, in nanoseconds."""
REPLAYED_MAX = 256
"""Requests that a replaying adversary keeps, its own and its peers'; beyond, a random one goes, so that old ones stay long."""
REPLAYED_BYTES_MAX = 64 * KIB
"""Larger requests are not kept: 16 MiB at most in all."""

_DIGEST_IDS = 250
_STRIPES = 8
_PUSH_BYTES = 24 * KIB
_MALFORMED_BYTES = 300


class _Repeating(Conduct, ABC):
    """A conduct that does something time and again while it has peers."""

    period_ns: int

    def __init__(self, rng: AdversaryChance) -> None:
        super().__init__(rng)
        self._next: int | None = None
        self._tokens = OWN_TOKENS

    def due(self, *, lasting: bool) -> int | None:
        """See `Conduct.due`."""
        return self._next if lasting else None

    def acts(self, now: int) -> Iterable[effects.Effect]:
        """See `Conduct.acts`."""
        if self._next is None or now < self._next:
            return ()
        # From now, not from when it was due: after a pause it does not make up for it.
        self._next = now + self.period_ns
        return self.attack(now)

    def links_changed(self, now: int) -> None:
        """See `Conduct.links_changed`."""
        if not self.peers:
            self._next = None
        elif self._next is None:
            self._next = now + self.period_ns

    @abstractmethod
    def attack(self, now: int) -> Iterable[effects.Effect]:
        """What it does once in a period; it has peers."""

    def token(self) -> int:
        """A new token for a request of its own."""
        self._tokens += 1
        return self._tokens


class FloodingConduct(_Repeating):
    """It sends its peers garbage on every route, in turn, within `FLOOD_BYTES_PER_S` and `FLOOD_REQUESTS_PER_S`."""

    period_ns = FLOOD_PERIOD_NS

    def __init__(self, rng: AdversaryChance, slots: int) -> None:
        """`slots`: how many its peers give it."""
        super().__init__(rng)
        self._slots = slots
        self._commit = self._sent = 0
        self._open: dict[int, tuple[str, int]] = {}
        """Requests without an answer, by token: (peer, connection)."""
        self._kinds: tuple[Callable[[str, int], Asking], ...] = (
            self._adverts, self._push, self._digest, self._stripes, self._question, self._malformed
        )  # fmt: skip

    def answered(self, token: int, now: int) -> None:  # noqa: ARG002 - see `Conduct`
        """See `Conduct.answered`."""
        self._open.pop(token, None)

    def links_changed(self, now: int) -> None:
        """See `Conduct.links_changed`."""
        super().links_changed(now)
        self._open = {token: at for token, at in self._open.items() if self.peers.get(at[0]) == at[1]}

    def attack(self, now: int) -> Iterable[effects.Effect]:  # noqa: ARG002 - see `_Repeating`
        """A period's share of garbage, each peer and each kind in turn."""
        size = FLOOD_BYTES_PER_S * self.period_ns // 1_000_000_000
        peers, sent = list(self.peers.items()), []
        busy: dict[str, int] = {}
        for peer, _ in self._open.values():
            busy[peer] = busy.get(peer, 0) + 1
        for _ in range(FLOOD_REQUESTS_PER_S * self.period_ns // 1_000_000_000):
            peer, connection = peers[self._sent % len(peers)]
            # By a count that no number of peers divides for long: every peer is sent every kind.
            kind = self._kinds[self._sent // len(peers) % len(self._kinds)]
            self._sent += 1
            if busy.get(peer, 0) >= FLOOD_OPEN_PER_PEER:
                continue
            effect = kind(peer, connection)
            size -= _length(effect)
            if size < 0:
                break
            busy[peer] = busy.get(peer, 0) + 1
            self._open[effect.token] = (peer, connection)
            sent.append(effect)
        return sent

    # Kinds of garbage

    def _adverts(self, peer: str, connection: int) -> Asking:
        # In the upper half of the slots, that its core does not use: so both kinds of rows last.
        count = max(1, min(FLOOD_ADVERTS, self._slots // 2))
        first = self._slots // 2 + int(self.rng.random() * (self._slots - self._slots // 2 - count + 1))
        entries = garbage_adverts(first, self._next_commit(), count, self.rng)
        return effects.SendUpdates(self.token(), peer, connection, entries, urgent=False)

    def _push(self, peer: str, connection: int) -> Asking:
        body = garbage_push(self._slots - 1, self._next_commit(), _PUSH_BYTES, self.rng)
        return effects.SendUpdates(self.token(), peer, connection, body, urgent=True)

    def _digest(self, peer: str, connection: int) -> Asking:
        return effects.SendDigest(self.token(), peer, connection, garbage_digest(_DIGEST_IDS, self.rng))

    def _stripes(self, peer: str, connection: int) -> Asking:
        return effects.SendStripes(self.token(), peer, connection, garbage_stripes(_STRIPES, self.rng), urgent=True)

    def _question(self, peer: str, connection: int) -> Asking:
        return effects.Fetch(self.token(), peer, connection, garbage_question(self.rng), FLOOD_TIMEOUT_S)

    def _malformed(self, peer: str, connection: int) -> Asking:
        body = garbage(_MALFORMED_BYTES, self.rng)
        return effects.SendUpdates(self.token(), peer, connection, [body], urgent=False)

    def _next_commit(self) -> int:
        self._commit += 1
        return self._commit


class ReplayingConduct(_Repeating):
    """It repeats updates and stripes byte for byte, its own and its peers', to whomever: withdrawn and expired ones too."""

    period_ns = REPLAY_PERIOD_NS

    def __init__(self, rng: AdversaryChance) -> None:
        super().__init__(rng)
        self._kept: list[tuple[bool, bytes]] = []
        """(whether it is of stripes, the body)"""

    def hears(self, request: PeerRequest) -> PeerRequest:
        """See `Conduct.hears`."""
        if isinstance(request, inputs.UpdatesReceived | inputs.StripesReceived):
            self._keep(isinstance(request, inputs.StripesReceived), request.body)
        return request

    def asks(self, effect: Asking, now: int) -> Iterable[effects.Effect]:  # noqa: ARG002 - see `Conduct`
        """See `Conduct.asks`."""
        if isinstance(effect, effects.SendUpdates | effects.SendStripes):
            self._keep(isinstance(effect, effects.SendStripes), b"".join(effect.body))
        return (effect,)

    def attack(self, now: int) -> Iterable[effects.Effect]:  # noqa: ARG002 - see `_Repeating`
        """One request once more."""
        if not self._kept:
            return ()
        stripes, body = self._kept[self._draw(len(self._kept))]
        peer, connection = list(self.peers.items())[self._draw(len(self.peers))]
        kind = effects.SendStripes if stripes else effects.SendUpdates
        return (kind(self.token(), peer, connection, [body], urgent=False),)

    def _keep(self, stripes: bool, body: bytes) -> None:
        if len(body) > REPLAYED_BYTES_MAX:
            return
        if len(self._kept) < REPLAYED_MAX:
            self._kept.append((stripes, body))
        else:
            self._kept[self._draw(REPLAYED_MAX)] = (stripes, body)

    def _draw(self, below: int) -> int:
        return int(self.rng.random() * below)


def _length(effect: Asking) -> int:
    body = b"" if isinstance(effect, effects.SendSynced) else effect.body
    return len(body) if isinstance(body, bytes) else sum(map(len, body))
