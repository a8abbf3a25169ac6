"""Which fields of a Subnet a target cannot honour (yet): one table, read by `unsupported`. What becomes of a document that
is wanted all the same: the fields are taken out of it, and what they were is kept beside it.
"""

import copy
import re
from collections.abc import Callable, Iterable
from typing import Any

from p2pnet.model.behaviours import STALE_CERTIFICATE
from p2pnet.subnet.members import topology_of
from p2pnet.subnet.network_spec import ShapeSpec
from p2pnet.subnet.pod_spec import PodSpec
from p2pnet.subnet.spec import GroupSpec, IdentitySpec, Subnet

IGNORED = "p2pnet.io/ignored"
"""Annotation of a document out of which fields were taken: a line `path: why` for each."""

SIMULATED = "sim"
"""The target in virtual time."""

_BELONGS_TO: dict[str, list[str | int]] = {  # makes no sense without it
    "spec.identity.issuer": ["issuerRef"],
    "spec.network.preset": ["lossMax"],
}
_NOT_YET = "is not implemented yet"
_NO_PODS = "has no meaning here: there are no pods"
_NO_CERTIFICATES = "has no meaning here: there are no certificates"
_CLUSTER = {"groups.staleCertificate": _NOT_YET}

REFUSED: dict[str, dict[str, str]] = {
    "local": {
        "image": _NO_PODS,
        "groups.image": _NO_PODS,
        "groups.env": _NOT_YET,
        "groups.pod": _NO_PODS,
        "topology.edgesFrom": _NOT_YET,
        "identity.certManager": "has no meaning here: cert-manager is Kubernetes'",
        "pod": _NO_PODS,
        "lab": _NO_PODS,
    },
    SIMULATED: {
        "image": _NO_PODS,
        "groups.image": _NO_PODS,
        "groups.env": "has no meaning here: there are no processes",
        "groups.pod": _NO_PODS,
        "topology.edgesFrom": "must be inlined before",
        "discovery.seeds": "has no meaning here: every node is told all members",
        "identity.certManager": _NO_CERTIFICATES,
        "identity.times": _NO_CERTIFICATES,
        "network.packets": "has no effect here: messages are simulated, and QUIC undoes it within them",
        "nodesPerPod": "has no meaning here: there are no processes",
        "pod": _NO_PODS,
        "lab": _NO_PODS,
        "ttl": "has no meaning here: time is virtual",
    },
    "cluster": _CLUSTER,
    "kind": _CLUSTER,
}
"""Target -> feature -> why not. To switch a feature on for a target, remove its line, or name it in `implemented`."""


def unsupported(subnet: Subnet, target: str, implemented: frozenset[str] = frozenset()) -> list[str]:
    """`path: why` of every field that was set to something a target (`local cluster kind sim`) cannot honour.

    A field that only repeats its default asks for nothing. `implemented` names features of `FEATURES` that the
    caller does honour.
    """
    refused = REFUSED[target]
    return [
        f"{path}: {refused[feature]} (target {target})"
        for feature, used in FEATURES.items()
        if feature in refused and feature not in implemented
        for path in used(subnet)
    ]


def ignored(subnet: Subnet, target: str) -> list[str]:
    """`path: why` of every field that somebody asked for and that is not in force on a target."""
    taken_out = subnet.metadata.annotations.get(IGNORED, "").splitlines()
    return [*(line.strip() for line in taken_out if line.strip()), *unsupported(subnet, target)]


