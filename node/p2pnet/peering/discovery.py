"""Who a node's peers are and where: the questions its other parts ask, whoever told it.

Two answer them: `registry.RegistryTable`, which was given a list, and `RecordTable`, which hears from the peers
themselves and takes from a list only whom to deny.
"""

from typing import Protocol

from p2pnet.model.ids import member_uri
from p2pnet.model.registry import Membership, Registry
from p2pnet.model.text import parse_address
from p2pnet.peering.records import RecordStore
from p2pnet.peering.registry import RegistryTable, in_order


class PeerDirectory(Protocol):
    """See `registry.RegistryTable` for the meaning of each."""

    @property
    def version(self) -> int:
        """Of the membership in force; 0 before the first."""

    @property
    def members(self) -> frozenset[str]:
        """Names of those known to belong."""

    @property
    def wanted(self) -> list[str]:
        """Peers this node should be connected to."""

    def offer(self, membership: Membership) -> bool:
        """Take a membership if it is newer than the one in force."""

    def name_of(self, uri: str) -> str | None:
        """The node name in a URI of exactly this subnet."""

    def refusal(self, uri: str) -> str | None:
        """Why a peer with a valid leaf is not admitted."""

    def wants(self, name: str, their_version: int) -> bool:
        """Whether a peer that says hello may become a link."""

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """Where to dial a peer."""

    def uri_of(self, name: str) -> str | None:
        """A wanted peer's URI."""


class RecordTable:
    """The book of records and the deny list as a `PeerDirectory`: a full mesh of all whose record is in force."""

    def __init__(self, name: str, trust_domain: str, namespace: str, subnet: str) -> None:
        self._name = name
        self._scope = (trust_domain, namespace, subnet)
        self._denied = RegistryTable(name, *self._scope)
        self.book = RecordStore(name, self._denied.name_of)
        self.wanted: list[str] = []

    @property
    def version(self) -> int:
        """See `PeerDirectory`."""
        return self._denied.version

    @property
    def gone(self) -> bool:
        """This node itself is removed."""
        return self._denied.gone

    @property
    def members(self) -> frozenset[str]:
        """See `PeerDirectory`: this node and whose record is in force."""
        return self.book.names | {self._name}

    def offer(self, membership: Membership) -> bool:
        """Take its version and whom it denies. Members, their addresses and edges are left unread."""
        listed = {member.uri for member in membership.registry.members}
        removed = [one for one in membership.registry.removed if one.uri not in listed]
        if not self._denied.offer(Membership(Registry(membership.registry.version, [], removed))):
            return False
        self.book.deny(one.uri for one in removed)
        self.refresh()
        return True

    def refresh(self) -> None:
        """The book has changed."""
        self.wanted = [] if self.gone else in_order(self.book.names)

    def name_of(self, uri: str) -> str | None:
        """See `PeerDirectory`."""
        return self._denied.name_of(uri)

    def refusal(self, uri: str) -> str | None:
        """See `PeerDirectory`: also who has no record yet is admitted, for a link is where records come from."""
        return self._denied.refusal(uri)

    def wants(self, name: str, their_version: int) -> bool:
        """See `PeerDirectory`."""
        return self._denied.wants(name, their_version)

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """See `PeerDirectory`: in the peer's own words."""
        record = self.book.record(name)
        parsed = (parse_address(text) for text in record.addresses) if record else ()
        return [address for address in parsed if address is not None]

    def uri_of(self, name: str) -> str | None:
        """See `PeerDirectory`."""
        return member_uri(*self._scope, name) if name in self.book.names else None
