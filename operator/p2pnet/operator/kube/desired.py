"""Desired objects, whether an observed one is up to date, and the actions that make it so. Pure.

An object that is up to date is not written: that is what keeps an operator at rest from writing at all.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from p2pnet.operator.kube.api import CLAIM, RECOMMENDED_LABELS, Object, ResourceKind, annotations_of

HASH = "p2pnet.io/spec-hash"
"""Annotation: digest of the desired object that was applied last."""
HASH_CHARS = 16

_EXACT = {"selector", "podSelector"}
"""Fields that must be equal: with one label more a selector would select other objects."""


def digest(value: Any) -> str:
    """A short stable hash of JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def with_hash(body: Object) -> Object:
    """The desired object with a hash of itself as an annotation; of a Secret the hash covers the keys, not the values."""
    hashed = {key: value for key, value in body.items() if key != "data" or body.get("kind") != "Secret"}
    if body.get("kind") == "Secret":
        # Keys alone: a hash of secret values does not belong into an annotation, which more people may read.
        hashed["data"] = sorted(body.get("data") or {})
    metadata = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
    if "labels" in metadata:  # a pod is not replaced for a label that nothing selects by: it is given it
        metadata["labels"] = {key: one for key, one in metadata["labels"].items() if key not in RECOMMENDED_LABELS}
    annotations = {**(metadata.get("annotations") or {}), HASH: digest({**hashed, "metadata": metadata})}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def up_to_date(desired: Object, observed: Object | None) -> bool:
    """Whether a write would change nothing.

    The hash tells whether the same object was applied last (so no field has to be removed), the comparison whether
    anybody has changed it since. Fields that others added are left to them.
    """
    if observed is None or annotations_of(observed).get(HASH) != annotations_of(desired).get(HASH):
        return False
    metadata = {key: value for key, value in desired["metadata"].items() if key != "ownerReferences"}
    if desired["kind"] == CLAIM.kind:  # the server rewrites quantities, and a claim cannot be changed except to grow
        return contains(observed, {"metadata": metadata})
    # Items of a list come without apiVersion and kind; and owners were checked when the object was observed.
    rest = {key: value for key, value in desired.items() if key not in ("apiVersion", "kind")}
    return contains(observed, {**rest, "metadata": metadata})


def contains(observed: Any, desired: Any) -> bool:
    """Whether the observed value has every desired one: lists are compared item by item, selectors as a whole."""
    if isinstance(desired, dict):
        return isinstance(observed, dict) and all(
            observed.get(key) == value if key in _EXACT else contains(observed.get(key), value)
            for key, value in desired.items()
            if value not in (None, {}, [])  # the server drops empty values
        )
    if isinstance(desired, list):
        return (
            isinstance(observed, list)
            and len(observed) == len(desired)
            and all(contains(a, b) for a, b in zip(observed, desired, strict=True))
        )
    return bool(observed == desired)


@dataclass(frozen=True)
class Create:
    """Create an object that must not exist yet: a pod, or a Secret with random content."""

    kind: ResourceKind
    body: Object


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole desired object."""

    kind: ResourceKind
    body: Object


@dataclass(frozen=True)
class Patch:
    """Merge patch, refused when the object was written since it was read (`metadata.resourceVersion` in the body)."""

    kind: ResourceKind
    name: str
    body: Object


@dataclass(frozen=True)
class Delete:
    """Delete the object with this uid; `why` is for the log. `force`: a pod, without waiting for its kubelet."""

    kind: ResourceKind
    name: str
    uid: str
    why: str
    force: bool = False


Action = Create | Apply | Patch | Delete
