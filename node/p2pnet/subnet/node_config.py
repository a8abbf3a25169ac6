"""What a node process is told before it starts, out of a Subnet document: the same for every target but for its paths. Pure."""

from typing import Any

from p2pnet.model.config import BroadcastSettings, ClientConfig, NodeConfig
from p2pnet.model.ids import member_order
from p2pnet.subnet.members import behaviour_of, topology_of
from p2pnet.subnet.spec import Subnet


def client_configs(subnet: Subnet) -> list[ClientConfig]:
    """The clients of every node."""
    return [ClientConfig(client.name, client.class_ or "", dict(client.settings)) for client in subnet.spec.clients]


def broadcast_settings(subnet: Subnet) -> BroadcastSettings:
    """`spec.broadcast` with its quantities in bytes and seconds, and what follows from the topology."""
    spec = subnet.spec.broadcast
    return BroadcastSettings(
        push_below=spec.push_below_bytes, relay=spec.relay, slots_per_peer=spec.slots_per_peer,
        artifact_bytes_max=spec.artifact_bytes_max.bytes, keep_s=spec.keep.seconds,
        # Where nothing narrows uplinks, cores decide: a burst by stripes takes twice its time by adverts (docs/performance.md).
        auto_scatters=False, full_mesh=topology_of(subnet).full,
    )  # fmt: skip


def node_config(subnet: Subnet, *, name: str, namespace: str, seeds: list[str], **place: Any) -> NodeConfig:
    """The config of one node. `seeds` are used under discovery by seeds; `place` is what only a target knows.

    `place` has fields of `NodeConfig`: `group`, `host`, `identity_dir`, `members_file`, `network_file`, `health_host`,
    `health_port`. Nothing of `spec.network` and `spec.faults` is in it: they are edited while nodes run, and a pod whose config
    changes is replaced.
    """
    spec = subnet.spec
    return NodeConfig(
        name=name, subnet=subnet.name, trust_domain=spec.identity.trust_domain, namespace=namespace, seed=spec.seed,
        broadcast=broadcast_settings(subnet), clients=client_configs(subnet), discovery=spec.discovery.mode,
        seeds=seeds if spec.discovery.mode == "seeds" else [],
        behaviour=behaviour_of(subnet, member_order(name)[0]), **place,
    )  # fmt: skip
