"""Who dials whom and when, and which of two connections stays. Tables and arithmetic, no I/O; `peers` and `dialer` execute them.

Either side may dial while unconnected, the lower name at once, the higher after a second or to a seed: usually one dial
per pair, and still a link when only one side can reach the other.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from heapq import heappop, heappush
from typing import Literal

import msgspec

from p2pnet.model import limits
from p2pnet.model.backoff import next_wait
from p2pnet.model.ids import member_order
from p2pnet.peering.clock import NS
from p2pnet.peering.pacing import Rate

HIGHER_WAITS_S = 1.0
"""How long the higher name leaves the dial to the lower one."""
HIGHER_WAITS_MAX_S = 10.0
"""While links keep coming up the higher name waits longer: on a busy machine the lower's dials take over a second."""
MANY_PEERS = 10
"""Wanted peers from which on the higher name waits longer."""
PER_PEER_WAITS_S = 0.02
"""Added per wanted peer from the tenth on: among many, a lower name's first dials go to others."""
REDIAL_FIRST_S = 0.2
"""Back-off after the first failed dial; it doubles with each one."""
REDIAL_MAX_S = 3.0
"""Back-off after a failed dial: doubling from the first to the second."""
SETTLED_S = 3.0
"""A link that lived as long as this starts its back-off anew when it is lost; a flapping one does not."""
DIALS_MAX = 8
"""Dials begun within SILENT_S: a mutual handshake is 4 ms of CPU, and a node that starts a hundred at once times out on most."""
SILENT_S = 2.0
"""A dial that is older waits for an answer, and costs next to nothing: peers behind a cut must not keep this node from others."""
SILENT_DIALS_MAX = 64
"""Dials in progress at a time: each holds a connection of some 100 KiB."""
CROSSED_S = limits.HANDSHAKE_S
"""Two dials can have crossed only while one may still have been in its handshake when the other's link came up."""


def no_peer(_name: str) -> bool:
    """The default `at_once`: no peer is dialled ahead of its turn."""
    return False


def is_lower(name: str, other: str) -> bool:
    """Whether `name` is the lower of the two, by (group, number): `node-9` is lower than `node-10`."""
    return member_order(name) < member_order(other)


# --- Which connection stays ---


class Candidate(msgspec.Struct, frozen=True):
    """What `choose` needs to know of a connection whose hellos are through."""

    incarnation: str
    """The peer's: one start of it."""
    ours: bool
    """Whether this node dialled it."""
    since_ns: int
    """When its hellos were through."""
    dial: str = ""
    """Names the dial that made it, the same at both ends."""
    knows: str = ""
    """The dial behind the latest link its dialler knew when it dialled."""


Choice = Literal["keep", "replace"]

CHOICES: dict[tuple[bool, bool, bool], Choice] = {
    # (same incarnation, same dialler, the dials crossed and the held one is the lower name's)
    (False, False, False): "replace",  # the peer was restarted: connections of its former incarnation are dead
    (False, False, True): "replace",
    (False, True, False): "replace",
    (False, True, True): "replace",
    (True, True, False): "replace",  # whoever dials again has lost the former one, even if we did not notice
    (True, True, True): "replace",
    (True, False, False): "replace",  # crossed and the new one is the lower name's; or dialled in view of the held one
    (True, False, True): "keep",  # both ends decide this alike, so exactly one connection is left
}


def choose(held: Candidate | None, new: Candidate, *, lower: bool) -> Choice:
    """Whether `new` replaces the connection held. `lower`: this node's name is the lower one."""
    if held is None:
        return "replace"
    # Both ends see the same facts, so both choose the same connection without asking each other.
    held_by_lower = held.ours == lower
    crossed = new.knows != held.dial and new.since_ns - held.since_ns <= CROSSED_S * NS
    return CHOICES[
        held.incarnation == new.incarnation,
        held.ours == new.ours,
        held_by_lower and crossed,
    ]


# --- When to dial ---


class DialPhase(StrEnum):
    """State of this node's effort to be connected with a wanted peer."""

    WAITING = "waiting"
    """A dial is due at a known time."""
    DIALLING = "dialling"
    LINKED = "linked"


class DialEvent(StrEnum):
    """What can happen to a wanted peer."""

    DUE = "due"
    FAILED = "failed"
    """The dial, or the hello after it, failed."""
    UP = "up"
    """A link is in use, whoever dialled."""
    DOWN = "down"
    """The link has ended and none replaces it."""


