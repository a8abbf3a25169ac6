"""The Subnet document: what a person writes, the same on every target. This module is its door.

Imported by lab, operator, sim and cli; never by a node, which starts without pydantic. Shapes stand in `subnet_spec`,
what shapes cannot say in `subnet_checks`, what a target cannot do yet in `subnet_support`.
"""

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.subnet_checks import (
    TopologyPlan,
    client_among,
    client_specs,
    contradictions,
    members,
    topology_of,
)
from p2pnet.model.subnet_spec import API_VERSION, Subnet
from p2pnet.model.subnet_support import IGNORED, ignored, unsupported, without_fields
from p2pnet.model.subnet_units import Document

__all__ = [
    "API_VERSION",
    "IGNORED",
    "Subnet",
    "TopologyPlan",
    "client_among",
    "client_specs",
    "default_subnet",
    "digest_of",
    "honoured",
    "ignored",
    "in_force",
    "kept_annotations",
    "load_subnet",
    "members",
    "subnet_json_schema",
    "to_document",
    "topology_of",
    "unsupported",
    "without_nulls",
]

DOCUMENT_BYTES_MAX = 2 * limits.MIB  # 10,000 edges are 300 KiB; etcd takes 1.5 MiB
ERRORS_SHOWN_MAX = 10


def load_subnet(
    document: str | bytes | Mapping[str, Any], source: str = "", *, nodes_max: int = limits.NODES_MAX
) -> Subnet:
    """The checked document in a YAML (or JSON) text or in a parsed value. `nodes_max` is the simulator's to raise.

    Raises one SpecError with a line per mistake, at most 10, each `spec.groups[0].nodes: what is wrong`; `source` (a
    file name) goes before them.
    """
    where = f"{source}: " if source else ""
    value = document if isinstance(document, Mapping) else _parse(document, where)
    try:
        subnet = Subnet.model_validate(dict(value))
    except ValidationError as error:
        # A default that waits for a field that is wrong is no mistake of its own.
        found = [one for one in error.errors(include_url=False) if one["type"] != "default_factory_not_called"]
        raise _spec_error(where, [_sentence(one) for one in found]) from None
    mistakes = contradictions(subnet, nodes_max)
    if mistakes:
        raise _spec_error(where, [f"{path}: {text}" for path, text in mistakes])
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
    return load_subnet(document)


def kept_annotations(annotations: Mapping[str, str] | None) -> dict[str, dict[str, str]]:
    """What of a document's annotations goes with it wherever it goes: a part of `metadata`, empty when there is nothing."""
    said = (annotations or {}).get(IGNORED)
    return {"annotations": {IGNORED: said}} if said else {}


def without_nulls(value: Any) -> Any:
    """A spec as an API server keeps it, without the nulls that mean "unset" there; a client's settings are its own."""
    if isinstance(value, Mapping):
        return {key: one if key == "settings" else without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def digest_of(subnet: Subnet) -> str:
    """Of what a document says: SHA-256 of its spec, the first 16 hex digits."""
    text = json.dumps(to_document(subnet)["spec"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def subnet_json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    schema = Subnet.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://p2pnet.io/schemas/subnet.v1alpha1.json",
        **schema,
    }


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is a mistake, not the last word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    value: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is no text: quote it", key_node.start_mark
            )
        if key in value:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands here twice", key_node.start_mark)
        value[key] = loader.construct_object(value_node, deep=True)
    return value


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse(text: str | bytes, where: str) -> Mapping[str, Any]:
    if len(text) > DOCUMENT_BYTES_MAX:
        raise SpecError(f"{where}the document is larger than {DOCUMENT_BYTES_MAX >> 20} MiB")
    try:
        documents = [one for one in yaml.load_all(text, _Loader) if one is not None]  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{where}not YAML: {_yaml_words(error)}") from error
    if len(documents) != 1:
        raise SpecError(f"{where}one Subnet document is wanted, {len(documents)} are here")
    if not isinstance(documents[0], dict):
        raise SpecError(f"{where}a Subnet document is a mapping with apiVersion, kind, metadata and spec")
    return documents[0]


def _yaml_words(error: Exception) -> str:
    """Where in the text, and what is wrong there; the parser's own words also quote a source nobody named."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f"byte {error.position}: {error.reason}" if isinstance(error, yaml.reader.ReaderError) else str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _spec_error(where: str, sentences: list[str]) -> SpecError:
    shown = sentences[:ERRORS_SHOWN_MAX]
    if len(sentences) > len(shown):
        shown.append(f"... and {len(sentences) - len(shown)} more")
    return SpecError(
        where + shown[0] if len(shown) == 1 else f"{where}{len(sentences)} mistakes\n  " + "\n  ".join(shown)
    )


def _sentence(error: ErrorDetails) -> str:
    """`spec.groups[0].nodes: ...` out of pydantic's error."""
    path = ""
    for part in error["loc"]:
        if part == "[key]":  # pydantic's mark for "the key itself"
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    message = (
        error["msg"].removeprefix("Input ").replace("Field required", "is missing").replace("String should", "should")
    )
    if error["type"] == "extra_forbidden":
        near = get_close_matches(str(error["loc"][-1]), _known_keys(), n=1)
        message = f"unknown key, did you mean {near[0]!r}?" if near else "unknown key"
    elif error["type"].endswith("_type") and not isinstance(error["input"], dict | list):
        message += f", not {error['input']!r}"
    return f"{path or 'the document'}: {message}"


def _known_keys() -> list[str]:
    """Every key of every part: good enough to guess what a misspelt one meant."""
    parts = [Document]
    for part in parts:
        parts += part.__subclasses__()
    return sorted({field.alias or name for part in parts for name, field in part.model_fields.items()})
