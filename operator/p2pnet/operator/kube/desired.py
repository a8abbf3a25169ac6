"""Intents: objects as they should be, and whether what stands there already says so. Pure; this is what makes rest quiet."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from p2pnet.operator.kube.api import CLAIM, Object, ResourceKind, annotations_of

HASH = "p2pnet.io/spec-hash"
"""Annotation: digest of what the object was made from."""
HASH_CHARS = 16


_WHOLE = {"selector", "podSelector"}
"""A selector that asks for more means somebody else: here nothing of others may stand beside."""


def digest(value: Any) -> str:
    """A short stable hash of JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def with_hash(body: Object) -> Object:
    """The intent with the hash of itself as an annotation. Values of a Secret stay out of it, their names do not."""
    hashed = {key: value for key, value in body.items() if key != "data" or body.get("kind") != "Secret"}
    if body.get("kind") == "Secret":
        hashed["data"] = sorted(body.get("data") or {})
    metadata = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
    annotations = {**(metadata.get("annotations") or {}), HASH: digest({**hashed, "metadata": metadata})}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def up_to_date(desired: Object, observed: Object | None) -> bool:
    """Whether a write would change nothing.

    The hash tells whether the intent is the one applied last (so nothing has to be taken away), the comparison
    whether somebody edited it since. What others added beside it is theirs.
    """
    if observed is None or annotations_of(observed).get(HASH) != annotations_of(desired).get(HASH):
        return False
    if desired["kind"] == CLAIM.kind:
        return True  # the server writes amounts in its own way, and a claim cannot change but grow
    metadata = {key: value for key, value in desired["metadata"].items() if key != "ownerReferences"}
    # A list's items come without apiVersion and kind; and it is ours already, else it were not observed.
    told = {key: value for key, value in desired.items() if key not in ("apiVersion", "kind")}
    return contains(observed, {**told, "metadata": metadata})


def contains(observed: Any, desired: Any) -> bool:
    """Whether every value of the intent stands in what is observed; lists are compared place by place, selectors as a whole."""
    if isinstance(desired, dict):
        return isinstance(observed, dict) and all(
            observed.get(key) == value if key in _WHOLE else contains(observed.get(key), value)
            for key, value in desired.items()
            if value not in (None, {}, [])
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
    """Make what must not exist yet: pods, and secrets that are drawn once."""

    kind: ResourceKind
    body: Object


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole intent."""

    kind: ResourceKind
    body: Object


@dataclass(frozen=True)
class Patch:
    """Change an object only if nobody else has since it was read."""

    kind: ResourceKind
    name: str
    body: Object


@dataclass(frozen=True)
class Delete:
    """Delete exactly this object; `why` is for the log."""

    kind: ResourceKind
    name: str
    uid: str
    why: str


Action = Create | Apply | Patch | Delete
