"""Unvalidated bytes, charged to the peer that delivers them: a flooding peer uses up only its own room.

Three kinds of bytes of one peer share its limit. Bytes *kept* have arrived and wait for the client. Bytes *reserved* are of an
artifact that the peer says it holds completely: all of them at once, so that what was begun can end. Bytes *passing* are
parts from a peer that does not hold the whole itself: they may fill half of the limit, and give way to the other two.
"""

from collections.abc import Mapping

from p2pnet.model.ids import ArtifactId


class Account:
    """What one peer is charged with now, by artifact."""

    __slots__ = ("firm", "lines", "passing", "passing_bytes", "total")

    def __init__(self) -> None:
        self.firm: dict[ArtifactId, int] = {}
        """Kept or reserved."""
        self.passing: dict[ArtifactId, int] = {}
        self.passing_bytes = 0
        self.total = 0
        self.lines: tuple[dict[ArtifactId, None], dict[ArtifactId, None]] = ({}, {})
        """Artifacts that wait for room, first come first served: those to be reserved, and those whose parts would pass.
        The former do not stand behind the latter, which give way to them.
        """

    @property
    def is_waited_for(self) -> bool:
        """Somebody waits."""
        return any(self.lines)

    @property
    def is_empty(self) -> bool:
        """Nothing is charged, nobody waits."""
        return not (self.firm or self.passing or self.is_waited_for)


