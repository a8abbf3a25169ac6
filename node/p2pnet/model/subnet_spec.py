# ruff: noqa: RUF012 - pydantic copies mutable defaults for every instance
"""The shapes of the Subnet document, field by field, with bounds and defaults. `subnet` is the door; import from there."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from p2pnet.model import limits
from p2pnet.model.ids import CLIENT_NAME, GROUP_NAME, SUBNET_NAME
from p2pnet.model.subnet_units import Bandwidth, Document, Duration, Share, Size, check_settings

API_VERSION = "p2pnet.io/v1alpha1"
DEFAULT_GROUP = "node"
NODES_DEFAULT = 3
SIMULATED_NODES_MAX = 100_000  # a simulated subnet's bound; a live one's is limits.NODES_MAX

Text = Annotated[str, Field(max_length=limits.NAME_CHARS_MAX)]
Labels = Annotated[dict[Text, Text], Field(max_length=32)]
TopologyKind = Literal["full", "random-regular", "ring", "small-world", "edges"]
Behaviour = Literal["honest", "silent", "slow", "eclipse", "equivocating", "replaying", "bad-cert"]


def _read_push_below(value: object) -> int | Literal["auto"]:
    """`auto`, a number of bytes, or a size with its unit; all are of user payload."""
    if value == "auto":
        return "auto"
    size = value if isinstance(value, int) and not isinstance(value, bool) else Size.read(value).bytes
    if not 0 <= size <= limits.ARTIFACT_BYTES_MAX:
        raise PydanticCustomError("push_below", "write auto, or a size between 0 and 128Mi")
    return size


def _check_amount(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PydanticCustomError("amount", "write an amount as Kubernetes does, like 500m or 64Mi")
    return value


def _check_storage(value: str) -> str:
    return value if value == "emptyDir" else Size.read(value)


_CODE = "Python modules and wheels that nodes can import beside those of their image: the classes of clients."
_ISSUER_REF = (
    "An Issuer of cert-manager in the subnet's own namespace that gives a ca.crt; with issuer certManager only."
)

Amount = Annotated[Any, AfterValidator(_check_amount), WithJsonSchema({"x-kubernetes-int-or-string": True})]


class Resources(Document):
    """Kubernetes resource requests and limits."""

    requests: Annotated[dict[Text, Amount], Field(max_length=16)] = {}
    limits: Annotated[dict[Text, Amount], Field(max_length=16)] = {}


class LocalReference(Document):
    """The name of an object in the subnet's own namespace."""

    name: Text


class ConfigMapReference(Document):
    """The name of a ConfigMap in the subnet's own namespace."""

    config_map: Text


class Pod(Document):
    """What of a pod is the user's business; the cluster targets only."""

    resources: Resources = Resources()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=16)] = []
    code: Annotated[ConfigMapReference | None, Field(description=_CODE)] = None
    node_selector: Labels = {}
    tolerations: Annotated[list[dict[str, Any]], Field(max_length=16)] = []


