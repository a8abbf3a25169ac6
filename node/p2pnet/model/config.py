"""The config of a node process: `NodeConfig`, JSON on disk, read with msgspec (a node imports no pydantic)."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from p2pnet.model import limits
from p2pnet.model.behaviours import HONEST, Behaviour
from p2pnet.model.errors import SpecError


class BroadcastSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """spec.broadcast, in plain units."""

    push_below: int | None = None
    """Bytes of user payload; a smaller artifact is pushed inside its update. 0 pushes nothing. None: one part (64 KiB) and
    less in a full mesh, where an advert saves nothing; less than 1 KiB in a sparse topology, and less than 16 KiB over its
    eager edges."""
    relay: str = "auto"
    """none | auto | advert | push | scatter"""
    slots_per_peer: int = limits.SLOTS_PER_PEER
    artifact_bytes_max: int = limits.ARTIFACT_BYTES_MAX
    keep_s: float = 600.0
    """How long a blob lives after its creation."""
    auto_scatters: bool = True
    """Whether `relay: auto` deals large artifacts of a full mesh out in stripes, whatever the uplink; nodes of a Subnet do so
    while their access link has a limit upwards."""
    full_mesh: bool = True
    """Whether every node is every node's peer; decides `relay: auto` and the default of `push_below`."""

    @property
    def push_limit(self) -> int:
        """Bytes of user payload: smaller artifacts are pushed."""
        if self.push_below is not None:
            return self.push_below
        return limits.PART_BYTES + 1 if self.full_mesh else limits.PUSH_BELOW_BYTES


class ClientConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One client of the broadcast, see `Client` in the Subnet document."""

    name: str = "blob"
    class_: str = msgspec.field(default="", name="class")
    """`module:Class`; empty: one of ours, or of the entry point group `p2pnet.clients`, by its name."""
    settings: dict[str, Any] = {}
    """JSON values: keyword arguments of the class."""


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One node. Paths are absolute or relative to the config file's folder."""

    name: str
    subnet: str
    trust_domain: str = "p2pnet"
    namespace: str = "local"
    group: str = "node"
    host: str = "127.0.0.1"
    port: int = 0
    """UDP. 0 takes a free one; ignored when the supervisor passes a bound socket."""
    health_host: str = "127.0.0.1"
    health_port: int | None = None
    """TCP port of /healthz, /readyz and /metrics; 0 takes a free one, None serves none."""
    identity_dir: str = "identity"
    """Directory of tls.crt (leaf first, then its chain), tls.key and ca.crt (the bundle); checked for changes every second.

    With a lab-ca.crt in it, that alone vouches for the lab, and ca.crt for peers alone.
    """
    identity_name: str = "tls"
    """Name of the .crt and .key files: one directory may hold the leaves of several nodes of one pod."""
    members_file: str = "members.json"
    """A `registry.Membership`; the boot copy. Under discovery by seeds only its version and `removed` are used."""
    network_file: str = ""
    """A `network.NodeNetwork`; the boot copy, in force from the first datagram. It need not exist; empty: there is none."""
    await_network: bool = False
    """Whether to neither dial nor answer peers until the lab has pushed a network once, for a bounded time."""
    discovery: Literal["registry", "seeds"] = "registry"
    """Who tells this node of its peers: the members file and the lab, or `seeds` and then the peers themselves."""
    seeds: list[str] = []
    """`host:port` each, at most SEEDS_MAX. Every address of a DNS name is a seed, except this node's own."""
    advertise: list[str] = []
    """`host:port` at which others dial this node, at most RECORD_ADDRESSES_MAX; empty: the address it binds."""
    record_s: float = limits.RECORD_S
    """Life of this node's record in seconds, at most RECORD_S: how long others keep it after it falls silent."""
    seed: int = 42
    """Seeds the broadcast's randomness, together with names and incarnation."""
    behaviour: Behaviour = HONEST
    """What the node does wrong, see `p2pnet.adversary`."""
    idle_s: float = limits.IDLE_S
    broadcast: BroadcastSettings = BroadcastSettings()
    clients: list[ClientConfig] = msgspec.field(default_factory=lambda: [ClientConfig()])
    event_ring: int = limits.EVENT_RING


def read_node_config(path: Path) -> NodeConfig:
    """The config in a JSON file. Raises SpecError naming the file and the field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeConfig)
    except OSError as error:
        raise SpecError(f"{path}: cannot read the node config: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SpecError(f"{path}: not a node config: {error}") from error


def write_node_config(path: Path, config: NodeConfig) -> None:
    """Write the config as JSON, replacing the file in one step."""
    # A node that starts meanwhile reads the old file or the new one, never half of one.
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(config)))
    temporary.replace(path)
