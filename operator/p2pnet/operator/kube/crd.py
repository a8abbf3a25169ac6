"""CustomResourceDefinitions: from a JSON Schema of pydantic to a structural schema of Kubernetes, and what goes around it. Pure.

Defaults, references, nulls and closed objects are left out: an API server takes none of them, or makes more of them than we.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from p2pnet.model import limits
from p2pnet.operator.kube.api import ResourceKind
from p2pnet.operator.kube.cel import CelRule, is_like, text_rule

Schema = dict[str, Any]

PATTERN_WORDS = "patternErrorMessage"
"""Key of a text in a JSON Schema: what one that is not of its pattern is told after `'5' is`."""
_EXACT_END = 1 << 53  # numbers of a CustomResourceDefinition are JSON's
ITEMS = "[]"
"""Path step: the items of a list."""
NO_RULES: Mapping[str, CelRule] = MappingProxyType({})
VALUES = "{}"
"""Path step: the values of an object whose keys are the user's."""


def definition(kind: ResourceKind, version: Schema, *, short: str) -> Schema:
    """A namespaced definition with one version, of which `version` says all but its name; `short`: a name to type."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group, "scope": "Namespaced",
            "versions": [{"name": kind.version, "served": True, "storage": True, **version}],
            "names": {
                "kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower(), "listKind": f"{kind.kind}List",
                "shortNames": [short], "categories": ["p2pnet", "all"],
            },
        },
    }  # fmt: skip


def validation(check: CelRule) -> Schema:
    """A rule as the API server takes it: a message with values is an expression, with a fixed one should that fail."""
    found: Schema = {"rule": check.rule, "message": check.message}
    if check.message_expression:
        found["messageExpression"] = check.message_expression
    if check.path:
        found["fieldPath"] = check.path
    return found


def structural(schema: Schema, defs: Schema, more: Mapping[str, CelRule] = NO_RULES) -> Schema:
    """A JSON Schema of pydantic as a structural schema: without references, nulls, defaults and closed objects.

    `more`: what else holds of texts, by their pattern, for those that are of it.
    """
    if "$ref" in schema:
        return structural(
            {**defs[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}, defs, more
        )
    choices = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(choices) == 1:
        outer = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return structural({**choices[0], **outer}, defs, more)
    described = {"description": " ".join(schema["description"].split())} if "description" in schema else {}
    if choices or schema.get("x-kubernetes-int-or-string"):
        return _int_or_string(schema) | described
    found = {key: schema[key] for key in _KEPT if key in schema} | described
    if PATTERN_WORDS in schema:
        del found["pattern"]  # a rule says it in words
        add_rules(found, [text_rule(schema["pattern"], schema[PATTERN_WORDS])])
        add_rules(found, [rule for pattern, rule in more.items() if pattern == schema["pattern"]])
    if schema.get("type") == "integer" and schema.get("exclusiveMaximum", _EXACT_END) < _EXACT_END:
        found["maximum"] = schema["exclusiveMaximum"] - 1
    if "const" in schema:
        found |= {"type": "string", "enum": [schema["const"]]}
    if schema.get("type") == "integer":
        found["format"] = "int64"
    if schema.get("type") == "string" and "enum" not in found:
        found.setdefault("maxLength", limits.NAME_CHARS_MAX)  # CEL's cost is estimated from bounds
    if "items" in schema:
        found["items"] = structural(schema["items"], defs, more)
    if "properties" in schema:
        found["properties"] = {key: structural(value, defs, more) for key, value in schema["properties"].items()}
    elif schema.get("type") == "object":
        found |= _open(schema, defs, more)
    return found


def _int_or_string(schema: Schema) -> Schema:
    """A number or a string: the only union in the document."""
    chars = next((one["maxLength"] for one in (schema, *schema.get("anyOf", [])) if "maxLength" in one), None)
    found: Schema = {"x-kubernetes-int-or-string": True, "maxLength": chars or limits.NAME_CHARS_MAX}
    if PATTERN_WORDS in schema:
        words, is_one = schema[PATTERN_WORDS], is_like("self", schema["pattern"])
        low = schema["minimum"]
        rule = f"type(self) == int ? self >= {low} : {is_one}"
        add_rules(found, [CelRule(rule, words, f"'\\'' + string(self) + '\\' is {words}'")])
    return found


def add_rules(part: Schema, checks: Iterable[CelRule]) -> None:
    """Give a part these rules. Those of a text are asked of texts alone that are of its pattern."""
    known: list[Schema] = part.setdefault("x-kubernetes-validations", [])
    first = known[0]["rule"] if known else ""
    is_one = first if first.startswith("self.matches(") else ""
    guarded = (check._replace(rule=f"!{is_one} || ({check.rule})") if is_one else check for check in checks)
    known.extend(map(validation, guarded))


def _open(schema: Schema, defs: Schema, more: Mapping[str, CelRule]) -> Schema:
    """An object whose keys are the user's."""
    values = schema.get("additionalProperties", True)
    if values is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return {"additionalProperties": structural(values, defs, more)}


def part_at(spec: Schema, path: tuple[str, ...]) -> Schema:
    """The part of a schema at a path of keys, ITEMS and VALUES."""
    inner = {ITEMS: "items", VALUES: "additionalProperties"}
    for step in path:
        spec = spec[inner[step]] if step in inner else spec["properties"][step]
    return spec


def text(chars: int = limits.NAME_CHARS_MAX) -> Schema:
    """A text of at most so many characters."""
    return {"type": "string", "maxLength": chars}


def count() -> Schema:
    """A whole number."""
    return {"type": "integer", "format": "int64"}


def fields(**properties: Schema) -> Schema:
    """An object with these fields."""
    return {"type": "object", "properties": properties}


def said(schema: Schema, words: str) -> Schema:
    """The schema with what `kubectl explain` says of it."""
    return {**schema, "description": words}


def conditions(types: str) -> Schema:
    """The list of conditions of a status; `types` says which there are: `Ready or Paused`."""
    condition = {
        **fields(
            type=said(text(), f"{types}."),
            status=said({"type": "string", "enum": ["True", "False", "Unknown"]}, "True, False or Unknown."),
            reason=said(text(1024), "Why, in one word."),
            message=said(text(32768), "Why, in a sentence."),
            lastTransitionTime=said({"type": "string", "format": "date-time"}, "When the status became what it is."),
            observedGeneration=said(count(), "The generation of the document by which this was judged."),
        ),
        "required": ["type", "status", "reason", "lastTransitionTime"],
    }  # fmt: skip
    return {
        "type": "array", "maxItems": 16, "items": condition, "description": "What holds, and why.",
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    }  # fmt: skip


_KEPT = (
    "type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "maxProperties",
    "minProperties", "required",
)  # fmt: skip
