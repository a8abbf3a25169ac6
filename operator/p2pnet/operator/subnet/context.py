"""A Subnet in its namespace: names, labels, ports, addresses and identities of everything that belongs to it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from p2pnet.model.agent import PORT_BELOW
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.images import version_label
from p2pnet.model.registry import Membership
from p2pnet.model.report import Status
from p2pnet.operator.kube.api import (
    BUDGET,
    CONFIG_MAP,
    MANAGED_BY,
    MANAGER,
    POD,
    POLICY,
    RECOMMENDED_LABELS,
    SECRET,
    SERVICE,
    Object,
    ResourceKind,
    annotations_of,
    name_of,
    owned_by,
)
from p2pnet.operator.subnet.annotations import is_paused, problem_with, replace_lost_after
from p2pnet.subnet.document import digest_of
from p2pnet.subnet.members import members
from p2pnet.subnet.spec import Subnet

SUBNET = ResourceKind("p2pnet.io/v1alpha1", "Subnet", "subnets")
CHILDREN = (SECRET, CONFIG_MAP, SERVICE, BUDGET, POLICY, POD)
"""Kinds a Subnet always owns; a claim is listed only when one is wanted, certificates only where cert-manager issues."""

EVERYWHERE = "::"
"""Host on which nodes listen: all addresses of both IP families; IPv4 alone where the kernel has no IPv6."""
PRODUCT = "p2pnet"
"""What the recommended labels call the application, and what it is part of."""
SUBNET_LABEL = "p2pnet.io/subnet"
GROUP_LABEL = "p2pnet.io/group"
ROLE_LABEL = "p2pnet.io/role"

ISSUED_FOR = "p2pnet.io/subnet-uid"
"""Annotation of a Secret that cert-manager fills: the Subnet's uid; cert-manager creates Secrets without our owner."""

PORT_BASE = 4100
"""UDP port of a pod's first node."""
AGENT_PORT = PORT_BASE - PORT_BELOW
"""UDP port of the agent of a node pod, through which the lab controls processes."""
HEALTH_PORT = 8080
LAB_PORT = 8090


class SubnetProblem(NamedTuple):
    """Why a Subnet is Degraded: the reason and message of that condition."""

    reason: str
    message: str


class LostMachine(NamedTuple):
    """A machine whose kubelet is silent or that is gone, with pods of this Subnet on it."""

    name: str
    since: datetime
    why: str
    """What is wrong with it, as the end of a sentence about it."""
    pods: tuple[str, ...]


class PodPlacement(NamedTuple):
    """A node pod and the members it runs."""

    pod: str
    group: str
    ordinal: int
    members: tuple[str, ...]


class PodDefaults(NamedTuple):
    """What the installation gives pods whose document says nothing: the node image, and Secrets to pull it with."""

    image: str
    pull_secrets: tuple[str, ...] = ()
    any_user: bool = False
    """Whether the cluster chooses the user that pods run as, as OpenShift does."""


