"""The operator's settings, from its environment."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from p2pnet.model.errors import SpecError
from p2pnet.model.images import NODE_IMAGE, image_tag
from p2pnet.model.log_lines import FORMATS, LEVELS
from p2pnet.operator.kube.api import MANAGER


@dataclass(frozen=True)
class OperatorSettings:
    """The operator's settings, set by the chart. Each field names its environment variable."""

    namespaces: tuple[str, ...] = ()
    """P2PNET_WATCH_NAMESPACES, comma separated; empty: all namespaces."""
    node_image: str = ""
    """P2PNET_NODE_IMAGE: the image of a Subnet that names none."""
    any_user: bool = False
    """P2PNET_ANY_USER: `true` where the cluster chooses the user of pods, as OpenShift does."""
    pull_secrets: tuple[str, ...] = ()
    """P2PNET_IMAGE_PULL_SECRETS, comma separated: Secrets to pull with, in the pods of a Subnet that names none."""
    workers: int = 4
    """P2PNET_WORKERS: resources reconciled at the same time."""
    leader_election: bool = False
    """P2PNET_LEADER_ELECTION: `true` when several replicas run."""
    identity: str = ""
    """P2PNET_POD_NAME: this replica's name in the Lease; default its host name."""
    namespace: str = "default"
    """P2PNET_POD_NAMESPACE: the namespace of the Lease."""
    installation: str = f"default/{MANAGER}"
    """P2PNET_INSTALLATION: what claims name as their holder, of all replicas the same; default POD_NAMESPACE/p2pnet-operator."""
    metrics_port: int = 8081
    """P2PNET_METRICS_PORT of /metrics; 0 serves none."""
    health_port: int = 8080
    """P2PNET_HEALTH_PORT of /healthz; 0 serves none."""
    log_level: str = "INFO"
    """P2PNET_LOG_LEVEL, a name of the logging module."""
    log_format: str = "text"
    """P2PNET_LOG_FORMAT: text, or json for an object a line. `--log-format` wins."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "OperatorSettings":
        """Read the settings from the environment. Raises SpecError for a number that is none or out of range."""

        def text(name: str, default: str = "") -> str:
            return environment.get(f"P2PNET_{name}", "").strip() or default

        def number(name: str, default: int, low: int, high: int) -> int:
            value = text(name, str(default))
            if not value.isdigit() or not low <= int(value) <= high:
                raise SpecError(f"P2PNET_{name}={value!r}: a whole number from {low} to {high}")
            return int(value)

        def one_of(name: str, default: str, choices: Sequence[str]) -> str:
            value = text(name, default)
            found = next((one for one in choices if one.lower() == value.lower()), None)
            if found is None:
                raise SpecError(f"P2PNET_{name}={value!r}: one of {', '.join(choices)}")
            return found

        def words(name: str) -> tuple[str, ...]:
            return tuple(one.strip() for one in text(name).split(",") if one.strip())

        return cls(
            namespaces=words("WATCH_NAMESPACES"),
            node_image=text("NODE_IMAGE", default_image()),
            any_user=text("ANY_USER").lower() == "true",
            pull_secrets=words("IMAGE_PULL_SECRETS"),
            workers=number("WORKERS", 4, 1, 64),
            leader_election=text("LEADER_ELECTION").lower() == "true",
            identity=text("POD_NAME", socket.gethostname()),
            installation=text("INSTALLATION", f"{text('POD_NAMESPACE', 'default')}/{MANAGER}"),
            namespace=text("POD_NAMESPACE", "default"),
            metrics_port=number("METRICS_PORT", 8081, 0, 65535),
            health_port=number("HEALTH_PORT", 8080, 0, 65535),
            log_level=one_of("LOG_LEVEL", "INFO", LEVELS),
            log_format=one_of("LOG_FORMAT", "text", FORMATS),
        )


def default_image() -> str:
    """The node image of this version, under the chart's name for it."""
    return f"{NODE_IMAGE}:{image_tag(metadata.version('p2pnet'))}"
