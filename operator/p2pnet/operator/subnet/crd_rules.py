"""What the API server refuses at `kubectl apply`: those of the checks in `p2pnet.subnet.checks` that CEL can make.

| check | where it is made |
| --- | --- |
| names, keys and amounts of Kubernetes, resources, tolerations, security contexts, variables | `crd_pod_rules` |
| patterns of texts, in words | `kube.crd`, of every field that has one |
| group `node`, number of nodes, honest ones among them, size of a full mesh | here |
| degree: none in a full mesh or with edges, below the number of nodes, even ends, connected, two sides | here |
| edges with another kind, edgesFrom beside edges, configMap or file, a file at all, a node as its own peer | here |
| relay and seeds in a sparse topology, the default one beyond 50 nodes too | here |
| ttl, renewBefore, keep, within, sizes, shares: bounds of quantities, and what cert-manager wants | here |
| network and faults: bounds, fields that belong to others, kinds of faults | `crd_network_rules` |
| groups, clients and faults with one name twice | lists known by their names: the API server itself |
| edges: names that are none, a pair twice, a graph in pieces | reconcile: a graph of 10,000 edges is beyond CEL's cost |
| selectors of rules and faults that select no node | reconcile: 128 selectors against 16 groups are beyond it, too |
| settings of clients: JSON of at most 64 KiB | reconcile: what is in a free object has no bound that CEL could reckon with |
| shares and parts of faults that are nobody or everybody, churns that leave nobody | reconcile: CEL does not draw nodes |
| edges in a ConfigMap (edgesFrom) | reconcile: the API server sees one object at a time |

Messages are those of the command line, with the same values; a test compares both. Bounds of lists and strings keep the
cost within the API server's limit, which a test with a real one proves.
"""

from p2pnet.model import limits
from p2pnet.operator.kube.cel import CelRule, between, is_whole, said, seconds, size_bytes
from p2pnet.operator.subnet.crd_network_rules import NETWORK_RULES
from p2pnet.operator.subnet.crd_pod_rules import POD_RULES
from p2pnet.operator.subnet.crd_quantities import is_a
from p2pnet.subnet.checks import (
    ALL_ADVERSARIES,
    CERT_MANAGER_RENEW_MIN_S,
    CERT_MANAGER_TTL_MIN_S,
    EDGES_FILE,
    FULL_MAX,
    LEAF_TTL_MAX_S,
    LEAF_TTL_MIN_S,
    RENEWAL_SHARE_END,
    SUBNET_TTL_MAX_S,
    SUBNET_TTL_MIN_S,
)
from p2pnet.subnet.members import FULL_TO
from p2pnet.subnet.quantities import DurationText, SizeText
from p2pnet.subnet.spec import NO_PUSH_SIZE, NO_STORAGE, STORAGE_BYTES_MAX

_NODES = "(has(self.nodes) ? self.nodes : (has(self.groups) && size(self.groups) > 0 ? 0 : 3))"
_TOTAL = f"({_NODES} + (has(self.groups) ? self.groups.map(g, g.nodes).sum() : 0))"
_DISHONEST = (
    "(has(self.groups) ? self.groups.map(g, has(g.behaviour) && g.behaviour != 'honest' ? g.nodes : 0).sum() : 0)"
)
_KIND = "(has(self.kind) ? self.kind : 'full')"
_SHAPED = "has(self.topology)"
_SHAPE = "(has(self.topology.kind) ? self.topology.kind : 'full')"
_SPARSE = f"({_SHAPED} ? {_SHAPE} != 'full' : {_TOTAL} > {FULL_TO})"
_SPARSE_KIND = f"({_SHAPED} ? {_SHAPE} : 'random-regular')"
_DEGREE = f"({_SHAPED} && has(self.topology.degree))"
_REGULAR = f"({_DEGREE} && {_SHAPE} == 'random-regular')"
_NOT_AN_EDGE_KIND = f"{_KIND} == 'edges'"
_TTL = "(has(self.ttl) ? self.ttl : '7d')"
_TTL_IS_ONE = is_a(DurationText, _TTL)
_RENEW_IS_ONE = f"has(self.renewBefore) && {is_a(DurationText, 'self.renewBefore')}"