@dataclass(frozen=True)
class SubnetContext:
    """A checked Subnet document and what its object says besides; `image` and `pull_secrets` are for what names none."""

    subnet: Subnet
    namespace: str
    uid: str
    image: str
    pull_secrets: tuple[str, ...] = ()
    any_user: bool = False
    generation: int = 1
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Derived values that are expensive, kept as long as the document is. Entries are never modified."""

    @property
    def name(self) -> str:
        """The subnet's name."""
        return self.subnet.name

    @property
    def paused(self) -> bool:
        """Whether writes are suspended."""
        return is_paused(self.annotations)

    @cached_property
    def replace_lost_after(self) -> timedelta | None:
        """For how long a machine must be lost until its pods are replaced; None: for ever, or the annotation is wrong."""
        return replace_lost_after(self.annotations)

    @cached_property
    def annotation_problem(self) -> SubnetProblem | None:
        """Which annotations of ours have values that mean nothing."""
        told = problem_with(self.annotations)
        return SubnetProblem("InvalidAnnotation", told) if told else None

    @cached_property
    def members(self) -> list[tuple[str, str]]:
        """(name, group) of every member, in order."""
        return members(self.subnet)

    @cached_property
    def document_digest(self) -> str:
        """What a lab says of the document in force when it is this one."""
        return digest_of(self.subnet)

    @cached_property
    def member_names(self) -> frozenset[str]:
        """The names of all members."""
        return frozenset(name for name, _ in self.members)

    @cached_property
    def placements(self) -> list[PodPlacement]:
        """Every node pod, in member order."""
        per_pod = self.subnet.spec.nodes_per_pod
        names: dict[str, list[str]] = {}
        for name, group in self.members:
            names.setdefault(group, []).append(name)
        return [
            PodPlacement(f"{self.name}-{group}-{ordinal}", group, ordinal, tuple(mine[ordinal * per_pod :][:per_pod]))
            for group, mine in names.items()
            for ordinal in range(-(-len(mine) // per_pod))  # rounded up: the last pod may hold fewer
        ]

    @property
    def owner(self) -> Object:
        """The ownerReference of every child: with it the garbage collector deletes them, and no finalizer is needed."""
        return {
            "apiVersion": SUBNET.api, "kind": SUBNET.kind, "name": self.name, "uid": self.uid,
            "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip

    @property
    def selector(self) -> str:
        """Label selector of all children."""
        return f"{MANAGED_BY}={MANAGER},{SUBNET_LABEL}={self.name}"

    @property
    def nodes_service(self) -> str:
        """Name of the headless Service, which is the subdomain of node pods, too."""
        return f"{self.name}-nodes"

    @property
    def lab(self) -> str:
        """Name of the lab's pod, Service, Secret with its leaf, and claim."""
        return f"{self.name}-lab"

    @property
    def authority(self) -> str:
        """Name of the Secret with the authority's key; never mounted."""
        return f"{self.name}-ca"

    @property
    def trust(self) -> str:
        """Name of the Secret with the bundles of nodes whose leaves cert-manager issues."""
        return f"{self.name}-trust"

    @property
    def cert_manager(self) -> bool:
        """Whether cert-manager issues the nodes' leaves; the lab's is the subnet's own authority's in any case."""
        return self.subnet.spec.identity.issuer == "certManager"

    def certificate(self, member: str) -> str:
        """Name of a member's Certificate, and of the Secret that cert-manager fills for it."""
        return f"{self.name}-{member}"

    def owns(self, thing: Object) -> bool:
        """Whether an object (metadata suffice) belongs to this Subnet: by owner, or as a Secret of cert-manager for it."""
        annotations = annotations_of(thing)
        named = annotations.get("cert-manager.io/certificate-name") == name_of(thing)
        return owned_by(thing, self.uid) or (named and annotations.get(ISSUED_FOR) == self.uid)

    @property
    def token(self) -> str:
        """Name of the Secret with the lab's token."""
        return f"{self.name}-lab-token"

    @property
    def members_map(self) -> str:
        """Name of the ConfigMap with the member list."""
        return f"{self.name}-members"

    @property
    def config_map(self) -> str:
        """Name of the ConfigMap with the node config and the document."""
        return config_map_of(self.name)

    def labels(self, role: str = "", group: str = "") -> dict[str, str]:
        """The labels that children are selected by."""
        wanted = {MANAGED_BY: MANAGER, SUBNET_LABEL: self.name, GROUP_LABEL: group, ROLE_LABEL: role}
        return {key: value for key, value in wanted.items() if value}

    def all_labels(self, role: str = "", group: str = "") -> dict[str, str]:
        """The labels of a child: those it is selected by, and those that Kubernetes recommends."""
        values = (PRODUCT, self.name, role or "subnet", PRODUCT, version_label(self.image_of(group)))
        recommended = {key: value for key, value in zip(RECOMMENDED_LABELS, values, strict=True) if value}
        return {**recommended, **self.labels(role, group)}

    def image_of(self, group: str = "") -> str:
        """The image of a group's nodes; without one that of the lab."""
        own = next((one.image for one in self.subnet.spec.groups if one.name == group), None)
        return own or self.subnet.spec.image or self.image

    def host(self, pod: str) -> str:
        """DNS name of a node pod, the same after it is replaced."""
        return f"{pod}.{self.nodes_service}.{self.namespace}.svc"

    def port(self, member: str) -> int:
        """UDP port of a member."""
        # Members of a pod share its address and are told apart by port.
        return PORT_BASE + int(member.rpartition("-")[2]) % self.subnet.spec.nodes_per_pod

    def uri(self, member: str) -> str:
        """SPIFFE URI of a member."""
        return member_uri(self.subnet.spec.identity.trust_domain, self.namespace, self.name, member)

    @property
    def lab_uri(self) -> str:
        """SPIFFE URI of the lab."""
        return lab_uri(self.subnet.spec.identity.trust_domain, self.namespace, self.name)

    def object(self, kind: ResourceKind, name: str, **parts: Any) -> Object:
        """A child with its metadata and the `parts` given, of which `role` and `group` become labels."""
        labels = self.all_labels(parts.pop("role", ""), parts.pop("group", ""))
        metadata: Object = {
            "name": name, "namespace": self.namespace, "labels": labels, "ownerReferences": [self.owner],
        }  # fmt: skip
        if "annotations" in parts:
            metadata["annotations"] = parts.pop("annotations")
        return {"apiVersion": kind.api, "kind": kind.kind, "metadata": metadata, **parts}


def config_map_of(name: str) -> str:
    """Name of the ConfigMap with the document in force of the Subnet of this name."""
    return f"{name}-config"


@dataclass
class Observed:
    """What there is: the Subnet object, its children by kind and name, and its lab's summary (None: not reached)."""

    subnet: Object
    children: dict[ResourceKind, dict[str, Object]] = field(default_factory=dict)
    lab: Status | None = None
    lab_problem: str = ""
    """Why the lab says nothing, or nothing about these members."""
    lab_members: Membership | None = None
    """The lab's member list; read only when the ConfigMap with it is missing or damaged."""
    lost: list[LostMachine] = field(default_factory=list)
    """Machines with pods of this Subnet that do not answer."""
    issuer_problem: SubnetProblem | None = None
    """Why cert-manager's Certificates cannot be listed."""

    def of(self, kind: ResourceKind) -> dict[str, Object]:
        """Children of a kind by name."""
        return self.children.get(kind, {})

    @property
    def status(self) -> Object:
        """The status as it is in the Subnet object."""
        return self.subnet.get("status") or {}
