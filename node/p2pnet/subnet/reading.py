"""From a YAML or JSON text to one Subnet document, as kubectl reads it. Used by `subnet` and by those who read people's files.

What kubectl takes is taken: several documents, a List, merge keys, what YAML 1.1 of Go makes of a scalar (a date is
text, so is `12:30`, `1e3` is a number). What it refuses is refused: a key given twice, aliases that multiply.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.text import some

DOCUMENT_BYTES_MAX = 2 * limits.MIB  # 10,000 edges are 300 KiB; etcd takes 1.5 MiB
VALUES_MAX = 500_000  # with every alias written out; 10,000 edges are 30,000
DOCUMENTS_MAX = 1_000  # in one text
NAMED_MAX = 5  # of what else is in a text


@dataclass(frozen=True, slots=True)
class Found:
    """The document of a text that is meant, and what else stands there: `Kind name` each."""

    document: Mapping[str, Any]
    others: tuple[str, ...] = ()


def find_subnet(text: str | bytes, source: str = "", *, name: str | None = None, kind: str = "Subnet") -> Found:
    """The one Subnet document in a text; with `name` the one of that metadata.name if there are several. `kind`: another one.

    Raises SpecError for what is no YAML or JSON, and where none or several are meant; `source` (a file name) goes first.
    """
    where = f"{source}: " if source else ""
    documents = list(_unfolded(_documents(text, where), where, kind))
    if len(documents) == 1:
        return Found(documents[0])
    subnets = [one for one in documents if one.get("kind") == kind]
    named = [one for one in subnets if _name(one) == name]
    chosen = named if len(subnets) > 1 and name is not None else subnets
    if len(chosen) != 1:
        raise SpecError(where + _not_one(documents, subnets, kind))
    return Found(chosen[0], tuple(_label(one) for one in documents if one is not chosen[0]))


def values_of(text: str | bytes, source: str = "") -> list[Any]:
    """Every document in a YAML or JSON text that is not empty, as JSON values. Raises SpecError for what is neither."""
    return _documents(text, f"{source}: " if source else "")


def named(others: Iterable[str]) -> str:
    """`Namespace team, Service web and 3 more`."""
    return some(others, NAMED_MAX)


def _not_one(documents: list[Mapping[str, Any]], subnets: list[Mapping[str, Any]], kind: str) -> str:
    if subnets:
        return f"one {kind} document is wanted, {len(subnets)} are here: {named(map(_label, subnets))}; give a NAME"
    if documents:
        return f"one {kind} document is wanted, none is here, only {named(map(_label, documents))}"
    return f"one {kind} document is wanted, none is here"


def _name(document: Mapping[str, Any]) -> object:
    metadata = document.get("metadata")
    return metadata.get("name") if isinstance(metadata, Mapping) else None


def _label(document: Mapping[str, Any]) -> str:
    return " ".join(
        str(part)[:63] for part in (document.get("kind") or "a document without kind", _name(document)) if part
    )


def _unfolded(values: list[Any], where: str, kind: str) -> Iterator[Mapping[str, Any]]:
    """The documents, a List's items among them."""
    for value in values:
        if not isinstance(value, Mapping):
            raise SpecError(f"{where}a {kind} document is a mapping with apiVersion, kind, metadata and spec")
        items = value.get("items")
        if value.get("kind") in ("List", f"{kind}List") and isinstance(items, list):
            yield from _unfolded(items, where, kind)
        else:
            yield value


def _documents(text: str | bytes, where: str) -> list[Any]:
    if len(text) > DOCUMENT_BYTES_MAX:
        raise SpecError(f"{where}the document is larger than {DOCUMENT_BYTES_MAX >> 20} MiB")
    try:
        values = _json_documents(text)
        if values is None:
            values = [one for one in yaml.load_all(text, _Loader) if one is not None]  # a SafeLoader
        if len(values) > DOCUMENTS_MAX:
            raise SpecError(f"{where}more than {DOCUMENTS_MAX} documents")
        if sum(_size(value, {}) for value in values) > VALUES_MAX:
            raise SpecError(f"{where}more than {VALUES_MAX:,} values, aliases written out")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{where}not YAML: {_yaml_words(error)}") from error
    return values


def _json_documents(text: str | bytes) -> list[Any] | None:
    """The values in a JSON text: one, or several one after the other. None when it is none: YAML then tells more."""
    try:
        rest = text if isinstance(text, str) else text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    rest = rest.removeprefix("\ufeff").lstrip()
    if not rest.startswith("{"):
        return None
    decoder, at = json.JSONDecoder(object_pairs_hook=_json_object), 0
    values: list[Any] = []
    while at < len(rest) and len(values) <= DOCUMENTS_MAX:  # one more is one too many
        try:
            value, at = decoder.raw_decode(rest, at)
        except (ValueError, RecursionError):
            return None
        values.append(value)
        at += len(rest[at:]) - len(rest[at:].lstrip())
    return values


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands here twice")  # read again as YAML, which says where
    return value


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values it is with every alias written out; each is looked at once, however often it is meant."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = VALUES_MAX + 1  # of one that holds itself
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


def _yaml_words(error: Exception) -> str:
    """Where in the text, and what is wrong there; the parser's own words also quote a source nobody named."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f"byte {error.position}: {error.reason}" if isinstance(error, yaml.reader.ReaderError) else str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


class _Loader(yaml.SafeLoader):
    """Safe YAML with kubectl's scalars, in which a key given twice is a mistake, not the last word."""


MERGE_TAG, BOOL_TAG, INT_TAG = (f"tag:yaml.org,2002:{kind}" for kind in ("merge", "bool", "int"))
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    own: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if key_node.tag == MERGE_TAG:
            for one in _merged(loader, value_node):
                merged = {**one, **merged}
            continue
        key = _key(loader, key_node)
        if key in own:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands here twice", key_node.start_mark)
        own[key] = loader.construct_object(value_node, deep=True)
    return {**merged, **own}


def _merged(loader: _Loader, node: yaml.Node) -> list[dict[str, Any]]:
    """What `<<` names: a mapping, or several of which the first wins."""
    value = loader.construct_object(node, deep=True)
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in sources):
        raise yaml.constructor.ConstructorError(None, None, "<< takes a mapping, or a list of them", node.start_mark)
    return sources


def _key(loader: _Loader, node: yaml.Node) -> str:
    """As JSON can hold it: a number or a truth value becomes its text, as for kubectl."""
    value = loader.construct_object(node, deep=True)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise yaml.constructor.ConstructorError(None, None, f"key {value!r} is no text: quote it", node.start_mark)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Octal as `0o17` too. More digits than the document's largest number has are no number."""
    text = str(loader.construct_scalar(node)).replace("_", "")
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    base = {"0b": 2, "0x": 16, "0o": 8}.get(digits[:2], 8 if digits.startswith("0") and digits != "0" else 10)
    return sign * int(digits[2:] if digits[:2] in ("0b", "0x", "0o") else digits, base)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's, without its dates, its numbers to base sixty, and its floats that need a point."""
    left_out = [INT_TAG, *(f"tag:yaml.org,2002:{kind}" for kind in ("float", "timestamp", "value"))]
    return {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in left_out]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.yaml_implicit_resolvers = _resolvers()
_Loader.add_implicit_resolver(INT_TAG, re.compile(f"(?:{_INT.pattern})$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+0123456789."))
_Loader.add_constructor(INT_TAG, _integer)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