NEXT: dict[tuple[DialPhase, DialEvent], DialPhase] = {
    (DialPhase.WAITING, DialEvent.DUE): DialPhase.DIALLING,
    (DialPhase.WAITING, DialEvent.FAILED): DialPhase.WAITING,  # a dial that a link had overtaken
    (DialPhase.WAITING, DialEvent.UP): DialPhase.LINKED,
    (DialPhase.WAITING, DialEvent.DOWN): DialPhase.WAITING,
    (DialPhase.DIALLING, DialEvent.DUE): DialPhase.DIALLING,
    (DialPhase.DIALLING, DialEvent.FAILED): DialPhase.WAITING,
    (DialPhase.DIALLING, DialEvent.UP): DialPhase.LINKED,
    (DialPhase.DIALLING, DialEvent.DOWN): DialPhase.DIALLING,  # the dial in progress serves as the redial
    (DialPhase.LINKED, DialEvent.DUE): DialPhase.LINKED,
    (DialPhase.LINKED, DialEvent.FAILED): DialPhase.LINKED,
    (DialPhase.LINKED, DialEvent.UP): DialPhase.LINKED,
    (DialPhase.LINKED, DialEvent.DOWN): DialPhase.WAITING,
}


class _Wanted(msgspec.Struct):
    phase: DialPhase
    due_ns: int
    backoff_s: float = 0.0
    up_ns: int = 0
    patient_until_ns: int = 0
    """Until then this node, the higher name, may leave the dial to the peer."""
    renew: bool = False
    """A new connection is wanted although there is a link: make before break."""


