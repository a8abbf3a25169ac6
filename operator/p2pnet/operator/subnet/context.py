"""One Subnet in its place: names, labels, ports, addresses and identities of everything that belongs to it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from p2pnet.model.agent import PORT_BELOW
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.registry import Membership
from p2pnet.model.report import Status
from p2pnet.operator.kube.api import SUBNET, Object, ResourceKind, annotations_of, name_of, owned_by
from p2pnet.subnet.members import members
from p2pnet.subnet.spec import Subnet

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "p2pnet-operator"
EVERYWHERE = "::"
"""The host on which nodes listen: every address, of both IP families; IPv4 alone where the kernel has no IPv6."""
SUBNET_LABEL = "p2pnet.io/subnet"
GROUP_LABEL = "p2pnet.io/group"
ROLE_LABEL = "p2pnet.io/role"

HASH = "p2pnet.io/spec-hash"
"""Annotation: what the object was made from."""
PAUSED = "p2pnet.io/paused"
"""Annotation of a Subnet: `"true"` and nothing is changed, only reported."""
FORCE_RENEW = "p2pnet.io/force-renew"
"""Annotation of a Subnet: a value not seen before renews every leaf."""
FORCE_REPLACE = "p2pnet.io/force-replace"
"""Annotation of a Subnet: a value not seen before replaces the authority."""
ISSUED_FOR = "p2pnet.io/subnet-uid"
"""Annotation of a Secret that cert-manager fills: the Subnet's uid, for it may have made the Secret itself, without an owner."""

PORT_BASE = 4100
AGENT_PORT = PORT_BASE - PORT_BELOW
"""UDP: where the lab reaches the processes of a node pod."""
HEALTH_PORT = 8080
LAB_PORT = 8090


class Placed(NamedTuple):
    """A node pod and the members it runs."""

    pod: str
    group: str
    ordinal: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class SubnetContext:
    """A checked Subnet with what its object says beside the spec. `image` is the one for who names none."""

    subnet: Subnet
    namespace: str
    uid: str
    image: str
    generation: int = 1
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    worked_out: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What follows from all this and costs something to find: for those who look again. Nobody changes what is in it."""

    @property
    def name(self) -> str:
        """The subnet's name."""
        return self.subnet.name

    @property
    def paused(self) -> bool:
        """Whether nothing may be changed."""
        return self.annotations.get(PAUSED, "").lower() == "true"

    @cached_property
    def members(self) -> list[tuple[str, str]]:
        """(name, group) of every member, in order."""
        return members(self.subnet)

    @cached_property
    def placement(self) -> list[Placed]:
        """Every node pod, in member order."""
        per_pod = self.subnet.spec.nodes_per_pod
        names: dict[str, list[str]] = {}
        for name, group in self.members:
            names.setdefault(group, []).append(name)
        return [
            Placed(f"{self.name}-{group}-{ordinal}", group, ordinal, tuple(mine[ordinal * per_pod :][:per_pod]))
            for group, mine in names.items()
            for ordinal in range(-(-len(mine) // per_pod))
        ]

    @property
    def owner(self) -> Object:
        """The ownerReference of everything: the garbage collector clears up, no finalizer is needed."""
        return {
            "apiVersion": SUBNET.api, "kind": SUBNET.kind, "name": self.name, "uid": self.uid,
            "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip

    @property
    def selector(self) -> str:
        """The label selector that finds everything of this subnet."""
        return f"{MANAGED_BY}={MANAGER},{SUBNET_LABEL}={self.name}"

    @property
    def nodes_service(self) -> str:
        """The headless Service, and the subdomain of the pods."""
        return f"{self.name}-nodes"

    @property
    def lab(self) -> str:
        """The lab's pod, Service, Secret and claim."""
        return f"{self.name}-lab"

    @property
    def authority(self) -> str:
        """The Secret with the authority's key; never mounted."""
        return f"{self.name}-ca"

    @property
    def trust(self) -> str:
        """The Secret with the bundles of nodes whose leaves are cert-manager's."""
        return f"{self.name}-trust"

    @property
    def cert_manager(self) -> bool:
        """Whether cert-manager issues the nodes' leaves; the lab's is the subnet's own authority's in any case."""
        return self.subnet.spec.identity.issuer == "certManager"

    def certificate(self, member: str) -> str:
        """The Certificate of a member, and the Secret that cert-manager fills for it."""
        return f"{self.name}-{member}"

    def owns(self, thing: Object) -> bool:
        """Whether an object (its metadata are enough) is this Subnet's: by its owner, or made by cert-manager for it."""
        told = annotations_of(thing)
        named = told.get("cert-manager.io/certificate-name") == name_of(thing)
        return owned_by(thing, self.uid) or (named and told.get(ISSUED_FOR) == self.uid)

    @property
    def token(self) -> str:
        """The Secret with the lab's token."""
        return f"{self.name}-lab-token"

    @property
    def members_map(self) -> str:
        """The ConfigMap with the registry."""
        return f"{self.name}-members"

    @property
    def config_map(self) -> str:
        """The ConfigMap with the node config and the document."""
        return config_map_of(self.name)

    def labels(self, role: str = "", group: str = "") -> dict[str, str]:
        """The labels of an object."""
        wanted = {MANAGED_BY: MANAGER, SUBNET_LABEL: self.name, GROUP_LABEL: group, ROLE_LABEL: role}
        return {key: value for key, value in wanted.items() if value}

    def host(self, pod: str) -> str:
        """The stable DNS name of a node pod."""
        return f"{pod}.{self.nodes_service}.{self.namespace}.svc"

    def port(self, member: str) -> int:
        """The UDP port of a member."""
        return PORT_BASE + int(member.rpartition("-")[2]) % self.subnet.spec.nodes_per_pod

    def uri(self, member: str) -> str:
        """The identity of a member."""
        return member_uri(self.subnet.spec.identity.trust_domain, self.namespace, self.name, member)

    @property
    def lab_uri(self) -> str:
        """The identity of the lab."""
        return lab_uri(self.subnet.spec.identity.trust_domain, self.namespace, self.name)

    def object(self, kind: ResourceKind, name: str, **parts: Any) -> Object:
        """An object of this subnet: its metadata, and the parts given. `role` and `group` become labels."""
        labels = self.labels(parts.pop("role", ""), parts.pop("group", ""))
        metadata: Object = {
            "name": name, "namespace": self.namespace, "labels": labels, "ownerReferences": [self.owner],
        }  # fmt: skip
        if "annotations" in parts:
            metadata["annotations"] = parts.pop("annotations")
        return {"apiVersion": kind.api, "kind": kind.kind, "metadata": metadata, **parts}


def config_map_of(name: str) -> str:
    """The ConfigMap with the document in force of a Subnet of this name, which need not be known for it."""
    return f"{name}-config"


@dataclass
class Observed:
    """What there is: the Subnet object, its children by kind and name, and what its lab says (None: not reached)."""

    subnet: Object
    children: dict[ResourceKind, dict[str, Object]] = field(default_factory=dict)
    lab: Status | None = None
    lab_trouble: str = ""
    lab_members: Membership | None = None
    """What the lab holds; asked only when the ConfigMap with the registry is gone or unreadable."""
    issuer_trouble: tuple[str, str] | None = None
    """Why cert-manager's Certificates cannot be seen: reason and message for Degraded."""

    def of(self, kind: ResourceKind) -> dict[str, Object]:
        """Children of a kind by name."""
        return self.children.get(kind, {})

    @property
    def status(self) -> Object:
        """The status that stands in the Subnet."""
        return self.subnet.get("status") or {}