class Quota:
    """The accounts of all peers, `limit` bytes each."""

    __slots__ = ("_accounts", "_charged", "_relieved", "_waiting", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._accounts: dict[str, Account] = {}
        self._charged: dict[ArtifactId, dict[str, None]] = {}
        self._waiting: dict[ArtifactId, dict[str, None]] = {}
        self._relieved: dict[str, None] = {}

    def has_room(self, peer: str, size: int) -> bool:
        """Whether a whole artifact of `size` bytes may be charged to the peer. One alone always may."""
        account = self._accounts.get(peer)
        return account is None or not account.total or account.total + size <= self.limit

    def charge(self, artifact: ArtifactId, peer: str, size: int) -> None:
        """Firm bytes, in place of whatever the peer is charged for this artifact. Ask `has_room` or `reserve` first."""
        account = self._accounts.setdefault(peer, Account())
        self._clear(account, artifact)
        account.firm[artifact] = size
        account.total += size
        self._charged.setdefault(artifact, {})[peer] = None

    def reserve(self, artifact: ArtifactId, peer: str, size: int) -> list[ArtifactId] | None:
        """Room for a whole artifact: the artifacts whose passing bytes have to be given up for it (charge it once they
        are), or None when it has to wait.
        """
        account = self._accounts.setdefault(peer, Account())
        if artifact in account.firm:
            return []
        others = account.total - account.passing.get(artifact, 0)
        firm = others - (account.passing_bytes - account.passing.get(artifact, 0))
        if firm and firm + size > self.limit:
            return None
        victims: list[ArtifactId] = []
        for other, held in account.passing.items():
            if others + size <= self.limit:
                break
            if held and other != artifact and not self._is_firm_somewhere(other):
                victims.append(other)
                others -= held
        return victims if not others or others + size <= self.limit else None

    def _is_firm_somewhere(self, artifact: ArtifactId) -> bool:
        """Whether some peer sends all of it: then it will end by itself, and giving it up would help nobody."""
        return any(artifact in self._accounts[peer].firm for peer in self._charged.get(artifact, ()))

    def pass_on(self, artifact: ArtifactId, peer: str, size: int) -> bool:
        """Charge so many passing bytes more, if there is room. One artifact alone always may."""
        account = self._accounts.setdefault(peer, Account())
        if artifact in account.firm:
            return True
        others = account.total - account.passing.get(artifact, 0)
        if others and (account.total + size > self.limit or account.passing_bytes + size > self.limit // 2):
            return False
        account.passing[artifact] = account.passing.get(artifact, 0) + size
        account.passing_bytes += size
        account.total += size
        self._charged.setdefault(artifact, {})[peer] = None
        return True

    def keep_passing(self, artifact: ArtifactId, delivered: Mapping[str, int]) -> None:
        """No more of it can come for now: what has arrived, by peer, is charged as passing, and nothing is reserved."""
        for peer in list(self._charged.get(artifact, ())):
            self.shrink(artifact, peer, delivered.get(peer, 0))

    def shrink(self, artifact: ArtifactId, peer: str, size: int) -> None:
        """The same for one peer, which has delivered `size` bytes of it."""
        peers = self._charged.get(artifact, {})
        if peer not in peers:
            return
        account = self._accounts[peer]
        self._clear(account, artifact)
        if size:
            account.passing[artifact] = size
            account.passing_bytes += size
            account.total += size
        else:
            del peers[peer]
            if not peers:
                del self._charged[artifact]
        self._relieve(peer, account)

    def give_back(self, artifact: ArtifactId, peer: str, size: int) -> None:
        """Passing bytes that did not come."""
        account = self._accounts.get(peer)
        if account is not None and artifact in account.passing:
            account.passing[artifact] -= size
            account.passing_bytes -= size
            account.total -= size
            self._relieve(peer, account)

    def wait(self, artifact: ArtifactId, peer: str, *, passing: bool = False) -> None:
        """Give it out by `first_waiting` when the peer's charge has shrunk. `passing`: it has asked by `pass_on`."""
        lines = self._accounts.setdefault(peer, Account()).lines
        lines[not passing].pop(artifact, None)
        lines[passing][artifact] = None
        self._waiting.setdefault(artifact, {})[peer] = None

    def is_waited_for(self, peer: str) -> bool:
        """Whether somebody waits for room of this peer."""
        account = self._accounts.get(peer)
        return account is not None and account.is_waited_for

    def is_waiting(self, artifact: ArtifactId, peer: str) -> bool:
        """Whether it waits for room of this peer."""
        return peer in self._waiting.get(artifact, ())

    def discharge(self, artifact: ArtifactId) -> None:
        """End all charges of an artifact; it may go on waiting for room."""
        for peer in self._charged.pop(artifact, ()):
            account = self._accounts[peer]
            self._clear(account, artifact)
            self._relieve(peer, account)

    def release(self, artifact: ArtifactId) -> None:
        """End all charges of an artifact, and its waiting."""
        self.discharge(artifact)
        for peer in self._waiting.pop(artifact, ()):
            for line in self._accounts[peer].lines:
                line.pop(artifact, None)
            self._tidy(peer)

    def relieved(self) -> list[str]:
        """Peers with room for which somebody waits; each is named once."""
        if not self._relieved:
            return []
        relieved, self._relieved = list(self._relieved), {}
        return relieved

    @property
    def has_relieved(self) -> bool:
        """Somebody may try again."""
        return bool(self._relieved)

    def first_waiting(self, peer: str, *, passing: bool = False) -> ArtifactId | None:
        """Who waits longest in this line of the peer; taken off it."""
        account = self._accounts.get(peer)
        if account is None or not account.lines[passing]:
            return None
        artifact = next(iter(account.lines[passing]))
        del account.lines[passing][artifact]
        peers = self._waiting[artifact]
        del peers[peer]
        if not peers:
            del self._waiting[artifact]
        self._tidy(peer)
        return artifact

    def held(self, peer: str) -> int:
        """Bytes charged to a peer now."""
        account = self._accounts.get(peer)
        return 0 if account is None else account.total

    def charges(self) -> list[tuple[ArtifactId, str]]:
        """Every (artifact, peer) charged now."""
        return [(artifact, peer) for artifact, peers in self._charged.items() for peer in peers]

    def waiting(self) -> list[tuple[ArtifactId, str]]:
        """Every (artifact, peer) that waits now."""
        return [(artifact, peer) for artifact, peers in self._waiting.items() for peer in peers]

    def _clear(self, account: Account, artifact: ArtifactId) -> None:
        passing = account.passing.pop(artifact, 0)
        account.passing_bytes -= passing
        account.total -= passing + account.firm.pop(artifact, 0)

    def _relieve(self, peer: str, account: Account) -> None:
        if account.is_waited_for:
            self._relieved[peer] = None
        else:
            self._tidy(peer)

    def _tidy(self, peer: str) -> None:
        account = self._accounts.get(peer)
        if account is not None and account.is_empty:
            del self._accounts[peer]
