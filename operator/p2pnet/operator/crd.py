"""The CustomResourceDefinition, made from the document's own model: one source for a shape. Pure.

What JSON Schema and Kubernetes' structural schemas say differently is translated; what a schema cannot say stands here
as CEL; what CEL cannot say within its cost limit is checked again in every reconcile. Unset fields stay unset, but for
those that never change: a default makes the API server notice when one of these is taken away.
"""

from typing import Any

from p2pnet.model import limits
from p2pnet.model.subnet import subnet_json_schema
from p2pnet.operator.api import SUBNET

Schema = dict[str, Any]

NAME_CHARS_MAX = 40
IMMUTABLE: dict[tuple[str, ...], object] = {
    ("identity", "trustDomain"): "p2pnet",
    ("identity", "issuer"): "builtin",
    ("discovery", "mode"): "registry",
    ("nodesPerPod",): 1,
    ("seed",): 42,
}
"""Path in the spec -> its default."""
MAP_LISTS: tuple[tuple[str, ...], ...] = (("groups",), ("clients",), ("faults",))
"""Lists whose entries are known by their name, which is there once."""

_NODES = "(has(self.nodes) ? self.nodes : (has(self.groups) && size(self.groups) > 0 ? 0 : 3))"
_TOTAL = f"{_NODES} + (has(self.groups) ? self.groups.map(g, g.nodes).sum() : 0)"
_KIND = "(has(self.kind) ? self.kind : 'full')"
_SPARSE = "has(self.topology) && has(self.topology.kind) && self.topology.kind != 'full'"

RULES: dict[tuple[str, ...], list[tuple[str, str]]] = {
    (): [
        (f"{_TOTAL} >= 1 && {_TOTAL} <= {limits.NODES_MAX}", f"a subnet has 1 to {limits.NODES_MAX} nodes in all groups"),
        (
            "!has(self.groups) || self.groups.all(g, g.name != 'node')",
            "'node' is the group of spec.nodes; choose another name",
        ),
        (
            f"!({_SPARSE}) || !has(self.broadcast) || !has(self.broadcast.relay) || self.broadcast.relay != 'none'",
            "broadcast.relay none with a sparse topology: only a publisher's peers would get it",
        ),
        (
            f"!({_SPARSE}) || self.discovery.mode != 'seeds'",
            "discovery.mode seeds with a sparse topology: edges need the registry",
        ),
    ],
    ("identity",): [
        ("(self.issuer == 'certManager') == has(self.issuerRef)", "issuerRef belongs to issuer certManager, which needs it"),
    ],
    ("topology",): [
        (
            f"{_KIND} == 'edges' || ((!has(self.edges) || size(self.edges) == 0) && !has(self.edgesFrom))",
            "edges and edgesFrom belong to kind edges",
        ),
        (f"!has(self.degree) || !({_KIND} in ['full', 'edges'])", "a full mesh and given edges have no degree"),
        (
            "!has(self.degree) || !has(self.kind) || !(self.kind in ['ring', 'small-world']) || self.degree % 2 == 0",
            "a ring and a small world have as many peers on either side: make degree even",
        ),
        (
            "!has(self.edges) || size(self.edges) == 0 || !has(self.edgesFrom)",
            "give either edges or edgesFrom",
        ),
    ],
}  # fmt: skip
"""Path in the spec -> CEL and what to say when it is false."""


def crd() -> Schema:
    """The CustomResourceDefinition `subnets.p2pnet.io`."""
    version = {
        "name": SUBNET.api.rpartition("/")[2], "served": True, "storage": True,
        "schema": {"openAPIV3Schema": root_schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.nodes", "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": COLUMNS,
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{SUBNET.plural}.{SUBNET.group}"},
        "spec": {
            "group": SUBNET.group, "scope": "Namespaced", "versions": [version],
            "names": {
                "kind": SUBNET.kind, "plural": SUBNET.plural, "singular": "subnet", "listKind": "SubnetList",
                "shortNames": ["snet"], "categories": ["p2pnet", "all"],
            },
        },
    }  # fmt: skip


def root_schema() -> Schema:
    """The structural schema of a Subnet."""
    document = subnet_json_schema()
    spec = structural(document["$defs"]["Spec"], document["$defs"])
    spec["properties"]["nodes"]["maximum"] = limits.NODES_MAX
    _at(spec, ("groups",))["items"]["properties"]["nodes"]["maximum"] = limits.NODES_MAX
    for names in MAP_LISTS:
        _at(spec, names).update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})
    for path, value in IMMUTABLE.items():
        _at(spec, path)["default"] = value
        said = f"{'.'.join(path)} cannot be changed: make another subnet"
        _at(spec, path)["x-kubernetes-validations"] = [{"rule": "self == oldSelf", "message": said}]
        if len(path) > 1:
            # whole, for the API server judges a default by the rules before it fills in what is inside
            _at(spec, path[:1]).setdefault("default", {})[path[1]] = value
    for place, rules in RULES.items():
        _at(spec, place)["x-kubernetes-validations"] = [{"rule": rule, "message": said} for rule, said in rules]
    spec["default"] = {key: part["default"] for key, part in spec["properties"].items() if "default" in part}
    name = document["$defs"]["Metadata"]["properties"]["name"]
    return {
        "type": "object",
        "description": "A subnet of p2pnet: nodes, who is connected to whom, and what the links do.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": NAME_CHARS_MAX, "pattern": name["pattern"]}},
            },
            "spec": spec,
            "status": STATUS,
        },
    }


