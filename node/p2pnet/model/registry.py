"""The registry (who belongs to a subnet) and the edges of its topology. Written by lab or operator, read by nodes."""

from collections.abc import Collection

import msgspec

from p2pnet.model import limits


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member of the registry. `addresses` are `host:port`, the first is dialled first."""

    name: str
    uri: str
    addresses: list[str] = []


class Removed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A URI refused until a newer version lists it again; `version` is the one that removed it."""

    uri: str
    version: int


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The versioned list of members. An older version never overrides a newer one."""

    version: int
    members: list[Member] = []
    removed: list[Removed] = []


class Membership(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Registry and edges together: a node's boot copy, and what the lab pushes to nodes.

    `edges` None means a full mesh: every member is a wanted peer of every other.
    """

    registry: Registry
    edges: list[tuple[str, str]] | None = None

    def wanted(self, name: str) -> list[str]:
        """The peers that the node `name` should be connected to, in registry order."""
        names = [member.name for member in self.registry.members]
        if self.edges is None:
            return [other for other in names if other != name]
        mine = {b if a == name else a for a, b in self.edges if name in (a, b)}
        return [other for other in names if other in mine]

    def all_wanted(self, apart: Collection[str] = ()) -> dict[str, list[str]]:
        """`wanted` of every member, in one pass. `apart`: members with whom no link can come up, wanted as it may be."""
        if apart:
            all_wanted = self.all_wanted().items()
            return {a: [] if a in apart else [b for b in peers if b not in apart] for a, peers in all_wanted}
        if self.edges is None:
            names = [member.name for member in self.registry.members]
            return {name: [other for other in names if other != name] for name in names}
        order = {member.name: place for place, member in enumerate(self.registry.members)}
        peers: dict[str, set[str]] = {name: set() for name in order}
        for a, b in self.edges:
            if a in order and b in order and a != b:
                peers[a].add(b)
                peers[b].add(a)
        return {name: sorted(mine, key=order.__getitem__) for name, mine in peers.items()}

    def edge_count(self) -> int:
        """Number of wanted edges between current members."""
        names = {member.name for member in self.registry.members}
        if self.edges is None:
            return len(names) * (len(names) - 1) // 2
        return sum(a in names and b in names for a, b in self.edges)


MEMBERSHIP_BYTES_MAX = 8 * limits.MIB  # 500 members and 10,000 edges fit twenty times