class DialPolicy:
    """The peers this node wants, each in a `DialPhase`; says whom to dial now and when to ask again.

    `rng` gives numbers in [0, 1): back-offs are drawn from the upper half of their length, so that a hundred nodes
    that lost the same peer do not dial it in step. `rate` bounds the dials where addresses come from others' records;
    peers for whom `at_once` is true are dialled without leaving them the first dial.
    """

    def __init__(
        self,
        name: str,
        rng: Callable[[], float],
        *,
        rate: Rate | None = None,
        at_once: Callable[[str], bool] = no_peer,
    ) -> None:
        self._name = name
        self._rng = rng
        self._rate = rate
        self._at_once = at_once
        self._not_before_ns = 0
        self._wanted: dict[str, _Wanted] = {}
        self._heap: list[tuple[int, float, str]] = []
        self._in_progress: dict[str, int] = {}
        """Dials and when they began (ns), oldest first."""
        self._last_up_ns: int | None = None

    def want(self, names: Iterable[str], linked: Callable[[str], bool], now_ns: int) -> None:
        """These peers from now on and no others. A dial in progress to another one ends by itself."""
        keep = dict.fromkeys(names)
        for name in [name for name in self._wanted if name not in keep]:
            del self._wanted[name]
        for name in keep:
            if name in self._wanted:
                continue
            if linked(name):
                self._wanted[name] = _Wanted(DialPhase.LINKED, 0, up_ns=now_ns)
            else:
                self._wanted[name] = _Wanted(DialPhase.WAITING, 0)
                self._first_wait(name, now_ns)

    def start_due(self, now_ns: int) -> list[str]:
        """The peers to dial now, as many as may be at a time; they count as being dialled until `failed` or `up`."""
        started = []
        while self._heap and self._heap[0][0] <= now_ns:
            may_ns = self._may_start_ns()
            if may_ns is None or may_ns > now_ns:
                break
            if self._is_throttled(now_ns):
                break
            due, _, name = heappop(self._heap)
            peer = self._wanted.get(name)
            # Entries are never removed from the heap: one that is not the peer's present due time is outdated.
            if peer is None or peer.due_ns != due or (peer.phase is not DialPhase.WAITING and not peer.renew):
                continue
            if name in self._in_progress:  # the former dial has not ended yet; one at a time
                self._wait(name, REDIAL_FIRST_S, now_ns)
                continue
            if (patience := self._patience(peer, now_ns)) > 0:
                self._wait(name, patience, now_ns)
                continue
            if self._rate is not None:
                self._rate.take(now_ns)
            peer.phase = NEXT[peer.phase, DialEvent.DUE]
            self._in_progress[name] = now_ns
            started.append(name)
        return started

    def _is_throttled(self, now_ns: int) -> bool:
        self._not_before_ns = self._rate.due_ns(now_ns) if self._rate is not None else 0
        return self._not_before_ns > now_ns

    def next_wakeup(self) -> int | None:
        """When `start_due` may have something, in ns; None while nothing is due or all dials allowed are in progress."""
        may_ns = self._may_start_ns()
        if not self._heap or may_ns is None:
            return None
        return max(self._heap[0][0], self._not_before_ns, may_ns)

    def _may_start_ns(self) -> int | None:
        """From when on one more dial may be in progress; None: not before one ends."""
        count = len(self._in_progress)
        if count < DIALS_MAX:
            return 0
        if count >= SILENT_DIALS_MAX:
            return None
        return list(self._in_progress.values())[-DIALS_MAX] + int(SILENT_S * NS)

    def failed(self, name: str, now_ns: int) -> None:
        """The dial to `name` failed."""
        self._in_progress.pop(name, None)
        peer = self._wanted.get(name)
        if peer is None:
            return
        peer.phase = NEXT[peer.phase, DialEvent.FAILED]
        if peer.phase is DialPhase.WAITING or peer.renew:
            peer.backoff_s = next_wait(peer.backoff_s, REDIAL_FIRST_S, REDIAL_MAX_S)
            peer.patient_until_ns = 0  # it tried once: from here on its own back-off decides
            self._wait(name, peer.backoff_s * (0.5 + self._rng() / 2), now_ns)

    def settled(self, name: str) -> None:
        """The dial to `name` has ended with a link, its own or another one."""
        self._in_progress.pop(name, None)

    def up(self, name: str, now_ns: int) -> None:
        """A link with `name` is in use."""
        peer = self._wanted.get(name)
        if peer is not None:
            peer.phase, peer.up_ns, peer.renew = NEXT[peer.phase, DialEvent.UP], now_ns, False
            self._last_up_ns = now_ns

    def down(self, name: str, now_ns: int) -> None:
        """The link with `name` has ended, and none replaces it."""
        peer = self._wanted.get(name)
        if peer is None or peer.phase is not DialPhase.LINKED:
            return
        peer.phase = NEXT[peer.phase, DialEvent.DOWN]
        # After a short-lived link the back-off goes on where it was.
        if now_ns - peer.up_ns >= SETTLED_S * NS:
            peer.backoff_s = 0.0
        backoff_s = peer.backoff_s
        # Counts as a first failure already: a peer that drops every link at once is not dialled in a tight loop.
        peer.backoff_s = next_wait(peer.backoff_s, REDIAL_FIRST_S, REDIAL_MAX_S)
        self._first_wait(name, now_ns, backoff_s)

    def renew(self, name: str, now_ns: int) -> None:
        """Dial `name` although it is linked: this node has a new leaf, which the present connection does not carry."""
        peer = self._wanted.get(name)
        if peer is not None and peer.phase is DialPhase.LINKED and not peer.renew:
            peer.renew = True
            self._wait(name, 0.0, now_ns)

    def wants_dial(self, name: str) -> bool:
        """Whether a dial that was to be started is still called for: a link may have come up since."""
        peer = self._wanted.get(name)
        return peer is not None and (peer.phase is DialPhase.DIALLING or peer.renew)

    def phase(self, name: str) -> DialPhase | None:
        """The phase of `name`; None when it is not wanted."""
        peer = self._wanted.get(name)
        return peer.phase if peer else None

    def _first_wait(self, name: str, now_ns: int, at_least_s: float = 0.0) -> None:
        if is_lower(self._name, name) or self._at_once(name):
            self._wait(name, at_least_s, now_ns)
            return
        self._wanted[name].patient_until_ns = now_ns + int(HIGHER_WAITS_MAX_S * NS)
        extra_s = max(0, len(self._wanted) - MANY_PEERS) * PER_PEER_WAITS_S
        self._wait(name, max(at_least_s, HIGHER_WAITS_S + extra_s), now_ns)

    def _patience(self, peer: _Wanted, now_ns: int) -> float:
        """Seconds more to leave a dial to the peer: until a second after the latest link came up, within bounds."""
        if self._last_up_ns is None:
            return 0.0
        until = min(peer.patient_until_ns, self._last_up_ns + int(HIGHER_WAITS_S * NS))
        return (until - now_ns) / NS

    def _wait(self, name: str, delay_s: float, now_ns: int) -> None:
        peer = self._wanted[name]
        peer.due_ns = now_ns + int(delay_s * NS)
        # Random among peers due together: where all nodes dialled in one order, all met at the same few and took far longer.
        heappush(self._heap, (peer.due_ns, self._rng(), name))