def structural(schema: Schema, defs: Schema) -> Schema:
    """A JSON Schema of pydantic's as Kubernetes takes it: no references, no nulls, no defaults, no closed objects."""
    if "$ref" in schema:
        return structural(
            {**defs[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}, defs
        )
    choices = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(choices) == 1:
        outer = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return structural({**choices[0], **outer}, defs)
    if choices:
        return {"x-kubernetes-int-or-string": True}  # the one kind of choice the document has
    if schema.get("x-kubernetes-int-or-string"):
        return {"x-kubernetes-int-or-string": True}
    found = {key: schema[key] for key in _KEPT if key in schema}
    if "description" in schema:
        found["description"] = " ".join(schema["description"].split())
    if "const" in schema:
        found |= {"type": "string", "enum": [schema["const"]]}
    if schema.get("type") == "integer":
        found["format"] = "int64"
    if schema.get("type") == "string" and "enum" not in found:
        found.setdefault("maxLength", limits.NAME_CHARS_MAX)  # CEL's cost is reckoned from bounds
    if "items" in schema:
        found["items"] = structural(schema["items"], defs)
    if "properties" in schema:
        found["properties"] = {key: structural(value, defs) for key, value in schema["properties"].items()}
    elif schema.get("type") == "object":
        found |= _open(schema, defs)
    return found


def _open(schema: Schema, defs: Schema) -> Schema:
    """An object whose keys are the user's."""
    values = schema.get("additionalProperties", True)
    if values is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return {"additionalProperties": structural(values, defs)}


def _at(spec: Schema, path: tuple[str, ...]) -> Schema:
    for step in path:
        spec = spec["properties"][step]
    return spec


_KEPT = (
    "type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "maxProperties",
    "minProperties", "required",
)  # fmt: skip


def _text(chars: int = limits.NAME_CHARS_MAX) -> Schema:
    return {"type": "string", "maxLength": chars}


def _count() -> Schema:
    return {"type": "integer", "format": "int64"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


_CONDITION = {
    **_object(
        type=_text(), status={"type": "string", "enum": ["True", "False", "Unknown"]}, reason=_text(1024),
        message=_text(32768), lastTransitionTime={"type": "string", "format": "date-time"}, observedGeneration=_count(),
    ),
    "required": ["type", "status", "reason", "lastTransitionTime"],
}  # fmt: skip

STATUS: Schema = _object(
    observedGeneration=_count(), ready=_text(), connected=_text(), replicas=_count(), readyReplicas=_count(),
    updatedReplicas=_count(), selector=_text(1024), registryVersion=_count(), expiresAt=_text(),
    nodes=_object(desired=_count(), ready=_count(), connected=_count()),
    certificates=_object(issued=_count(), earliestExpiry=_text()),
    authority=_object(fingerprint=_text(), notAfter=_text(), phase=_text(), replaced=_text(4096)),
    lastReport=_object(run=_text(), state=_text(), verdict=_text(), reach=_text(), p95=_text()),
    conditions={
        "type": "array", "maxItems": 16, "items": _CONDITION,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    },
)  # fmt: skip
"""Every field `status` writes: what is not here, the API server drops."""

COLUMNS = [
    {"name": "Ready", "type": "string", "jsonPath": ".status.ready"},
    {"name": "Connected", "type": "string", "jsonPath": ".status.connected"},
    {"name": "Reach", "type": "string", "jsonPath": ".status.lastReport.reach"},
    {"name": "P95", "type": "string", "jsonPath": ".status.lastReport.p95"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Reason", "type": "string", "priority": 1, "jsonPath": '.status.conditions[?(@.type=="Ready")].reason'},
    {"name": "Expiry", "type": "string", "priority": 1, "jsonPath": ".status.certificates.earliestExpiry"},
]
"""`kubectl get` prints the names in capitals."""
