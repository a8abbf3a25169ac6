"""Who a node's peers are and where: a `PeerDirectory`, whatever it learns from.

`RegistryDirectory` is given versioned lists (a boot file, then the lab's pushes): a certificate admits, the registry
removes, an older version never overrides a newer. `RecordDirectory` learns from the peers' signed records, and takes
from a list only whom to deny.
"""

from pathlib import Path
from typing import Protocol

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.model.ids import member_order, member_uri, node_of_uri
from p2pnet.model.registry import MEMBERSHIP_BYTES_MAX, Member, Membership, Registry
from p2pnet.model.text import parse_address
from p2pnet.peering.records import RecordStore


class PeerDirectory(Protocol):
    """The peers of one node, and where to dial them. No I/O, no clock."""

    @property
    def version(self) -> int:
        """Version of the membership in force; 0 before the first."""

    @property
    def members(self) -> frozenset[str]:
        """Names of the nodes known to belong."""

    @property
    def wanted(self) -> list[str]:
        """Peers this node should be connected to, in (group, number) order. Empty while this node itself is removed."""

    def offer(self, membership: Membership) -> bool:
        """Take a membership if it is newer than the one in force. Says whether it did."""

    def name_of(self, uri: str) -> str | None:
        """The node name in a URI of exactly this subnet, else None."""

    def refusal(self, uri: str) -> str | None:
        """Why a peer with a valid leaf for `uri` is not admitted; None admits it, also one the directory does not know."""

    def wants(self, name: str, their_version: int) -> bool:
        """Whether a peer that says hello may become a link. `their_version`: of the membership the peer has in force.

        A full mesh takes everyone admitted; in a sparse one an edge is needed; a removed node takes nobody. Unless the
        peer knows a newer membership than this node: then it may well be right, and the next version decides.
        """

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """Where to dial a peer, best first; entries that are no `host:port` are left out."""

    def uri_of(self, name: str) -> str | None:
        """A wanted peer's URI; None for a name that is not known."""


class RegistryDirectory:
    """The newest membership this node has been given, as a `PeerDirectory`."""

    def __init__(self, name: str, trust_domain: str, namespace: str, subnet: str) -> None:
        self._name = name
        self._scope = (trust_domain, namespace, subnet)
        self.membership = Membership(Registry(version=0))
        self._members: dict[str, Member] = {}
        self._removed: set[str] = set()
        self.is_removed = False
        """Whether this node itself is removed."""
        self.wanted: list[str] = []
        self._wanted: frozenset[str] = frozenset()

    @property
    def version(self) -> int:
        """See `PeerDirectory`."""
        return self.membership.registry.version

    @property
    def members(self) -> frozenset[str]:
        """See `PeerDirectory`."""
        return frozenset(self._members)

    def offer(self, membership: Membership) -> bool:
        """See `PeerDirectory`."""
        if membership.registry.version <= self.version:
            return False
        self.membership = membership
        self._members = {member.name: member for member in membership.registry.members}
        # A URI both listed and removed in one version: what the list says counts, for a newer listing ends a removal.
        listed = {member.uri for member in membership.registry.members}
        self._removed = {entry.uri for entry in membership.registry.removed} - listed
        own = self._members.get(self._name)
        self.is_removed = own is None and any(self.name_of(uri) == self._name for uri in self._removed)
        self.wanted = [] if self.is_removed else membership.wanted(self._name)
        self._wanted = frozenset(self.wanted)
        return True

    def name_of(self, uri: str) -> str | None:
        """See `PeerDirectory`."""
        return node_of_uri(uri, *self._scope)

    def refusal(self, uri: str) -> str | None:
        """See `PeerDirectory`."""
        name = self.name_of(uri)
        if name is None:
            return f"{uri or 'no name'} is no node of this subnet"
        if name == self._name:
            return f"{uri} is this node's own name"
        if uri in self._removed:
            return f"{uri} was removed from the registry"
        member = self._members.get(name)
        if member is not None and member.uri != uri:
            return f"{uri} is not the registered identity of {name}"
        return None

    def wants(self, name: str, their_version: int) -> bool:
        """See `PeerDirectory`."""
        if their_version > self.version:  # it may know of an edge that this node is still to be told of
            return True
        return not self.is_removed and (name in self._wanted or self.membership.edges is None)

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """See `PeerDirectory`."""
        member = self._members.get(name)
        parsed = (parse_address(text) for text in member.addresses) if member else ()
        return [address for address in parsed if address is not None]

    def uri_of(self, name: str) -> str | None:
        """See `PeerDirectory`."""
        member = self._members.get(name)
        return member.uri if member else None


class RecordDirectory:
    """The record store and a deny list as a `PeerDirectory`: a full mesh of all whose record is in force."""

    def __init__(self, name: str, trust_domain: str, namespace: str, subnet: str) -> None:
        self._name = name
        self._scope = (trust_domain, namespace, subnet)
        self._denied = RegistryDirectory(name, *self._scope)
        self.records = RecordStore(name, self._denied.name_of)
        self.wanted: list[str] = []

    @property
    def version(self) -> int:
        """See `PeerDirectory`."""
        return self._denied.version

    @property
    def is_removed(self) -> bool:
        """Whether this node itself is removed."""
        return self._denied.is_removed

    @property
    def members(self) -> frozenset[str]:
        """See `PeerDirectory`: this node and all whose record is in force."""
        return self.records.names | {self._name}

    def offer(self, membership: Membership) -> bool:
        """Take its version and whom it denies. Members, their addresses and edges are left unread."""
        listed = {member.uri for member in membership.registry.members}
        removed = [one for one in membership.registry.removed if one.uri not in listed]
        if not self._denied.offer(Membership(Registry(membership.registry.version, [], removed))):
            return False
        self.records.deny(one.uri for one in removed)
        self.refresh()
        return True

    def refresh(self) -> None:
        """The record store has changed."""
        self.wanted = [] if self.is_removed else in_order(self.records.names)

    def name_of(self, uri: str) -> str | None:
        """See `PeerDirectory`."""
        return self._denied.name_of(uri)

    def refusal(self, uri: str) -> str | None:
        """See `PeerDirectory`: a peer without a record is admitted too, for a link is where records come from."""
        return self._denied.refusal(uri)

    def wants(self, name: str, their_version: int) -> bool:
        """See `PeerDirectory`."""
        return self._denied.wants(name, their_version)

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """See `PeerDirectory`: as the peer's own record says."""
        record = self.records.record(name)
        parsed = (parse_address(text) for text in record.addresses) if record else ()
        return [address for address in parsed if address is not None]

    def uri_of(self, name: str) -> str | None:
        """See `PeerDirectory`."""
        return member_uri(*self._scope, name) if name in self.records.names else None


def read_membership(path: Path) -> Membership:
    """The boot copy of a node's membership: JSON. Raises SpecError naming the file."""
    try:
        data = path.read_bytes()
        if len(data) > MEMBERSHIP_BYTES_MAX:
            raise SpecError(f"{path}: the membership is larger than {MEMBERSHIP_BYTES_MAX} bytes")
        return msgspec.json.decode(data, type=Membership)
    except OSError as error:
        raise SpecError(f"{path}: cannot read the membership: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SpecError(f"{path}: not a membership: {error}") from error


def in_order(names: frozenset[str] | set[str]) -> list[str]:
    """Names by (group, number): the order people see."""
    return sorted(names, key=member_order)
