"""The Services: a name per node, and the lab's door. Pure."""

from p2pnet.model.units import parse_size
from p2pnet.operator.kube.api import CLAIM, SERVICE, Object
from p2pnet.operator.subnet.context import AGENT_PORT, HEALTH_PORT, LAB_PORT, PORT_BASE, SubnetContext

BOTH_FAMILIES = "PreferDualStack"  # IPv4 and IPv6 where the cluster has both, else the one it has


def nodes_service(site: SubnetContext) -> Object:
    """The headless Service that gives each node pod its DNS name.

    Addresses that are not ready are published: the first node could otherwise be found by nobody.
    """
    ports = [
        {"name": "health", "port": HEALTH_PORT, "targetPort": HEALTH_PORT, "protocol": "TCP"},
        {"name": "quic", "port": PORT_BASE, "targetPort": PORT_BASE, "protocol": "UDP"},
        {"name": "agent", "port": AGENT_PORT, "targetPort": AGENT_PORT, "protocol": "UDP"},
    ]
    spec = {
        "clusterIP": "None", "publishNotReadyAddresses": True, "selector": site.labels("node"), "ports": ports,
        "type": "ClusterIP", "ipFamilyPolicy": BOTH_FAMILIES,
    }  # fmt: skip
    return site.object(SERVICE, site.nodes_service, spec=spec, role="node")


def lab_service(site: SubnetContext) -> Object:
    """The lab's `/v1`, as the API server's proxy finds it."""
    ports = [{"name": "http", "port": 80, "targetPort": LAB_PORT, "protocol": "TCP"}]
    spec = {"selector": site.labels("lab"), "ports": ports, "type": "ClusterIP", "ipFamilyPolicy": BOTH_FAMILIES}
    return site.object(SERVICE, site.lab, spec=spec, role="lab")


def lab_claim(site: SubnetContext) -> Object | None:
    """The claim that keeps the lab's runs, when one is asked for."""
    storage = site.subnet.spec.lab.storage
    if storage == "emptyDir":
        return None
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(parse_size(storage))}}}
    return site.object(CLAIM, site.lab, spec=spec, role="lab")
