"""Who belongs, as one node sees it. A certificate admits, the registry removes; an older version never overrides a newer."""

from pathlib import Path

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.model.ids import member_order, node_of_uri
from p2pnet.model.registry import MEMBERSHIP_BYTES_MAX, Member, Membership, Registry
from p2pnet.model.text import parse_address


class RegistryTable:
    """The newest membership this node has been given, and the questions asked of it. No I/O, no clock."""

    def __init__(self, name: str, trust_domain: str, namespace: str, subnet: str) -> None:
        self._name = name
        self._scope = (trust_domain, namespace, subnet)
        self.membership = Membership(Registry(version=0))
        self._members: dict[str, Member] = {}
        self._removed: set[str] = set()
        self.gone = False
        """This node itself is removed."""
        self.wanted: list[str] = []
        """Peers this node should be connected to, in registry order. Empty while this node itself is removed."""
        self._wanted: frozenset[str] = frozenset()

    @property
    def version(self) -> int:
        """Of the registry in force; 0 before the first."""
        return self.membership.registry.version

    @property
    def members(self) -> frozenset[str]:
        """Names of the registry's members."""
        return frozenset(self._members)

    def offer(self, membership: Membership) -> bool:
        """Take a membership unless it is older than, or the same version as, the one in force. Says whether it did."""
        if membership.registry.version <= self.version:
            return False
        self.membership = membership
        self._members = {member.name: member for member in membership.registry.members}
        # A URI both listed and removed in one version: what the list says counts, for a newer listing ends a removal.
        listed = {member.uri for member in membership.registry.members}
        self._removed = {entry.uri for entry in membership.registry.removed} - listed
        own = self._members.get(self._name)
        self.gone = own is None and any(self.name_of(uri) == self._name for uri in self._removed)
        self.wanted = [] if self.gone else membership.wanted(self._name)
        self._wanted = frozenset(self.wanted)
        return True

    def name_of(self, uri: str) -> str | None:
        """The node name in a URI of exactly this subnet, else None."""
        return node_of_uri(uri, *self._scope)

    def refusal(self, uri: str) -> str | None:
        """Why a peer with a valid leaf for `uri` is not admitted; None admits it, also one the registry does not know."""
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
        """Whether a peer that says hello may become a link.

        A full mesh takes everyone admitted; in a sparse one an edge is needed; a removed node takes nobody. Unless the
        peer knows a newer registry than this node: then it may well be right, and the next version decides.
        """
        if their_version > self.version:
            return True
        return not self.gone and (name in self._wanted or self.membership.edges is None)

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """Where to dial a member; entries that are no `host:port` are left out."""
        member = self._members.get(name)
        parsed = (parse_address(text) for text in member.addresses) if member else ()
        return [address for address in parsed if address is not None]

    def uri_of(self, name: str) -> str | None:
        """A member's URI, None for a name the registry does not have."""
        member = self._members.get(name)
        return member.uri if member else None


def read_membership(path: Path) -> Membership:
    """The boot copy. Raises SpecError naming the file."""
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
