# ruff: noqa: RUF012 - pydantic copies mutable defaults for every instance
"""The shapes of the Subnet document, field by field, with bounds and defaults. `subnet` is the door; import from there."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from p2pnet.model import limits
from p2pnet.model.behaviours import HONEST, Behaviour
from p2pnet.subnet.names import (
    ClassPath,
    ClientName,
    ConfigKey,
    Environment,
    GroupName,
    Image,
    Labels,
    Namespace,
    ObjectAnnotations,
    ObjectLabels,
    ObjectName,
    SubnetName,
    TrustDomain,
)
from p2pnet.subnet.network_spec import FaultSpec, NetworkSpec
from p2pnet.subnet.pod_spec import LocalReference, PodSpec, ResourcesSpec
from p2pnet.subnet.quantities import Document, DurationText, ShareText, SizeText, Text, check_settings, wrong

API_VERSION = "p2pnet.io/v1alpha1"
DEFAULT_GROUP = "node"
NODES_DEFAULT = 3
SIMULATED_NODES_MAX = 100_000  # a simulated subnet's bound; a live one's is limits.NODES_MAX

TopologyKind = Literal["full", "random-regular", "ring", "small-world", "edges"]


def _read_push_below(value: object) -> int | Literal["auto"]:
    """`auto`, a number of bytes, or a size with its unit; all are of user payload."""
    if value == "auto":
        return "auto"
    try:
        size = value if isinstance(value, int) and not isinstance(value, bool) else SizeText.read(value).bytes
    except PydanticCustomError:
        raise wrong(str(value), NO_PUSH_SIZE) from None
    if not 0 <= size <= limits.ARTIFACT_BYTES_MAX:
        raise wrong(str(value), NO_PUSH_SIZE)
    return size


def _check_storage(value: str) -> str:
    if value == "emptyDir":
        return value
    try:
        size = SizeText.read(value)
    except PydanticCustomError:
        raise wrong(value, NO_STORAGE) from None
    if not 0 < size.bytes <= STORAGE_BYTES_MAX:
        raise wrong(value, NO_STORAGE)
    return size


STORAGE_BYTES_MAX = 10**15  # of a volume; no provider makes a larger one
NO_PUSH_SIZE = "no size to push: write auto, 0, or a size with its unit up to 128Mi, like 4KiB"
NO_STORAGE = "no storage: write emptyDir, or a size with its unit above zero and up to 1000000GB, like 1Gi"
"""What a wrong text is told after `'5' is`, here and by an API server."""


class GroupSpec(Document):
    """Nodes alike, in addition to group `node`."""

    name: GroupName
    """The group's name, of which its nodes are named, e.g. eu for eu-0, eu-1; at most 12 characters, not node. Required."""
    nodes: Annotated[int, Field(ge=0, le=SIMULATED_NODES_MAX)]
    """Number of nodes in the group, e.g. 4. Required."""
    image: Image | None = None
    """Node image of the group, e.g. registry.example/p2pnet-node:next. Default: spec.image."""
    labels: Labels = {}
    """Words for selectors of rules and faults, e.g. {region: eu}; group and node are set by p2pnet. Default: none."""
    env: Environment = {}
    """Environment of the group's nodes, e.g. {P2PNET_LOG_LEVEL: debug}. Default: none."""
    pod: PodSpec | None = None
    """The group's pods, in the place of spec.pod as a whole, e.g. {nodeSelector: {disk: ssd}}. Default: spec.pod."""
    behaviour: Behaviour = HONEST
    """What the group's nodes do: honest, or as an adversary silent, slow, lying, withholding, forgetful, selective, flooding,
    replaying or stale-certificate, e.g. lying. Default: honest."""


class EdgesFrom(Document):
    """Where the edges stand: one `a b` a line, in a key of a ConfigMap, or in a file that the CLI inlines."""

    config_map: ObjectName | None = None
    """ConfigMap in the subnet's namespace, e.g. my-edges. Default: none."""
    key: ConfigKey = "edges"
    """Key of the ConfigMap whose text holds the edges, e.g. edges. Default: edges."""
    file: Text | None = None
    """File that the command line inlines, e.g. edges.txt. Default: none."""


class TopologySpec(Document):
    """Who should be connected to whom."""

    kind: TopologyKind = "full"
    """full, random-regular, ring, small-world or edges. Default: full to 50 nodes, else random-regular."""
    degree: Annotated[int, Field(ge=1, le=SIMULATED_NODES_MAX)] | None = None
    """Number of peers of each node, e.g. 8; nodes x degree is even. Default: 8 in random-regular, 2 in a ring, 4 in a small
    world."""
    edges: Annotated[list[Annotated[list[Text], Field(min_length=2, max_length=2)]], Field(max_length=10_000)] = []
    """With kind edges: pairs of nodes, e.g. [[node-0, node-1], [node-1, node-2]]. Default: none."""
    edges_from: EdgesFrom | None = None
    """With kind edges: where the pairs stand instead, e.g. {configMap: my-edges}. Default: none."""


