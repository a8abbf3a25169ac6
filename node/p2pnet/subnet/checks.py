"""What the shapes of the Subnet document cannot say: its contradictions. Pure."""

from collections.abc import Iterator

from p2pnet.model import limits
from p2pnet.subnet.members import TopologyPlan, adversaries, members, topology_of
from p2pnet.subnet.mistakes import Mistake, twice
from p2pnet.subnet.network_checks import fault_list_mistakes, network_mistakes
from p2pnet.subnet.pod_checks import pod_mistakes
from p2pnet.subnet.spec import DEFAULT_GROUP, Spec, Subnet

FULL_MAX = (
    200  # live nodes a full mesh may have: 19,900 links are minutes of handshakes, and every node pings 199 peers
)
ALL_ADVERSARIES = "all nodes are adversaries: nobody is left to be reached; let a group, or spec.nodes, be honest"
FULL_SIMULATED_MAX = 1_000
CERT_MANAGER_TTL_MIN_S = 3600  # both are cert-manager's own bounds: its webhook refuses less
CERT_MANAGER_RENEW_MIN_S = 5 * 60
LEAF_TTL_MIN_S = 15 * 60  # a shorter leaf would be renewed all the time, and clocks differ by minutes
LEAF_TTL_MAX_S = 3650 * 86_400
RENEWAL_SHARE_END = 1 - 1e-9  # of ttl; nearer to it an API server, which reckons in doubles, may see the same time
SUBNET_TTL_MIN_S = 60
SUBNET_TTL_MAX_S = 3650 * 86_400  # a date that calendars and clocks know
EDGES_FILE = "only the command line reads a file, as p2pnet up does; for kubectl name a configMap"
OWN_LABELS = ("group", "node")
OWN_LABEL = "set by p2pnet: choose another label"


def contradictions(subnet: Subnet, nodes_max: int) -> list[Mistake]:
    """Every contradiction of a document whose shapes are right, in document order."""
    spec = subnet.spec
    return [
        *_groups(subnet, nodes_max),
        *_topology(subnet, FULL_MAX if nodes_max <= limits.NODES_MAX else FULL_SIMULATED_MAX),
        *_sparse(subnet),
        *_identity(spec),
        *_broadcast(spec),
        *twice("spec.clients", (client.name for client in spec.clients)),
        *network_mistakes(subnet),
        *fault_list_mistakes(subnet),
        *_times(spec),
        *pod_mistakes(spec),
    ]


def _groups(subnet: Subnet, nodes_max: int) -> Iterator[Mistake]:
    groups = subnet.spec.groups
    yield from twice("spec.groups", (group.name for group in groups))
    for index, group in enumerate(groups):
        if group.name == DEFAULT_GROUP:
            yield f"spec.groups[{index}].name", f"{DEFAULT_GROUP!r} is the group of spec.nodes; choose another name"
        for key in OWN_LABELS:
            if key in group.labels:
                yield f"spec.groups[{index}].labels", f"{key!r} is {OWN_LABEL}"
    if not 1 <= subnet.node_count <= nodes_max:
        yield "spec.nodes", f"{subnet.node_count} nodes: a subnet has 1 to {nodes_max} nodes in all groups"
    elif subnet.node_count == sum(len(one.nodes) for one in adversaries(subnet)):
        yield "spec.groups", ALL_ADVERSARIES


def _topology(subnet: Subnet, full_max: int) -> Iterator[Mistake]:
    written = subnet.spec.topology
    plan = topology_of(subnet)
    if written is None:
        return
    if plan.full and subnet.node_count > full_max:
        yield (
            "spec.topology.kind",
            f"full is for up to {full_max} nodes: try random-regular; here are {subnet.node_count}",
        )
    if written.degree is not None:
        yield from _degree(plan, subnet.node_count)
    if plan.kind != "edges":
        for path, given in (("edges", written.edges), ("edgesFrom", written.edges_from)):
            if given:
                yield f"spec.topology.{path}", f"contradicts kind {plan.kind}: edges belong to kind edges"
        return
    if written.edges_from is not None:
        if bool(written.edges_from.config_map) == bool(written.edges_from.file):
            yield "spec.topology.edgesFrom", "name either a configMap or a file"
        if written.edges:
            yield "spec.topology.edgesFrom", "contradicts edges: give one of the two"
        return
    yield from _edges(plan.edges, [name for name, _ in members(subnet)])


