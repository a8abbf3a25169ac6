"""The Subnet document, read and written: from text or JSON values to a checked `Subnet`, and back.

Shapes stand in `spec`, what shapes cannot say in `checks`, what a target cannot do in `support`.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from p2pnet.model import limits
from p2pnet.subnet.checks import contradictions
from p2pnet.subnet.mistakes import sentences_of, spec_error, without_nulls
from p2pnet.subnet.reading import find_subnet
from p2pnet.subnet.spec import API_VERSION, SIMULATED_NODES_MAX, Subnet
from p2pnet.subnet.support import IGNORED, SIMULATED, ignored, unsupported, without_fields


def load_subnet(
    document: str | bytes | Mapping[str, Any], source: str = "", *, nodes_max: int = limits.NODES_MAX
) -> Subnet:
    """The checked document in a YAML (or JSON) text or in a parsed value. `nodes_max` is the simulator's to raise.

    Raises one SpecError with a line per mistake, at most 10, each `spec.groups[0].nodes: what is wrong`; `source` (a
    file name) goes before them.
    """
    where = f"{source}: " if source else ""
    value = document if isinstance(document, Mapping) else find_subnet(document, source).document
    try:
        subnet = Subnet.model_validate(without_nulls(value))
    except ValidationError as error:
        raise spec_error(sentences_of(error), where) from None
    mistakes = contradictions(subnet, nodes_max)
    if mistakes:
        raise spec_error([f"{path}: {text}" for path, text in mistakes], where)
    return subnet


def default_subnet(name: str, nodes: int, *, nodes_max: int = limits.NODES_MAX) -> Subnet:
    """What `up NAME --nodes N` without a file means. Raises SpecError for a bad name or number."""
    return load_subnet(
        {"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": name}, "spec": {"nodes": nodes}},
        nodes_max=nodes_max,
    )


def to_document(subnet: Subnet) -> dict[str, Any]:
    """The document as JSON values: only what was set, in the words it was set in. `load_subnet` reads it back."""
    document: dict[str, Any] = subnet.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return document


def in_force(subnet: Subnet, target: str) -> dict[str, Any]:
    """The document as a target honours it, as JSON values."""
    return without_fields(to_document(subnet), (line.partition(":")[0] for line in unsupported(subnet, target)))


def honoured(subnet: Subnet, target: str) -> Subnet:
    """The document without what a target cannot honour, and with an annotation that says what that was.

    Raises SpecError where nothing that makes sense is left.
    """
    fields = ignored(subnet, target)
    if not unsupported(subnet, target):
        return subnet
    document = in_force(subnet, target)
    document["metadata"].setdefault("annotations", {})[IGNORED] = "\n".join(fields)
    return load_subnet(document, nodes_max=nodes_max_of(target))


def nodes_max_of(target: str) -> int:
    """How many nodes a subnet on this target may have."""
    return SIMULATED_NODES_MAX if target == SIMULATED else limits.NODES_MAX


def kept_annotations(annotations: Mapping[str, str] | None) -> dict[str, dict[str, str]]:
    """What of a document's annotations goes with it wherever it goes: a part of `metadata`, empty when there is nothing."""
    said = (annotations or {}).get(IGNORED)
    return {"annotations": {IGNORED: said}} if said else {}


def digest_of(subnet: Subnet) -> str:
    """The first 16 hex digits of the SHA-256 of a document's spec."""
    text = json.dumps(to_document(subnet)["spec"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def subnet_json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    schema = Subnet.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://p2pnet.io/schemas/subnet.v1alpha1.json",
        **in_lines(schema),
    }


def in_lines(schema: Any) -> Any:
    """A schema whose descriptions are one line each, wherever the source breaks them."""
    if isinstance(schema, list):
        return [in_lines(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: " ".join(value.split()) if key == "description" and isinstance(value, str) else in_lines(value)
        for key, value in schema.items()
    }