class Group(Document):
    """Nodes alike, in addition to group `node`."""

    name: Annotated[str, Field(pattern=f"^{GROUP_NAME.pattern}$")]
    nodes: Annotated[int, Field(ge=0, le=SIMULATED_NODES_MAX)]
    image: Text | None = None
    labels: Labels = {}
    env: Annotated[dict[Text, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = {}
    pod: Pod | None = None
    behaviour: Behaviour = "honest"


class EdgesFrom(Document):
    """Where the edges stand: one `a b` a line, in a key of a ConfigMap, or in a file that the CLI inlines."""

    config_map: Text | None = None
    key: Text = "edges"
    file: Text | None = None


class Topology(Document):
    """Who should be connected to whom. See `topology_of` for the defaults."""

    kind: TopologyKind = "full"
    degree: Annotated[int, Field(ge=1, le=SIMULATED_NODES_MAX)] | None = None
    edges: Annotated[list[Annotated[list[Text], Field(min_length=2, max_length=2)]], Field(max_length=10_000)] = []
    edges_from: EdgesFrom | None = None


class Discovery(Document):
    """How nodes learn of each other."""

    mode: Literal["registry", "seeds"] = "registry"


class Identity(Document):
    """Who vouches for nodes, and for how long. `renewBefore` left out is a third of `ttl`."""

    trust_domain: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$", max_length=253)] = "p2pnet"
    ttl: Duration = Duration("7d")
    renew_before: Duration | None = None
    issuer: Literal["builtin", "certManager"] = "builtin"
    issuer_ref: Annotated[LocalReference | None, Field(description=_ISSUER_REF)] = None

    @property
    def renew_before_seconds(self) -> float:
        """How long before its end a leaf is renewed."""
        return self.ttl.seconds / 3 if self.renew_before is None else self.renew_before.seconds


class Broadcast(Document):
    """Settings of the broadcast layer, the same for every client."""

    push_below: Annotated[
        int | Literal["auto"],
        PlainValidator(_read_push_below),
        WithJsonSchema(
            {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^auto$|{Size.pattern}"}]}
        ),
    ] = "auto"
    """Bytes of user payload; a smaller artifact is pushed inside its update. 0 pushes nothing. `auto`: one part (64 KiB) and
    less in a full mesh, less than 1 KiB in a sparse topology."""
    relay: Literal["none", "auto", "advert", "push"] = "auto"
    slots_per_peer: Annotated[int, Field(ge=1, le=100_000)] = limits.SLOTS_PER_PEER
    artifact_bytes_max: Size = Size("128Mi")
    keep: Duration = Duration("10m")
    """How long a blob lives after its creation."""

    @property
    def push_below_bytes(self) -> int | None:
        """As a node is told; None: auto."""
        return None if self.push_below == "auto" else self.push_below


class Client(Document):
    """A client of the broadcast: one of ours, or of the entry point group `p2pnet.clients`, by its name; or a `class`.

    `settings` are JSON values, handed to the class as keyword arguments.
    """

    name: Annotated[str, Field(pattern=f"^{CLIENT_NAME.pattern}$")]
    class_: Annotated[str | None, Field(alias="class", pattern=r"^[\w.]+:\w+$", max_length=253)] = None
    settings: Annotated[dict[Text, Any], Field(max_length=64), AfterValidator(check_settings)] = {}


class Shape(Document):
    """What a link does to packets. What is left out, it does not do."""

    latency: Duration | None = None
    jitter: Duration | None = None
    loss: Share | None = None
    duplication: Share | None = None
    reorder: Share | None = None
    bandwidth: Bandwidth | None = None

    @property
    def shapes(self) -> bool:
        """Whether it does anything at all."""
        values = (self.latency, self.jitter, self.loss, self.duplication, self.reorder)
        return self.bandwidth is not None or any(one is not None and one.number > 0 for one in values)


class Rule(Shape):
    """A shape for the packets from some nodes to some others, one way.

    A selector is `*`, a node's name, or `key=value` parts joined by commas, over the groups' labels, `group` and `node`.
    """

    from_: Annotated[Text, Field(alias="from")] = "*"
    to: Text = "*"


class Network(Document):
    """The links of a healthy subnet. The last rule that matches decides, else the default."""

    default: Shape = Shape()
    rules: Annotated[list[Rule], Field(max_length=64)] = []


class Fault(Rule):
    """A shape, a one-way block, or a pause of the nodes in `from`, on top of the network, by a name to clear it by."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    block: bool = False
    pause: bool = False


class Ready(Document):
    """When `up` calls the subnet ready: this share of edges up, within this time."""

    connected: Share = Share("100%")
    within: Duration = Duration("120s")


class Lab(Document):
    """The lab's pod; the cluster targets only. `storage`: `emptyDir`, or the size of a claim."""

    storage: Annotated[Text, AfterValidator(_check_storage)] = "emptyDir"
    resources: Resources = Resources()


def _default_nodes(validated: dict[str, Any]) -> int:
    return 0 if validated.get("groups") else NODES_DEFAULT


class Spec(Document):
    """What is wanted."""

    groups: Annotated[list[Group], Field(max_length=16)] = []
    nodes: Annotated[int, Field(default_factory=_default_nodes, ge=0, le=SIMULATED_NODES_MAX)]
    """Size of group `node`: 3, or 0 when groups are given."""
    image: Text | None = None
    topology: Topology | None = None
    discovery: Discovery = Discovery()
    identity: Identity = Identity()
    broadcast: Broadcast = Broadcast()
    clients: Annotated[list[Client], Field(min_length=1, max_length=8)] = [Client(name="blob")]
    network: Network = Network()
    faults: Annotated[list[Fault], Field(max_length=64)] = []
    ready: Ready = Ready()
    nodes_per_pod: Annotated[int, Field(ge=1, le=100)] = 1
    pod: Pod = Pod()
    lab: Lab = Lab()
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 42
    ttl: Duration | None = None
    """From creation on; None: until taken down."""


_SERVER_SIDE = frozenset(
    (
        "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
        "managedFields", "selfLink", "ownerReferences", "finalizers",
    )
)  # fmt: skip
"""What an API server adds to metadata: what `kubectl get -o yaml` prints must be readable again."""


class Metadata(Document):
    """Name, and what Kubernetes keeps beside it. Fields an API server writes are left out."""

    name: Annotated[str, Field(pattern=f"^{SUBNET_NAME.pattern}$")]
    namespace: Text | None = None
    labels: dict[Text, Text] = {}
    annotations: dict[str, str] = {}

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
