"""What an edit of a Subnet document changes, and who can take it. Pure.

One table says what becomes of each field (docs/design.md, "What an edit does"): live edits are taken by running nodes, rolling
ones restart them (a local subnet, whose processes nobody replaces, refuses those), immutable ones are refused everywhere.
Used by `up`, by the lab's PATCH of its document and by the CRD, whose CEL refuses what is immutable.
"""

from enum import Enum
from typing import Any

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import default_subnet, load_subnet, to_document
from p2pnet.subnet.members import topology_of
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import IGNORED, unsupported

ANNOTATION = f"metadata.annotations[{IGNORED}]"


class EditKind(Enum):
    """What a running subnet does about an edit."""

    LIVE = "live"
    ROLLING = "rolling"
    IMMUTABLE = "immutable"


KINDS: dict[str, EditKind] = {
    "nodes": EditKind.LIVE,
    "network": EditKind.LIVE,
    "faults": EditKind.LIVE,
    "ready": EditKind.LIVE,
    "ttl": EditKind.LIVE,
    "identity.ttl": EditKind.LIVE,
    "identity.renewBefore": EditKind.LIVE,
    "identity.issuerRef": EditKind.ROLLING,
    "image": EditKind.ROLLING,
    "clients": EditKind.ROLLING,
    "broadcast": EditKind.ROLLING,
    "topology": EditKind.ROLLING,
    "pod": EditKind.ROLLING,
    "lab": EditKind.ROLLING,
    "identity.trustDomain": EditKind.IMMUTABLE,
    "identity.issuer": EditKind.IMMUTABLE,
    "discovery.mode": EditKind.IMMUTABLE,
    "nodesPerPod": EditKind.IMMUTABLE,
    "seed": EditKind.IMMUTABLE,
}
"""Path below `spec` -> kind. Groups are apart: a group that comes or goes, and its `nodes`, are live; the rest rolls."""
_BY_PART = ("identity", "discovery")
"""Fields of the spec whose parts are edits of different kinds."""


def immutable_fields() -> dict[tuple[str, ...], object]:
    """Every immutable field: its path below `spec`, and its default as JSON."""
    paths = [tuple(path.split(".")) for path, kind in KINDS.items() if kind is EditKind.IMMUTABLE]
    return {path: _default(path) for path in paths}


def changed(old: Subnet, new: Subnet) -> list[str]:
    """Paths whose meaning differs, like `spec.nodes`, `spec.groups[next].nodes`; a default written out is no change."""
    before, after = _meaning(old), _meaning(new)
    paths: list[str] = []
    for key in before:
        if key == "groups":
            paths += _changed_groups(before[key], after[key])
        elif key in _BY_PART:
            paths += [f"spec.{key}.{part}" for part in before[key] if before[key][part] != after[key][part]]
        elif before[key] != after[key]:
            paths.append(f"spec.{key}")
    if old.metadata.annotations.get(IGNORED) != new.metadata.annotations.get(IGNORED):
        paths.append(ANNOTATION)  # the same is in force, and other fields are passed over
    return paths


def kind_of(path: str) -> EditKind:
    """The kind of the edit of a path that `changed` names."""
    if path == ANNOTATION:
        return EditKind.LIVE
    field = path.removeprefix("spec.")
    if field.startswith("groups["):
        return EditKind.LIVE if field.endswith(("]", "].nodes")) else EditKind.ROLLING
    return KINDS[field]


def refused(paths: list[str], target: str) -> list[str]:
    """Those of the paths that a running subnet cannot take on a target (`local cluster kind`)."""
    taken = {EditKind.LIVE} if target == "local" else {EditKind.LIVE, EditKind.ROLLING}
    return [path for path in paths if kind_of(path) not in taken]


def edited(old: Subnet, change: dict[str, Any], target: str) -> Subnet:
    """The document after `change`: a whole one (it has a `kind`), or a merge patch (RFC 7386) of the old.

    Raises SpecError naming every field that cannot be edited on a live subnet of this target.
    """
    new = load_subnet(change if "kind" in change else merge_patch(to_document(old), change))
    if new.name != old.name:
        raise SpecError(f"metadata.name: this subnet is {old.name}, not {new.name}")
    fixed = refused(changed(old, new), target)
    if fixed:
        raise SpecError("cannot be changed while the subnet is up (take it down first): " + ", ".join(fixed))
    unknown = [line for line in unsupported(new, target) if line not in unsupported(old, target)]
    if unknown:
        raise SpecError("\n".join(unknown))
    return new


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged by key, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _changed_groups(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    old, new = ({group["name"]: group for group in groups} for groups in (before, after))
    paths = [f"spec.groups[{name}]" for name in [*old, *new] if (name in old) != (name in new)]
    for name in old:
        if name in new:
            paths += [f"spec.groups[{name}].{key}" for key in old[name] if old[name][key] != new[name][key]]
    return paths


def _meaning(subnet: Subnet) -> dict[str, Any]:
    """The spec with its defaults written out."""
    spec: dict[str, Any] = subnet.spec.model_dump(mode="json", by_alias=True)
    plan = topology_of(subnet)
    # Left out or written out, what counts is the shape meant; the degree follows the number of nodes where none is given.
    given = subnet.spec.topology.degree if subnet.spec.topology else None
    spec["topology"] = (plan.kind, given, plan.edges)
    return spec


def _default(path: tuple[str, ...]) -> object:
    value: Any = default_subnet("demo", 1).spec.model_dump(mode="json", by_alias=True)
    for step in path:
        value = value[step]
    return value
