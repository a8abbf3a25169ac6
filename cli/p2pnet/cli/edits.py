"""What an edit of a Subnet document changes, and whether a live subnet can take it. Pure."""

from typing import Any

from p2pnet.subnet.document import IGNORED, Subnet, topology_of

ANNOTATION = f"metadata.annotations[{IGNORED}]"
LIVE = ("nodes", "network", "faults", "ready", "ttl")
LIVE_IDENTITY = ("ttl", "renewBefore")
IMMUTABLE = ("identity.trustDomain", "identity.issuer", "discovery", "nodesPerPod", "seed")


def changed(old: Subnet, new: Subnet) -> list[str]:
    """Paths whose meaning differs, like `spec.nodes`, `spec.groups[next].nodes`; a default written out is no change."""
    before, after = _spec(old), _spec(new)
    paths: list[str] = []
    for key in before:
        if key == "groups":
            paths += _groups(before[key], after[key])
        elif key == "identity":
            paths += [f"spec.identity.{part}" for part in before[key] if before[key][part] != after[key][part]]
        elif before[key] != after[key]:
            paths.append(f"spec.{key}")
    if old.metadata.annotations.get(IGNORED) != new.metadata.annotations.get(IGNORED):
        paths.append(ANNOTATION)  # the same is in force, and other fields were asked for in vain
    return paths


def is_live(path: str, target: str = "local") -> bool:
    """Whether a running subnet takes this edit: in a cluster all but what nobody may change, pods are replaced for it."""
    if path == ANNOTATION:
        return True
    field = path.removeprefix("spec.")
    if target != "local":
        return not field.startswith(IMMUTABLE)
    if field.startswith("groups["):
        return field.endswith(("]", "].nodes"))
    if field.startswith("identity."):
        return field.removeprefix("identity.") in LIVE_IDENTITY
    return field in LIVE


def _groups(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    old, new = ({group["name"]: group for group in groups} for groups in (before, after))
    paths = [f"spec.groups[{name}]" for name in [*old, *new] if (name in old) != (name in new)]
    for name in old:
        if name in new:
            paths += [f"spec.groups[{name}].{key}" for key in old[name] if old[name][key] != new[name][key]]
    return paths


def _spec(subnet: Subnet) -> dict[str, Any]:
    spec: dict[str, Any] = subnet.spec.model_dump(mode="json", by_alias=True)
    plan = topology_of(subnet)
    # left out or written out, what counts is the shape meant; the degree follows the number of nodes where none is given
    given = subnet.spec.topology.degree if subnet.spec.topology else None
    spec["topology"] = (plan.kind, given, plan.edges)
    return spec