RULES: dict[tuple[str, ...], list[CelRule]] = {
    (): [
        CelRule(
            f"{_TOTAL} >= 1 && {_TOTAL} <= {limits.NODES_MAX}",
            f"a subnet has 1 to {limits.NODES_MAX} nodes in all groups", path=".nodes",
        ),
        CelRule(
            f"{_TOTAL} < 1 || {_TOTAL} > {_DISHONEST}", ALL_ADVERSARIES, path=".groups",
        ),
        CelRule(
            f"!{_SHAPED} || {_SHAPE} != 'full' || {_TOTAL} <= {FULL_MAX}",
            f"full is for up to {FULL_MAX} nodes: try random-regular", path=".topology.kind",
        ),
        CelRule(
            f"!{_DEGREE} || {_SHAPE} in ['full', 'edges'] || {_TOTAL} <= 1 || self.topology.degree < {_TOTAL}",
            "so many peers each need more nodes than there are", path=".topology.degree",
        ),
        CelRule(
            f"!{_REGULAR} || ({_TOTAL} > 1 && self.topology.degree >= {_TOTAL}) || ({_TOTAL} * self.topology.degree) % 2 == 0",
            "nodes x degree is an odd number of ends: make one of the two even", path=".topology.degree",
        ),
        CelRule(
            f"!{_REGULAR} || self.topology.degree >= 2 || {_TOTAL} <= 2 || {_TOTAL} % 2 == 1",
            "1 peer each leaves pairs: a connected graph needs at least 2", path=".topology.degree",
        ),
        CelRule(
            f"!{_SPARSE} || !has(self.broadcast) || !has(self.broadcast.relay) || self.broadcast.relay != 'none'",
            "none with a sparse topology: only a publisher's peers would get it",
            f"'none with the sparse topology ' + {_SPARSE_KIND} + ': only a publisher\\'s peers would get it'",
            ".broadcast.relay",
        ),
        CelRule(
            f"!{_SPARSE} || !has(self.broadcast) || !has(self.broadcast.relay) || self.broadcast.relay != 'scatter'",
            "scatter with a sparse topology: it needs a full mesh, where a peer's peers are everybody",
            f"'scatter with the sparse topology ' + {_SPARSE_KIND} + ': it needs a full mesh, where a peer\\'s peers are"
            " everybody'",
            ".broadcast.relay",
        ),
        CelRule(
            f"!{_SPARSE} || self.discovery.mode != 'seeds'",
            "seeds with a sparse topology: edges need the registry",
            f"'seeds with the sparse topology ' + {_SPARSE_KIND} + ': edges need the registry'", ".discovery.mode",
        ),
        *NETWORK_RULES[()],
    ],
    ("groups", "[]"): [
        CelRule("self.name != 'node'", "'node' is the group of spec.nodes; choose another name", path=".name"),
    ],
    ("topology",): [
        CelRule(
            f"{_NOT_AN_EDGE_KIND} || !has(self.edges) || size(self.edges) == 0",
            "edges belong to kind edges",
            f"'contradicts kind ' + {_KIND} + ': edges belong to kind edges'", ".edges",
        ),
        CelRule(
            f"{_NOT_AN_EDGE_KIND} || !has(self.edgesFrom)",
            "edges belong to kind edges",
            f"'contradicts kind ' + {_KIND} + ': edges belong to kind edges'", ".edgesFrom",
        ),
        CelRule(
            f"!has(self.degree) || !({_KIND} in ['full', 'edges'])",
            "a full mesh and given edges have no degree",
            f"'contradicts kind ' + {_KIND} + ', which has no degree'", ".degree",
        ),
        CelRule(
            f"!has(self.degree) || !({_KIND} in ['ring', 'small-world']) || self.degree % 2 == 0",
            "a ring and a small world have as many peers on either side: make degree even",
            f"'a ' + {_KIND} + ' has as many peers on either side: make degree even'", ".degree",
        ),
        CelRule(
            "!has(self.edges) || size(self.edges) == 0 || !has(self.edgesFrom)",
            "contradicts edges: give one of the two", path=".edgesFrom",
        ),
        CelRule(
            "!has(self.edgesFrom) || has(self.edgesFrom.configMap) != has(self.edgesFrom.file)",
            "name either a configMap or a file", path=".edgesFrom",
        ),
        CelRule("!has(self.edgesFrom) || !has(self.edgesFrom.file)", EDGES_FILE, path=".edgesFrom"),
    ],
    ("topology", "edges", "[]"): [
        CelRule("size(self) < 2 || self[0] != self[1]", "cannot be its own peer", "self[0] + ' cannot be its own peer'"),
    ],
    ("identity",): [
        CelRule(
            "(self.issuer == 'certManager') == has(self.issuerRef)",
            "belongs to issuer certManager, and certManager needs it", path=".issuerRef",
        ),
        CelRule(
            f"!({_RENEW_IS_ONE} && {_TTL_IS_ONE}) || ({seconds('self.renewBefore')} > 0.0"
            f" && {seconds('self.renewBefore')} < {seconds(_TTL)} * {RENEWAL_SHARE_END!r})",
            "more than nothing and less than ttl",
            f"self.renewBefore + ': more than nothing and less than ttl, ' + {_TTL}", ".renewBefore",
        ),
        CelRule(
            f"self.issuer != 'certManager' || !{_TTL_IS_ONE} || {seconds(_TTL)} >= {CERT_MANAGER_TTL_MIN_S}.0",
            "cert-manager issues for 1h at least", f"{_TTL} + ': cert-manager issues for 1h at least'", ".ttl",
        ),
        CelRule(
            f"self.issuer != 'certManager' || !({_RENEW_IS_ONE})"
            f" || {seconds('self.renewBefore')} >= {CERT_MANAGER_RENEW_MIN_S}.0",
            "cert-manager wants 5m at least", "self.renewBefore + ': cert-manager wants 5m at least'", ".renewBefore",
        ),
    ],
    ("identity", "ttl"): [
        CelRule(between(seconds("self"), LEAF_TTL_MIN_S, LEAF_TTL_MAX_S), "a leaf lives from 15m to 3650d",
              "self + ': a leaf lives from 15m to 3650d'"),
    ],
    ("broadcast", "artifactBytesMax"): [
        CelRule(between(size_bytes("self"), 1, limits.ARTIFACT_BYTES_MAX), "from 1B to 128Mi", "self + ': from 1B to 128Mi'"),
    ],
    ("broadcast", "keep"): [
        CelRule(between(seconds("self"), 1, 30 * 86_400), "from 1s to 30d", "self + ': from 1s to 30d'"),
    ],
    ("broadcast", "pushBelow"): [
        CelRule(
            f"type(self) == int ? self >= 0 && self <= {limits.ARTIFACT_BYTES_MAX} :"
            f" (self == 'auto' || ({is_a(SizeText, 'self')} && size(self) <= {SizeText.chars_max}"
            f" && {size_bytes('self')} <= {float(limits.ARTIFACT_BYTES_MAX)!r} && {is_whole('self')}))",
            NO_PUSH_SIZE, said("string(self)", NO_PUSH_SIZE),
        ),
    ],
    ("ready", "within"): [CelRule(between(seconds("self"), 1, 86_400), "from 1s to 1d", "self + ': from 1s to 1d'")],
    ("lab", "storage"): [
        CelRule(
            f"self == 'emptyDir' || ({is_a(SizeText, 'self')} && size(self) <= {SizeText.chars_max}"
            f" && {size_bytes('self')} > 0.0 && {size_bytes('self')} <= {float(STORAGE_BYTES_MAX)!r} && {is_whole('self')})",
            NO_STORAGE, said("self", NO_STORAGE),
        ),
    ],
    ("ttl",): [
        CelRule(between(seconds("self"), SUBNET_TTL_MIN_S, SUBNET_TTL_MAX_S), "from 1m to 3650d", "self + ': from 1m to 3650d'"),
    ],
    **{place: rules for place, rules in NETWORK_RULES.items() if place},
    **POD_RULES,
}  # fmt: skip
"""Path in the spec, `[]` for the items of a list, `{}` for the values of an object -> its checks."""
