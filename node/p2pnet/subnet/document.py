"""The Subnet document, read and written: from text or JSON values to a checked `Subnet`, and back.

Shapes stand in `spec`, what shapes cannot say in `checks`, what a target cannot do in `support`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.subnet.checks import contradictions
from p2pnet.subnet.quantities import Document
from p2pnet.subnet.reading import find_subnet
from p2pnet.subnet.spec import API_VERSION, Subnet
from p2pnet.subnet.support import IGNORED, ignored, unsupported, without_fields

ERRORS_SHOWN_MAX = 10
PLACES_SHOWN_MAX = 3


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
        subnet = Subnet.model_validate(_without_nulls(value))
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


def _without_nulls(value: Any) -> Any:
    """As an API server keeps a document, without the nulls that mean "unset" there; a client's settings are its own."""
    if isinstance(value, Mapping):
        return {key: one if key == "settings" else _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


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
        **_in_lines(schema),
    }


def _in_lines(schema: Any) -> Any:
    """A schema whose descriptions are one line each, wherever the source breaks them."""
    if isinstance(schema, list):
        return [_in_lines(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _in_lines(value)
        for key, value in schema.items()
    }


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
        message = _unknown_key(error["loc"])
    elif error["type"].endswith("_type") and not isinstance(error["input"], dict | list):
        message += f", not {error['input']!r}"
    return f"{path or 'the document'}: {message}"


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    """What a key that is not known there may have meant: one of that place, or one that belongs elsewhere."""
    *place, key = loc
    here = _part_at(place)
    near = get_close_matches(str(key), _keys_of(here), n=1) if here is not None else []
    if near:
        return f"unknown key, did you mean {near[0]!r}?"
    paths = _paths_by_key()
    meant = [str(key)] if str(key) in paths else get_close_matches(str(key), paths, n=1)
    if not meant:
        return "unknown key"
    places = paths[meant[0]][:PLACES_SHOWN_MAX]
    verb = "it belongs to" if meant[0] == key else "did you mean"
    return f"unknown key here, {verb} {' or '.join(places)}" + ("?" if verb == "did you mean" else "")


def _keys_of(part: type[Document]) -> list[str]:
    return [field.alias or name for name, field in part.model_fields.items()]


def _parts_in(annotation: object) -> list[type[Document]]:
    """The parts of the document that a field's type names, in a list or beside None too."""
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts_in(argument)]


def _part_at(place: Sequence[int | str]) -> type[Document] | None:
    """The part of the document at a path; None where keys are the user's own."""
    part: type[Document] | None = Subnet
    for step in place:
        if isinstance(step, int):
            continue
        fields = {field.alias or name: field for name, field in part.model_fields.items()} if part is not None else {}
        inner = _parts_in(fields[step].annotation) if step in fields else []
        part = inner[0] if inner else None
    return part


@cache
def _paths_by_key() -> dict[str, list[str]]:
    """Where every key belongs, the shortest paths first: `degree` -> `spec.topology.degree`."""
    paths: dict[str, list[str]] = {}
    waiting: list[tuple[str, type[Document]]] = [("", Subnet)]
    for prefix, part in waiting:
        for name, field in part.model_fields.items():
            path = prefix + (field.alias or name)
            paths.setdefault(field.alias or name, []).append(path)
            step = "[]." if get_origin(field.annotation) is list else "."
            waiting += [(path + step, inner) for inner in _parts_in(field.annotation)]
    return {key: sorted(found, key=lambda path: (path.count("."), path)) for key, found in paths.items()}
