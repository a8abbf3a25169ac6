"""Who belongs to a subnet, and who is connected to whom: members, packs, topology, edges, versions of the registry."""

from collections import Counter
from typing import NamedTuple

from p2pnet import topology
from p2pnet.model.behaviours import HONEST, STALE_CERTIFICATE, AdversaryGroup, Behaviour
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import member_name, member_order
from p2pnet.model.registry import Member, Membership, Registry, Removed
from p2pnet.model.text import some
from p2pnet.subnet.spec import DEFAULT_GROUP, Subnet, TopologyKind, TopologySpec

FULL_TO = 50  # nodes up to which the default topology is a full mesh
DEGREE_DEFAULT = {"random-regular": 8, "ring": 2, "small-world": 4}
REMOVED_MAX = 2_000  # the newest stay listed; an older one's leaf has ended and its process is long gone

Edge = tuple[str, str]


class TopologyPlan(NamedTuple):
    """A topology with its defaults filled in, as `p2pnet.topology.edges` takes it."""

    kind: TopologyKind
    degree: int
    edges: list[Edge]

    @property
    def full(self) -> bool:
        """Every node is every node's peer."""
        return self.kind == "full"


def members(subnet: Subnet) -> list[tuple[str, str]]:
    """(name, group) of every member, ordered by (group, i)."""
    sizes = {DEFAULT_GROUP: subnet.spec.nodes, **{group.name: group.nodes for group in subnet.spec.groups}}
    named = [(member_name(group, index), group) for group, size in sizes.items() for index in range(size)]
    return sorted(named, key=lambda member: member_order(member[0]))


def behaviour_of(subnet: Subnet, group: str) -> Behaviour:
    """What the nodes of a group do."""
    return next((one.behaviour for one in subnet.spec.groups if one.name == group), HONEST)


def adversaries(subnet: Subnet) -> list[AdversaryGroup]:
    """The groups with nodes that do not behave, in the document's order."""
    return [
        AdversaryGroup(group.name, group.behaviour, [member_name(group.name, index) for index in range(group.nodes)])
        for group in subnet.spec.groups
        if group.behaviour != HONEST and group.nodes
    ]


def behaviours_of(subnet: Subnet) -> dict[str, Behaviour]:
    """What nodes do that are not honest, by name."""
    return {name: group.behaviour for group in adversaries(subnet) for name in group.nodes}


def refused_everywhere(subnet: Subnet) -> frozenset[str]:
    """The nodes that every peer refuses, because they show a certificate that has ended: no link of theirs comes up."""
    return frozenset(name for name, behaviour in behaviours_of(subnet).items() if behaviour == STALE_CERTIFICATE)


def pack_of(subnet: Subnet, node: str) -> str:
    """The process (in a cluster: the pod, without the subnet's name) that runs a node: its group and a number there."""
    group, index = member_order(node)
    return f"{group}-{index // subnet.spec.nodes_per_pod}"


def process_count(subnet: Subnet) -> int:
    """How many processes (pods) run the nodes: a pack holds nodes of one group."""
    groups = Counter(group for _, group in members(subnet))
    return sum(-(-size // subnet.spec.nodes_per_pod) for size in groups.values())


def topology_of(subnet: Subnet) -> TopologyPlan:
    """The topology meant: full to 50 nodes and random-regular above when none is given; a kind's default degree.

    A default degree that so few nodes cannot have is one they can: all others.
    """
    written = subnet.spec.topology
    if written is None:
        written = TopologySpec(kind="full" if subnet.node_count <= FULL_TO else "random-regular")
    others = max(1, subnet.node_count - 1)
    degree = written.degree or min(DEGREE_DEFAULT.get(written.kind, others), others)
    return TopologyPlan(written.kind, degree, [(a, b) for a, b in written.edges])


def edges_of(subnet: Subnet) -> list[Edge] | None:
    """The edges a document asks for; None for a full mesh. Raises SpecError for a graph that cannot be."""
    plan = topology_of(subnet)
    names = [name for name, _ in members(subnet)]
    return topology.edges(plan.kind, names, degree=plan.degree, seed=subnet.spec.seed, extra_edges=plan.edges)


def cut_off(subnet: Subnet) -> list[str]:
    """The honest nodes that only adversaries link with most of the honest ones, in member order; [] in a full mesh."""
    dishonest = behaviours_of(subnet)
    edges = edges_of(subnet) if dishonest else None
    if not edges:  # a full mesh, or edges that stand elsewhere
        return []
    honest = [name for name, _ in members(subnet) if name not in dishonest]
    peers: dict[str, list[str]] = {name: [] for name in honest}
    for a, b in edges:
        if a in peers and b in peers:
            peers[a].append(b)
            peers[b].append(a)
    pieces: list[set[str]] = []
    for name in honest:
        if any(name in piece for piece in pieces):
            continue
        piece, walk = {name}, [name]
        for one in walk:  # grows while it is walked
            new = [peer for peer in dict.fromkeys(peers[one]) if peer not in piece]
            piece.update(new)
            walk += new
        pieces.append(piece)
    most = max(pieces, key=len)
    return [name for name in honest if name not in most]


def cut_off_notes(subnet: Subnet) -> list[str]:
    """What to say beside a report where the promise does not cover all honest nodes; [] where it does."""
    apart = cut_off(subnet)
    if not apart:
        return []
    verb = "is" if len(apart) == 1 else "are"
    return [
        f"{some(apart)} {verb} linked with the other honest nodes through adversaries only: nothing is promised there"
    ]


def edge_count(subnet: Subnet) -> int:
    """How many edges the document asks for."""
    count, plan = subnet.node_count, topology_of(subnet)
    if plan.full:
        return count * (count - 1) // 2
    return len(plan.edges) if plan.kind == "edges" else count * min(plan.degree, count - 1) // 2


def parse_edges(text: str, where: str) -> list[list[str]]:
    """The edges in a file or ConfigMap key: `a b` a line, `#` begins a comment. Raises SpecError naming `where` and line."""
    edges = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if words and len(words) != 2:
            raise SpecError(
                f"spec.topology.edgesFrom: {where} line {number} is no edge: {line.strip()[:60]!r};"
                " write two nodes a line, like node-0 node-1"
            )
        if words:
            edges.append(words)
    return edges


def next_membership(
    listed: list[Member], edges: list[Edge] | None, before: Membership | None, version_min: int = 0
) -> Membership:
    """The member list of a document: `before` where it says the same, else a version above it and above `version_min`.

    It also says who was removed, and at which version, for a node goes on admitting whoever it does not know. A version
    never goes back: `version_min` is the newest that anybody is known to have seen.
    """
    version = max(version_min, before.registry.version if before else 0)
    if before is not None and (before.registry.version, before.registry.members, before.edges) == (
        version,
        listed,
        edges,
    ):
        return before
    version += 1
    uris = {member.uri for member in listed}
    gone = {one.uri: one for one in (before.registry.removed if before else [])}
    gone |= {one.uri: Removed(one.uri, version) for one in (before.registry.members if before else [])}
    removed = sorted((one for one in gone.values() if one.uri not in uris), key=lambda one: one.version)
    return Membership(Registry(version, listed, removed[-REMOVED_MAX:]), edges)