def _degree(plan: TopologyPlan, count: int) -> Iterator[Mistake]:
    path, degree = "spec.topology.degree", plan.degree
    if plan.kind in {"full", "edges"}:
        yield path, f"contradicts kind {plan.kind}, which has no degree"
    elif degree >= count > 1:
        yield path, f"so many peers each need more nodes than there are: {degree} peers, {count} nodes"
    elif plan.kind == "random-regular":
        if count * degree % 2:
            yield path, f"nodes x degree is an odd number of ends: make one of the two even ({count} x {degree})"
        elif degree < 2 < count:
            yield path, "1 peer each leaves pairs: a connected graph needs at least 2"
    elif degree % 2:
        yield path, f"a {plan.kind} has as many peers on either side: make degree even, {degree} is odd"


def _edges(edges: list[tuple[str, str]], names: list[str]) -> Iterator[Mistake]:
    known, seen = set(names), set()
    leader = {name: name for name in names}  # union-find, to see whether all hang together

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    for index, (a, b) in enumerate(edges):
        path = f"spec.topology.edges[{index}]"
        unknown = [name for name in (a, b) if name not in known]
        if unknown:
            yield path, f"no node is named {' or '.join(map(repr, unknown))}"
        elif a == b:
            yield path, f"{a} cannot be its own peer"
        elif frozenset((a, b)) in seen:
            yield path, f"{a} and {b} are connected twice"
        else:
            seen.add(frozenset((a, b)))
            leader[find(a)] = find(b)
    apart = [name for name in names[1:] if find(name) != find(names[0])]
    if apart:
        yield "spec.topology.edges", f"leave the subnet in pieces: no path from {names[0]} to {apart[0]}"


def _sparse(subnet: Subnet) -> Iterator[Mistake]:
    plan = topology_of(subnet)
    if plan.full:
        return
    if subnet.spec.broadcast.relay == "none":
        yield (
            "spec.broadcast.relay",
            f"none with the sparse topology {plan.kind}: only a publisher's peers would get it",
        )
    if subnet.spec.broadcast.relay == "scatter":
        yield (
            "spec.broadcast.relay",
            f"scatter with the sparse topology {plan.kind}: it needs a full mesh, where a peer's peers are everybody",
        )
    if subnet.spec.discovery.mode == "seeds":
        yield "spec.discovery.mode", f"seeds with the sparse topology {plan.kind}: edges need the registry"


def _identity(spec: Spec) -> Iterator[Mistake]:
    identity = spec.identity
    if not LEAF_TTL_MIN_S <= identity.ttl.seconds <= LEAF_TTL_MAX_S:
        yield "spec.identity.ttl", f"{identity.ttl}: a leaf lives from 15m to 3650d"
    latest_s = identity.ttl.seconds * RENEWAL_SHARE_END
    if identity.renew_before is not None and not 0 < identity.renew_before.seconds < latest_s:
        yield (
            "spec.identity.renewBefore",
            f"{identity.renew_before}: more than nothing and less than ttl, {identity.ttl}",
        )
    if (identity.issuer == "certManager") != (identity.issuer_ref is not None):
        yield "spec.identity.issuerRef", "belongs to issuer certManager, and certManager needs it"
    if identity.issuer == "certManager":
        if identity.ttl.seconds < CERT_MANAGER_TTL_MIN_S:
            yield "spec.identity.ttl", f"{identity.ttl}: cert-manager issues for 1h at least"
        if identity.renew_before_seconds < CERT_MANAGER_RENEW_MIN_S:
            yield "spec.identity.renewBefore", f"{identity.renew_before}: cert-manager wants 5m at least"


def _broadcast(spec: Spec) -> Iterator[Mistake]:
    settings = spec.broadcast
    if not 1 <= settings.artifact_bytes_max.bytes <= limits.ARTIFACT_BYTES_MAX:
        yield "spec.broadcast.artifactBytesMax", f"{settings.artifact_bytes_max}: from 1B to 128Mi"
    if not 1 <= settings.keep.seconds <= 30 * 86_400:
        yield "spec.broadcast.keep", f"{settings.keep}: from 1s to 30d"


def _times(spec: Spec) -> Iterator[Mistake]:
    if not 1 <= spec.ready.within.seconds <= 86_400:
        yield "spec.ready.within", f"{spec.ready.within}: from 1s to 1d"
    if spec.ttl is not None and not SUBNET_TTL_MIN_S <= spec.ttl.seconds <= SUBNET_TTL_MAX_S:
        yield "spec.ttl", f"{spec.ttl}: from 1m to 3650d"