class DiscoverySpec(Document):
    """How nodes learn of each other."""

    mode: Literal["registry", "seeds"] = "registry"
    """registry: every node is told all members. seeds: nodes find each other through a few addresses. Default: registry. Never
    changes."""


class IdentitySpec(Document):
    """Who vouches for nodes, and for how long."""

    trust_domain: TrustDomain = "p2pnet"
    """Trust domain of the nodes' SPIFFE ids, e.g. testing. Default: p2pnet. Never changes."""
    ttl: DurationText = DurationText("7d")
    """How long a certificate of a node lives, with its unit, 15m to 3650d, e.g. 24h. Default: 7d."""
    renew_before: DurationText | None = None
    """How long before its end a certificate is renewed, with its unit, e.g. 8h. Default: a third of ttl."""
    issuer: Literal["builtin", "certManager"] = "builtin"
    """Who issues: builtin, an authority of the subnet's own, or certManager. Default: builtin. Never changes."""
    issuer_ref: LocalReference | None = None
    """An Issuer of cert-manager in the subnet's own namespace that gives a ca.crt, e.g. {name: my-issuer}; with issuer
    certManager only. Default: none."""

    @property
    def renew_before_seconds(self) -> float:
        """How long before its end a leaf is renewed."""
        return self.ttl.seconds / 3 if self.renew_before is None else self.renew_before.seconds


class BroadcastSpec(Document):
    """Settings of the broadcast layer, the same for every client."""

    push_below: Annotated[
        int | Literal["auto"],
        PlainValidator(_read_push_below),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "string", "pattern": f"^auto$|{SizeText.pattern}", "maxLength": SizeText.chars_max},
                ]
            }
        ),
    ] = "auto"
    """Bytes of user payload, or a size with its unit, e.g. 4KiB: a smaller artifact is pushed inside its update; 0 pushes
    nothing. Default: auto, which is one part (64 KiB) and less in a full mesh; in a sparse topology less than 1 KiB, and less
    than 16 KiB to peers that needed the publisher's last ones."""
    relay: Literal["none", "auto", "advert", "push", "scatter"] = "auto"
    """Whether and how nodes pass on what they got: none, auto, advert, push, or scatter, by which a publisher in a full mesh
    deals what is above 16 KiB out in stripes that its peers pass on. Default: auto."""
    slots_per_peer: Annotated[int, Field(ge=1, le=100_000)] = limits.SLOTS_PER_PEER
    """Number of slots, so of artifacts that live at a time, for each peer and client, e.g. 1000. Default: 10000."""
    artifact_bytes_max: SizeText = SizeText("128Mi")
    """The largest artifact, a size with its unit, 1B to 128Mi, e.g. 16MiB. Default: 128Mi."""
    keep: DurationText = DurationText("10m")
    """How long a blob lives after its creation, with its unit, 1s to 30d, e.g. 1h. Default: 10m."""

    @property
    def push_below_bytes(self) -> int | None:
        """As a node is told; None: auto."""
        return None if self.push_below == "auto" else self.push_below


class ClientSpec(Document):
    """A client of the broadcast: one of ours, or of the entry point group `p2pnet.clients`, by its name; or a `class`."""

    name: ClientName
    """The client's name, e.g. blob. Required."""
    class_: Annotated[ClassPath | None, Field(alias="class")] = None
    """Module and class of one's own, e.g. chat:Chat. Default: the class that is known by the name."""
    settings: Annotated[dict[Text, Any], Field(max_length=64), AfterValidator(check_settings)] = {}
    """JSON values, handed to the class as keyword arguments, e.g. {threshold: 4}. Default: none."""


class ReadySpec(Document):
    """When `up` calls the subnet ready: this share of edges up, within this time."""

    connected: ShareText = ShareText("100%")
    """Share of edges that are up, e.g. 95%. Default: 100%."""
    within: DurationText = DurationText("120s")
    """Time for it, with its unit, 1s to 1d, e.g. 5m. Default: 120s."""


class LabSpec(Document):
    """The lab's pod; the cluster targets only."""

    storage: Annotated[Text, AfterValidator(_check_storage)] = "emptyDir"
    """Where runs are kept: emptyDir, or the size of a claim with its unit, e.g. 1Gi. Default: emptyDir."""
    resources: ResourcesSpec = ResourcesSpec()
    """Requests and limits of the lab's pod, e.g. {requests: {cpu: 200m}}. Default: 100m and 64Mi."""


