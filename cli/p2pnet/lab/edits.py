"""What an edit of the Subnet document may do to a live subnet. Pure."""

from typing import Any

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import Subnet, load_subnet, to_document, unsupported

LIVE = frozenset({"nodes", "groups", "ready", "ttl", "identity"})
LIVE_IDENTITY = frozenset({"ttl", "renew_before"})


def edited(old: Subnet, change: dict[str, Any], target: str) -> Subnet:
    """The document after `change`: a whole one (it has a `kind`), or a merge patch (RFC 7386) of the old.

    Raises SpecError naming every field that cannot be edited on a live subnet of this target.
    """
    new = load_subnet(change if "kind" in change else merged(to_document(old), change))
    if new.name != old.name:
        raise SpecError(f"metadata.name: this subnet is {old.name}, not {new.name}")
    fixed = not_live(old, new)
    if fixed:
        raise SpecError("cannot be changed while the subnet is up (take it down first): " + ", ".join(fixed))
    refused = [line for line in unsupported(new, target) if line not in unsupported(old, target)]
    if refused:
        raise SpecError("\n".join(refused))
    return new


def not_live(old: Subnet, new: Subnet) -> list[str]:
    """Paths of fields that differ and are no live edit here."""
    paths = [
        f"spec.{_camel(key)}"
        for key in type(old.spec).model_fields
        if key not in LIVE and _differs(old.spec, new.spec, key)
    ]
    identity = type(old.spec.identity).model_fields
    paths += [
        f"spec.identity.{_camel(key)}"
        for key in identity
        if key not in LIVE_IDENTITY and _differs(old.spec.identity, new.spec.identity, key)
    ]
    groups = {group.name: group for group in old.spec.groups}
    for index, group in enumerate(new.spec.groups):
        before = groups.get(group.name)
        if before is not None and before.model_copy(update={"nodes": group.nodes}) != group:
            paths.append(f"spec.groups[{index}] (only its nodes are live)")
    return paths


def merged(document: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged by key, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _differs(old: object, new: object, key: str) -> bool:
    return bool(getattr(old, key) != getattr(new, key))


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)