def without_fields(document: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A copy of a document without the fields at these paths, like `spec.groups[0].env`; one that is not there is no matter."""
    left = copy.deepcopy(document)
    # From the back, so that an item of a list that goes moves none that is still to go.
    for path in sorted(paths, key=lambda path: [int(part) for part in re.findall(r"\[(\d+)\]", path)], reverse=True):
        *way, last = _parts(path)
        for names in ([last], _BELONGS_TO.get(path, [])):
            for name in names:
                _remove(left, [*way, name])
    return left


def _parts(path: str) -> list[str | int]:
    return [int(part[1:-1]) if part[0] == "[" else part for part in re.findall(r"\[\d+\]|[^.\[]+", path)]


def _remove(document: Any, way: list[str | int]) -> None:
    part: Any = document
    for key in way[:-1]:
        try:
            part = part[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(part, dict):
        part.pop(way[-1], None)
    elif isinstance(part, list) and isinstance(way[-1], int) and way[-1] < len(part):
        del part[way[-1]]


def _of_groups(key: str, used: Callable[[GroupSpec], object]) -> Callable[[Subnet], list[str]]:
    return lambda subnet: [
        f"spec.groups[{index}].{key}" for index, group in enumerate(subnet.spec.groups) if used(group)
    ]


def _when(path: str, used: Callable[[Subnet], object]) -> Callable[[Subnet], list[str]]:
    return lambda subnet: [path] if used(subnet) else []


def _network(subnet: Subnet) -> list[str]:
    network = subnet.spec.network
    lines = (network.access, *network.access.groups.values())
    parts = {
        "preset": network.preset != "none",
        "access": any(line.up or line.down for line in lines),
        "default": network.default.shapes,
    }
    whole = [f"spec.network.{part}" for part, used in parts.items() if used]
    return whole + [f"spec.network.rules[{index}]" for index, rule in enumerate(network.rules) if rule.shapes]


def _of_packets(subnet: Subnet) -> list[str]:
    """What concerns packets, of which messages know nothing."""
    network = subnet.spec.network
    shapes: list[tuple[str, ShapeSpec]] = [
        ("spec.network.default", network.default),
        *((f"spec.network.rules[{index}]", rule) for index, rule in enumerate(network.rules)),
        *((f"spec.faults[{index}]", fault) for index, fault in enumerate(subnet.spec.faults)),
    ]
    return [
        f"{path}.{name}"
        for path, shape in shapes
        for name in ("duplication", "reorder")
        if (share := getattr(shape, name)) is not None and share.ratio
    ]


def _identity_times(subnet: Subnet) -> list[str]:
    identity, defaults = subnet.spec.identity, IdentitySpec()
    return [
        f"spec.identity.{alias}"
        for alias, name in (("ttl", "ttl"), ("renewBefore", "renew_before"))
        if getattr(identity, name) != getattr(defaults, name)
    ]


def _differs(subnet: Subnet, key: str) -> bool:
    return bool(getattr(subnet.spec, key) != type(subnet.spec).model_fields[key].default)


FEATURES: dict[str, Callable[[Subnet], list[str]]] = {
    "image": _when("spec.image", lambda subnet: subnet.spec.image),
    "groups.image": _of_groups("image", lambda group: group.image),
    "groups.env": _of_groups("env", lambda group: group.env),
    "groups.pod": _of_groups("pod", lambda group: group.pod not in (None, PodSpec())),
    "groups.staleCertificate": _of_groups("behaviour", lambda group: group.behaviour == STALE_CERTIFICATE),
    "topology.sparse": _when("spec.topology", lambda subnet: not topology_of(subnet).full),
    "topology.edgesFrom": _when(
        "spec.topology.edgesFrom", lambda subnet: subnet.spec.topology and subnet.spec.topology.edges_from
    ),
    "discovery.seeds": _when("spec.discovery.mode", lambda subnet: subnet.spec.discovery.mode == "seeds"),
    "identity.certManager": _when("spec.identity.issuer", lambda subnet: subnet.spec.identity.issuer != "builtin"),
    "identity.times": _identity_times,
    "network": _network,
    "network.packets": _of_packets,
    "faults": _when("spec.faults", lambda subnet: subnet.spec.faults),
    "nodesPerPod": _when("spec.nodesPerPod", lambda subnet: subnet.spec.nodes_per_pod != 1),
    "pod": _when("spec.pod", lambda subnet: _differs(subnet, "pod")),
    "lab": _when("spec.lab", lambda subnet: _differs(subnet, "lab")),
    "ttl": _when("spec.ttl", lambda subnet: subnet.spec.ttl),
}
"""Feature -> the paths at which a document uses it."""
