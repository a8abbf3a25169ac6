"""Pages of documents and of what is printed, from their JSON Schemas."""

import json
from collections.abc import Iterator
from typing import Any

from docs.website.markup import block, code, page, plain, table

from p2pnet.cli.documents import KINDS
from p2pnet.cli.verbs.schema import schema_of

WRITTEN = {"subnet": "examples/subnet.yaml", "scenario": "examples/scenarios/slow-link.yaml"}
WRITTEN["injection"] = "examples/injection.yaml"
"""Documents that people write, each with an example."""
WHOLE = "The whole document"
PATTERN_CHARACTERS = 80
"""A longer pattern is left to the schema itself; the field's meaning has an example."""
PRINTED = tuple(kind for kind in KINDS if kind not in WRITTEN)
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
}


def document_page(kind: str, example: str = "") -> str:
    """A kind of `p2pnet schema`: each object that it is made of, each field's type, default and meaning; `example` is YAML."""
    schema = schema_of(kind)
    intro = (
        f"Generated from the JSON Schema that `p2pnet schema {kind}` prints "
        f"([all schemas](../schemas.md)); {'camelCase as written' if example else 'as `-o json` prints it'}."
    )
    shown = block(example, "yaml") if example else ""
    sections = [_section(kind, name, body) for name, body in objects(kind, schema)]
    return page(f"# {kind.capitalize()}", plain(schema.get("description", "")), intro, shown, *sections)


def objects(kind: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and schema of the whole document, and of each shape in it, as a reader from the top meets them."""
    shapes = schema.get("$defs", {})
    yield kind, schema
    seen, waiting = set(), list(_references(schema.get("properties", {})))
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen.add(name)
            yield name, shapes[name]
            waiting += _references(shapes[name])


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _section(kind: str, name: str, body: dict[str, Any]) -> str:
    required = set(body.get("required", ()))
    rows = [
        (
            code(field),
            type_words(kind, one),
            "required" if field in required else code(json.dumps(one["default"])) if "default" in one else "",
            plain(one.get("description", "")),
        )
        for field, one in body.get("properties", {}).items()
    ]
    meaning = plain(body.get("description", "")) if name != kind else ""
    fields = table(("field", "type", "default", "meaning"), rows) or type_words(kind, body)
    return page(f"({_target(kind, name)})=\n## {WHOLE if name == kind else name}", meaning, fields).rstrip()


def _target(kind: str, name: str) -> str:
    return f"shape-{kind}" if name == kind else f"shape-{kind}-of-{name}".lower().replace("_", "-")


def type_words(kind: str, node: dict[str, Any]) -> str:
    """What a value may be, as Markdown with links to the shapes on the page of `kind`."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return f"[{name}](#{_target(kind, name)})"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in node:
            return " or ".join(dict.fromkeys(type_words(kind, one) for one in node[choice]))
    if "enum" in node or "const" in node:
        return ", ".join(code(json.dumps(one)) for one in node.get("enum", [node.get("const")]))
    return ", ".join([_kind_words(kind, node), *_bounds(node)])


def _kind_words(kind: str, node: dict[str, Any]) -> str:
    name = node.get("type", "any value")
    if name == "array" and isinstance(node.get("items"), dict):
        return f"list of {type_words(kind, node['items'])}"
    if name == "array" and "prefixItems" in node:
        return "list of " + ", ".join(type_words(kind, one) for one in node["prefixItems"])
    if name == "object" and isinstance(node.get("additionalProperties"), dict):
        return f"map to {type_words(kind, node['additionalProperties'])}"
    return " or ".join(name) if isinstance(name, list) else str(name)


def _bounds(node: dict[str, Any]) -> Iterator[str]:
    for key, words in _BOUNDS.items():
        if key in node:
            yield words.format(node[key])
    if len(node.get("pattern", "x" * PATTERN_CHARACTERS)) < PATTERN_CHARACTERS:
        yield f"like {code(node['pattern'])}"


def schema_text(kind: str) -> str:
    """The JSON Schema itself."""
    return json.dumps(schema_of(kind), indent=2) + "\n"


def schemas_page() -> str:
    """Where each JSON Schema is, whole and as a page."""
    rows = [
        (
            f"[{kind}]({'documents' if kind in WRITTEN else 'printed'}/{kind}.md)",
            f'<a href="../schemas/{kind}.json">{kind}.json</a>',
        )
        for kind in KINDS
    ]
    intro = "JSON Schemas (2020-12) of what p2pnet reads and prints, for editors and checks; `p2pnet schema KIND` prints them."
    toc = "```{toctree}\n:hidden:\n:glob:\n\nprinted/*\n```"
    return page("# JSON Schemas", intro, table(("kind", "schema"), rows), toc)
