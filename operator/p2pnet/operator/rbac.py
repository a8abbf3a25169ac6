"""The rights the operator needs, and no more. The chart's roles are generated from them."""

from typing import Any, NamedTuple

from p2pnet.operator.injection.context import INJECTION
from p2pnet.operator.kube.api import (
    BUDGET,
    CERTIFICATE,
    CLAIM,
    CONFIG_MAP,
    EVENT,
    LEASE,
    MANAGER,
    NODE,
    POD,
    POLICY,
    SECRET,
    SERVICE,
    ResourceKind,
)
from p2pnet.operator.subnet.context import SUBNET


class PolicyRule(NamedTuple):
    """Verbs on one kind of resource, and what for."""

    kind: ResourceKind
    verbs: tuple[str, ...]
    why: str
    subresource: str = ""

    @property
    def rule(self) -> dict[str, Any]:
        """As a rule of a Role."""
        resource = f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural
        return {"apiGroups": [self.kind.group], "resources": [resource], "verbs": list(self.verbs)}


_READ = ("get", "list", "watch")

RIGHTS = (
    PolicyRule(SUBNET, (*_READ, "delete"), "what is wanted; delete for ttl"),
    PolicyRule(SUBNET, ("patch",), "conditions and counts", "status"),
    PolicyRule(INJECTION, (*_READ, "delete"), "what to publish; delete for ttl"),
    PolicyRule(INJECTION, ("patch",), "verdict and figures", "status"),
    PolicyRule(POD, ("list", "watch", "create", "patch", "delete"), "nodes and lab; patch for labels that were lost"),
    PolicyRule(SECRET, ("list", "watch", "create", "patch", "delete"), "authority, leaves, token"),
    PolicyRule(CONFIG_MAP, (*_READ, "create", "patch"), "registry and config; get for edgesFrom and filesFrom"),
    PolicyRule(SERVICE, ("list", "watch", "create", "patch"), "names of nodes, access to the lab"),
    PolicyRule(CLAIM, ("list", "create", "patch"), "the lab's runs"),
    PolicyRule(BUDGET, ("list", "watch", "create", "patch", "delete"), "how many pods an eviction may take"),
    PolicyRule(POLICY, ("list", "watch", "create", "patch"), "who may speak to nodes"),
    PolicyRule(EVENT, ("create",), "transitions"),
)
"""In every namespace with Subnets. Server-side apply of a new object needs create and patch."""

CLUSTER_RIGHTS = (
    PolicyRule(NODE, ("get",), "whether the machine of a pod that is not ready is lost"),
    PolicyRule(LEASE, ("list",), "which namespaces other operators claim"),
)
"""In addition, for an operator of the whole cluster. One of some namespaces judges machines by its pods."""

CLAIM_RIGHTS = (PolicyRule(LEASE, ("get", "create", "patch"), "the claim of the namespace"),)
"""In addition, in each namespace of an operator that is for some."""

CERT_MANAGER_RIGHTS = (PolicyRule(CERTIFICATE, ("list", "create", "patch", "delete"), "nodes' leaves of an Issuer"),)
"""In addition, where Subnets may name an Issuer. Not checked at start: cert-manager need not be installed."""

LEASE_RIGHTS = (PolicyRule(LEASE, ("get", "create", "patch"), "which replica acts, and who serves the cluster"),)
"""In the operator's own namespace, when there are two replicas or it is for the whole cluster, which is a claim, too."""


def role(*, cluster_wide: bool, namespace: str = "") -> dict[str, Any]:
    """The ClusterRole, or the Role of one watched namespace."""
    metadata = {"name": MANAGER} if cluster_wide else {"name": MANAGER, "namespace": namespace}
    kind = "ClusterRole" if cluster_wide else "Role"
    return _role(kind, metadata, (*RIGHTS, *CERT_MANAGER_RIGHTS, *(CLUSTER_RIGHTS if cluster_wide else CLAIM_RIGHTS)))


def lease_role(namespace: str) -> dict[str, Any]:
    """The Role for the Lease."""
    return _role("Role", {"name": f"{MANAGER}-lease", "namespace": namespace}, LEASE_RIGHTS)


def tester_role(namespace: str, subnet: str) -> dict[str, Any]:
    """What a person needs to run experiments on one subnet: its lab's token and the way to its lab, nothing else."""
    rules = [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [f"{subnet}-lab-token"], "verbs": ["get"]},
        {
            "apiGroups": [""], "resources": ["services/proxy"], "resourceNames": [f"{subnet}-lab:http"],
            "verbs": ["get", "create", "update", "patch", "delete"],
        },
        {"apiGroups": [SUBNET.group], "resources": [SUBNET.plural], "resourceNames": [subnet], "verbs": ["get"]},
    ]  # fmt: skip
    metadata = {"name": f"{subnet}-tester", "namespace": namespace}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}


def injector_role(namespace: str) -> dict[str, Any]:
    """What a person or a pipeline needs to run experiments by Injections alone: no token, no way to a lab."""
    rules = [
        {
            "apiGroups": [INJECTION.group],
            "resources": [INJECTION.plural],
            "verbs": [*_READ, "create", "patch", "delete"],
        },
        {"apiGroups": [SUBNET.group], "resources": [SUBNET.plural], "verbs": list(_READ)},
    ]
    metadata = {"name": "p2pnet-injector", "namespace": namespace}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}


def _role(kind: str, metadata: dict[str, str], rights: tuple[PolicyRule, ...]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata,
        "rules": [right.rule for right in rights],
    }  # fmt: skip
