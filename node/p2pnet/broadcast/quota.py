"""The quota of unvalidated bytes, per peer: a peer that floods a node uses up only its own.

Three kinds of bytes share one peer's limit. *Kept* bytes have arrived and wait for the client. *Reserved* bytes are of an
artifact that the peer says it holds completely: all of them at once, so that a fetch that was begun can end. Both are *firm*.
*Passing* bytes are parts from a peer that does not hold the whole artifact itself: they may fill half of the limit, and give
way to firm ones, or else peers that only pass parts on would be held liable for artifacts they cannot complete.
"""

from collections.abc import Mapping

from p2pnet.model.ids import ArtifactId


class PeerQuota:
    """What one peer uses of its quota now, by artifact, and which artifacts wait for more of it."""

    __slots__ = ("firm", "lines", "passing", "passing_bytes", "total")

    def __init__(self) -> None:
        self.firm: dict[ArtifactId, int] = {}
        """Bytes kept or reserved."""
        self.passing: dict[ArtifactId, int] = {}
        """Bytes passing."""
        self.passing_bytes = 0
        self.total = 0
        """Bytes of all three kinds."""
        self.lines: tuple[dict[ArtifactId, None], dict[ArtifactId, None]] = ({}, {})
        """Artifacts that wait for quota, first come first served: for reserved bytes, and for passing ones. Two lines, for the
        former do not wait behind the latter, which give way to them."""

    @property
    def is_waited_for(self) -> bool:
        """Whether any artifact waits."""
        return any(self.lines)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is used and nothing waits."""
        return not (self.firm or self.passing or self.is_waited_for)


class Quota:
    """The quotas of all peers, `limit` bytes each."""

    __slots__ = ("_by_peer", "_relieved", "_users", "_waiting", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._by_peer: dict[str, PeerQuota] = {}
        self._users: dict[ArtifactId, dict[str, None]] = {}
        self._waiting: dict[ArtifactId, dict[str, None]] = {}
        self._relieved: dict[str, None] = {}

    def has_room(self, peer: str, size: int) -> bool:
        """Whether the peer's quota has room for a whole artifact of `size` bytes. One alone always fits, however large."""
        peer_quota = self._by_peer.get(peer)
        return peer_quota is None or not peer_quota.total or peer_quota.total + size <= self.limit

    def use(self, artifact: ArtifactId, peer: str, size: int) -> None:
        """Use firm bytes, in place of whatever the peer uses for this artifact. Call `has_room` or `reserve` before."""
        peer_quota = self._by_peer.setdefault(peer, PeerQuota())
        self._clear(peer_quota, artifact)
        peer_quota.firm[artifact] = size
        peer_quota.total += size
        self._users.setdefault(artifact, {})[peer] = None

    def reserve(self, artifact: ArtifactId, peer: str, size: int) -> list[ArtifactId] | None:
        """Whether a whole artifact fits: None when it has to wait, else the artifacts whose passing bytes must give way.

        The caller gives those up, then calls `use`.
        """
        peer_quota = self._by_peer.setdefault(peer, PeerQuota())
        if artifact in peer_quota.firm:
            return []
        others = peer_quota.total - peer_quota.passing.get(artifact, 0)
        firm = others - (peer_quota.passing_bytes - peer_quota.passing.get(artifact, 0))
        # Only passing bytes give way; firm ones end by themselves.
        if firm and firm + size > self.limit:
            return None
        victims: list[ArtifactId] = []
        for other, held in peer_quota.passing.items():
            if others + size <= self.limit:
                break
            if held and other != artifact and not self._is_firm_somewhere(other):
                victims.append(other)
                others -= held
        return victims if not others or others + size <= self.limit else None

    def _is_firm_somewhere(self, artifact: ArtifactId) -> bool:
        """Whether some peer delivers all of it: then its fetch ends by itself, and giving it up would help nobody."""
        return any(artifact in self._by_peer[peer].firm for peer in self._users.get(artifact, ()))

    def pass_on(self, artifact: ArtifactId, peer: str, size: int) -> bool:
        """Use `size` passing bytes more, if they fit; whether they do. One artifact alone always fits."""
        peer_quota = self._by_peer.setdefault(peer, PeerQuota())
        if artifact in peer_quota.firm:
            return True
        others = peer_quota.total - peer_quota.passing.get(artifact, 0)
        if others and (peer_quota.total + size > self.limit or peer_quota.passing_bytes + size > self.limit // 2):
            return False
        peer_quota.passing[artifact] = peer_quota.passing.get(artifact, 0) + size
        peer_quota.passing_bytes += size
        peer_quota.total += size
        self._users.setdefault(artifact, {})[peer] = None
        return True

    def keep_passing(self, artifact: ArtifactId, delivered: Mapping[str, int]) -> None:
        """Nothing more of it can arrive for now: keep only what each peer has delivered, as passing bytes."""
        for peer in list(self._users.get(artifact, ())):
            self.shrink(artifact, peer, delivered.get(peer, 0))

    def shrink(self, artifact: ArtifactId, peer: str, size: int) -> None:
        """As `keep_passing`, for one peer, which has delivered `size` bytes of it."""
        peers = self._users.get(artifact, {})
        if peer not in peers:
            return
        peer_quota = self._by_peer[peer]
        self._clear(peer_quota, artifact)
        if size:
            peer_quota.passing[artifact] = size
            peer_quota.passing_bytes += size
            peer_quota.total += size
        else:
            del peers[peer]
            if not peers:
                del self._users[artifact]
        self._relieve(peer, peer_quota)

    def give_back(self, artifact: ArtifactId, peer: str, size: int) -> None:
        """Return passing bytes that did not arrive."""
        peer_quota = self._by_peer.get(peer)
        if peer_quota is not None and artifact in peer_quota.passing:
            peer_quota.passing[artifact] -= size
            peer_quota.passing_bytes -= size
            peer_quota.total -= size
            self._relieve(peer, peer_quota)

    def wait(self, artifact: ArtifactId, peer: str, *, passing: bool = False) -> None:
        """Put the artifact into one of the peer's lines; `passing`: of those that `pass_on` refused. See `first_waiting`."""
        lines = self._by_peer.setdefault(peer, PeerQuota()).lines
        lines[not passing].pop(artifact, None)
        lines[passing][artifact] = None
        self._waiting.setdefault(artifact, {})[peer] = None

    def is_waited_for(self, peer: str) -> bool:
        """Whether any artifact waits for quota of this peer."""
        peer_quota = self._by_peer.get(peer)
        return peer_quota is not None and peer_quota.is_waited_for

    def is_waiting(self, artifact: ArtifactId, peer: str) -> bool:
        """Whether this artifact waits for quota of this peer."""
        return peer in self._waiting.get(artifact, ())

    def free(self, artifact: ArtifactId) -> None:
        """Return all that an artifact uses, at every peer; it may go on waiting."""
        for peer in self._users.pop(artifact, ()):
            peer_quota = self._by_peer[peer]
            self._clear(peer_quota, artifact)
            self._relieve(peer, peer_quota)

    def release(self, artifact: ArtifactId) -> None:
        """Return all that an artifact uses, at every peer, and take it off every line."""
        self.free(artifact)
        for peer in self._waiting.pop(artifact, ()):
            for line in self._by_peer[peer].lines:
                line.pop(artifact, None)
            self._tidy(peer)

    def relieved(self) -> list[str]:
        """Peers whose use has shrunk while artifacts wait for it, since the last call."""
        if not self._relieved:
            return []
        relieved, self._relieved = list(self._relieved), {}
        return relieved

    @property
    def has_relieved(self) -> bool:
        """Whether `relieved` has any."""
        return bool(self._relieved)

    def first_waiting(self, peer: str, *, passing: bool = False) -> ArtifactId | None:
        """Take the artifact that has waited longest off this line of the peer; None: nobody waits there."""
        peer_quota = self._by_peer.get(peer)
        if peer_quota is None or not peer_quota.lines[passing]:
            return None
        artifact = next(iter(peer_quota.lines[passing]))
        del peer_quota.lines[passing][artifact]
        peers = self._waiting[artifact]
        del peers[peer]
        if not peers:
            del self._waiting[artifact]
        self._tidy(peer)
        return artifact

    def held(self, peer: str) -> int:
        """Bytes a peer uses of its quota now."""
        peer_quota = self._by_peer.get(peer)
        return 0 if peer_quota is None else peer_quota.total

    def uses(self) -> list[tuple[ArtifactId, str]]:
        """Every (artifact, peer) that uses quota now."""
        return [(artifact, peer) for artifact, peers in self._users.items() for peer in peers]

    def waiting(self) -> list[tuple[ArtifactId, str]]:
        """Every (artifact, peer) that waits now."""
        return [(artifact, peer) for artifact, peers in self._waiting.items() for peer in peers]

    def _clear(self, peer_quota: PeerQuota, artifact: ArtifactId) -> None:
        passing = peer_quota.passing.pop(artifact, 0)
        peer_quota.passing_bytes -= passing
        peer_quota.total -= passing + peer_quota.firm.pop(artifact, 0)

    def _relieve(self, peer: str, peer_quota: PeerQuota) -> None:
        if peer_quota.is_waited_for:
            self._relieved[peer] = None
        else:
            self._tidy(peer)

    def _tidy(self, peer: str) -> None:
        peer_quota = self._by_peer.get(peer)
        if peer_quota is not None and peer_quota.is_empty:
            del self._by_peer[peer]