def _default_nodes(validated: dict[str, Any]) -> int:
    return 0 if validated.get("groups") else NODES_DEFAULT


class Spec(Document):
    """What is wanted."""

    groups: Annotated[list[GroupSpec], Field(max_length=16)] = []
    """Nodes in addition to group node, e.g. [{name: eu, nodes: 4, labels: {region: eu}}]; at most 500 nodes in all. Default:
    none."""
    nodes: Annotated[int, Field(default_factory=_default_nodes, ge=0, le=SIMULATED_NODES_MAX)]
    """Number of nodes of group node, which kubectl scale changes, e.g. 20. Default: 3, or 0 when groups are given."""
    image: Image | None = None
    """Image of nodes and lab, e.g. registry.example/p2pnet-node:1. Default: the published one of the operator's version."""
    topology: TopologySpec | None = None
    """Who should be connected to whom, e.g. {kind: random-regular, degree: 8}. Default: a full mesh to 50 nodes, else
    random-regular of degree 8."""
    discovery: DiscoverySpec = DiscoverySpec()
    """How nodes learn of each other, e.g. {mode: seeds}. Default: {mode: registry}."""
    identity: IdentitySpec = IdentitySpec()
    """Who vouches for nodes, and for how long, e.g. {ttl: 24h}. Default: an authority of the subnet's own, for 7d."""
    broadcast: BroadcastSpec = BroadcastSpec()
    """Settings of the broadcast layer, e.g. {keep: 1h}. Default: as its fields say."""
    clients: Annotated[list[ClientSpec], Field(min_length=1, max_length=8)] = [ClientSpec(name="blob")]
    """The clients of every node, e.g. [{name: blob}, {name: chat, class: "chat:Chat"}]. Default: [{name: blob}]."""
    network: NetworkSpec = NetworkSpec()
    """What the links of a healthy subnet do, e.g. {default: {latency: 10ms}}. Default: nothing."""
    faults: Annotated[list[FaultSpec], Field(max_length=64)] = []
    """What is wrong with links and nodes, e.g. [{name: cut, from: node-0, block: true}]. Default: nothing."""
    ready: ReadySpec = ReadySpec()
    """When the subnet counts as connected, e.g. {connected: 95%}. Default: {connected: 100%, within: 120s}."""
    nodes_per_pod: Annotated[int, Field(ge=1, le=100)] = 1
    """Number of nodes that share a pod, or a process on one machine, e.g. 5. Default: 1. Never changes."""
    pod: PodSpec = PodSpec()
    """What of the pods is the user's business, e.g. {nodeSelector: {disk: ssd}}; the lab's pod too, but for resources. Default:
    restricted pods without extras."""
    lab: LabSpec = LabSpec()
    """The lab's pod, e.g. {storage: 1Gi}. Default: {storage: emptyDir}."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 42
    """Number from which topology and choices are drawn, e.g. 7. Default: 42. Never changes."""
    ttl: DurationText | None = None
    """How long the subnet lives from its creation on, with its unit, 1m to 3650d, e.g. 2h. Default: until it is deleted."""


_SERVER_SIDE = frozenset(
    (
        "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
        "managedFields", "selfLink", "ownerReferences", "finalizers",
    )
)  # fmt: skip
"""What an API server adds to metadata: what `kubectl get -o yaml` prints must be readable again."""


class Metadata(Document):
    """Name, and what Kubernetes keeps beside it. Fields an API server writes are left out."""

    name: SubnetName
    """The subnet's name, at most 40 characters, e.g. demo. Required."""
    namespace: Namespace | None = None
    """The namespace it is for, in a cluster, e.g. testing. Default: that of the command line or the context."""
    labels: ObjectLabels = {}
    """Labels of the object, e.g. {team: p2p}. Default: none."""
    annotations: ObjectAnnotations = {}
    """Annotations of the object, e.g. {p2pnet.io/paused: "true"}. Default: none."""

    @model_validator(mode="before")
    @classmethod
    def _without_server_side(cls, value: object) -> object:
        return {k: v for k, v in value.items() if k not in _SERVER_SIDE} if isinstance(value, Mapping) else value


class Subnet(Document):
    """One subnet: `apiVersion`, `kind`, `metadata`, `spec`; a `status` is not read."""

    api_version: Literal["p2pnet.io/v1alpha1"]
    kind: Literal["Subnet"]
    metadata: Metadata
    spec: Annotated[Spec, Field(default_factory=lambda: Spec.model_validate({}))]

    @model_validator(mode="before")
    @classmethod
    def _without_status(cls, value: object) -> object:
        return {k: v for k, v in value.items() if k != "status"} if isinstance(value, Mapping) else value

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name

    @property
    def node_count(self) -> int:
        """Nodes of all groups."""
        return self.spec.nodes + sum(group.nodes for group in self.spec.groups)
