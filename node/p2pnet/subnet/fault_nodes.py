"""Which nodes a fault is about: by selector, by a share of all, or as parts of the subnet that are cut from each other. Pure."""

from fractions import Fraction
from hashlib import blake2b

from p2pnet.model.errors import SpecError
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.quantities import ShareText
from p2pnet.subnet.selectors import Roster
from p2pnet.subnet.spec import Subnet

REST = -1
"""Number of the part whose nodes none of a partition's selectors means."""


def victims(subnet: Subnet, fault: FaultSpec) -> list[str]:
    """The nodes that a fault acts on, in member order: those in `from`, of a partition those that are cut off by name.

    The same for everybody who knows the document: shares are drawn by `spec.seed` and the fault's name. Few of them change
    when the subnet is scaled. Raises SpecError, which names the field, where a share rounds to nobody or to everybody, or a
    partition parts nobody.
    """
    roster = Roster(subnet)
    return roster.in_order(nodes_of(roster, subnet.spec.seed, fault))


def nodes_of(roster: Roster, seed: int, fault: FaultSpec) -> frozenset[str]:
    """As `victims`, for somebody who has the roster already."""
    if fault.partition is not None:
        return frozenset(node for node, part in parts_of(roster, seed, fault).items() if part != REST)
    if fault.share is not None:
        return _drawn(roster, seed, fault.name, fault.share, "from")
    return roster.select(fault.from_)


def parts_of(roster: Roster, seed: int, fault: FaultSpec) -> dict[str, int]:
    """The number of the part of each node under a partition: of its selector, 0 for a minority, else REST. Raises SpecError."""
    partition = fault.partition
    if partition is None:
        return {}
    parts = dict.fromkeys(roster.groups, REST)
    if partition.minority is not None:
        minority = _drawn(roster, seed, fault.name, partition.minority, "partition.minority")
        return parts | dict.fromkeys(minority, 0)
    for number, selector in enumerate(partition.groups):
        where = f"partition.groups[{number}]"
        for node in roster.in_order(roster.select(selector)):
            if parts[node] != REST:
                raise SpecError(
                    f"{where}: {node} is in {partition.groups[parts[node]]!r} too: a node is in one part alone"
                )
            parts[node] = number
    if len(set(parts.values())) < 2:
        raise SpecError("partition.groups: all nodes are in one part: nothing would be cut")
    return parts


def _drawn(roster: Roster, seed: int, name: str, share: ShareText, field: str) -> frozenset[str]:
    """So many of the nodes, chosen by seed and name. Halves are rounded up."""
    nodes = list(roster.groups)
    wanted = Fraction(str(share.ratio)) * len(nodes)  # of the text's own digits: 14.5% of 100 nodes are 14.5, not less
    count = int(wanted + Fraction(1, 2))
    if not 0 < count < len(nodes):
        who, instead = ("nobody", "larger") if not count else ("everybody", "smaller")
        raise SpecError(
            f"{field}: {share} of {len(nodes)} nodes is {who} ({float(wanted):.3g} is rounded):"
            f" write a {instead} share, or a selector"
        )
    return frozenset(sorted(nodes, key=lambda node: chance(seed, name, node))[:count])


def chance(seed: int, *what: object) -> float:
    """A number between 0 and 1, as if by chance, but the same for the same arguments everywhere."""
    text = "/".join(map(str, (seed, *what)))
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / (1 << 56)
