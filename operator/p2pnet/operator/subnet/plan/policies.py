"""How many node pods may be away at once, and who may speak to them. Pure."""

from p2pnet.operator.kube.api import BUDGET, POLICY, Object
from p2pnet.operator.subnet.context import AGENT_PORT, HEALTH_PORT, LAB_PORT, PORT_BASE, SubnetContext


def unavailable_max(pods: int) -> int:
    """How many of so many pods may be away at once, by us or by an eviction: a tenth, at least one."""
    return max(1, pods // 10)


def budget(site: SubnetContext) -> Object | None:
    """The disruption budget; none for a single pod, which it would only keep a machine from draining.

    An integer: for pods of a controller the API server does not know, only that is allowed.
    """
    pods = len(site.placement)
    if pods <= 1:
        return None
    spec = {
        "minAvailable": pods - unavailable_max(pods), "selector": {"matchLabels": site.labels("node")},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }  # fmt: skip
    return site.object(BUDGET, site.nodes_service, spec=spec, role="node")


def policy(site: SubnetContext) -> Object:
    """Who may open a connection to pods of the subnet.

    The lab's port is open to all, for a request through the API server comes from an address no selector matches; its
    token guards it. The health port serves kubelet and Prometheus and tells nothing secret.
    """
    last = PORT_BASE + site.subnet.spec.nodes_per_pod - 1
    quic = {"protocol": "UDP", "port": PORT_BASE, **({"endPort": last} if last > PORT_BASE else {})}
    peers = [{"podSelector": {"matchLabels": site.labels()}}]
    # Who may kill and pause nodes: the lab alone, and that by its leaf too.
    lab = [{"podSelector": {"matchLabels": site.labels("lab")}}]
    agent = {"protocol": "UDP", "port": AGENT_PORT}
    doors = [{"protocol": "TCP", "port": LAB_PORT}, {"protocol": "TCP", "port": HEALTH_PORT}]
    spec = {
        "podSelector": {"matchLabels": site.labels()}, "policyTypes": ["Ingress"],
        "ingress": [{"from": peers, "ports": [quic]}, {"from": lab, "ports": [agent]}, {"ports": doors}],
    }  # fmt: skip
    return site.object(POLICY, site.name, spec=spec)
