"""The CustomResourceDefinition, generated from the JSON Schema of the document's model. Pure.

The JSON Schema is translated into a structural schema of Kubernetes; checks that a schema cannot express are CEL rules
(`crd_rules`), and those too expensive for CEL are made in every reconciliation. Defaults are left out except for immutable
fields: with a default the API server refuses the removal of such a field, too.
"""

from typing import Any

from p2pnet.model import limits
from p2pnet.operator.subnet.cel import CelRule
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.crd_rules import RULES
from p2pnet.operator.subnet.status import FAULTS_MAX
from p2pnet.subnet.document import subnet_json_schema
from p2pnet.subnet.edits import immutable_fields

Schema = dict[str, Any]

NAME_CHARS_MAX = 40
ITEMS = "[]"
"""Path step: the items of a list."""
VALUES = "{}"
"""Path step: the values of an object whose keys are the user's."""
MAP_LISTS: tuple[tuple[str, ...], ...] = (("groups",), ("clients",), ("faults",))
"""Lists whose entries have unique names, by which the API server merges them."""


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
    for path, value in immutable_fields().items():
        _at(spec, path)["default"] = value
        said = f"{'.'.join(path)} cannot be changed: make another subnet"
        _at(spec, path)["x-kubernetes-validations"] = [{"rule": "self == oldSelf", "message": said}]
        if len(path) > 1:
            # of the parent, too: the API server checks a default against the rules before it fills in inner defaults
            _at(spec, path[:1]).setdefault("default", {})[path[1]] = value
    for place, checks in RULES.items():
        part = _at(spec, place)
        part["x-kubernetes-validations"] = [*part.get("x-kubernetes-validations", []), *map(_validation, checks)]
    spec["default"] = {key: part["default"] for key, part in spec["properties"].items() if "default" in part}
    name = document["$defs"]["Metadata"]["properties"]["name"]
    return {
        "type": "object",
        "description": "A subnet of p2pnet: nodes, who is connected to whom, and what the links do.",
        "properties": {
            "apiVersion": {"type": "string", "description": "p2pnet.io/v1alpha1."},
            "kind": {"type": "string", "description": "Subnet."},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": NAME_CHARS_MAX, "pattern": name["pattern"]}},
            },
            "spec": spec,
            "status": {**STATUS, "description": "What there is; written by the operator."},
        },
    }


def _validation(check: CelRule) -> Schema:
    """A rule as the API server takes it: a message with values is an expression, with a fixed one should that fail."""
    validation: Schema = {"rule": check.rule, "message": check.message}
    if check.message_expression:
        validation["messageExpression"] = check.message_expression
    if check.path:
        validation["fieldPath"] = check.path
    return validation


def structural(schema: Schema, defs: Schema) -> Schema:
    """A JSON Schema of pydantic as a structural schema: without references, nulls, defaults and closed objects."""
    if "$ref" in schema:
        return structural(
            {**defs[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}, defs
        )
    choices = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(choices) == 1:
        outer = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return structural({**choices[0], **outer}, defs)
    described = {"description": " ".join(schema["description"].split())} if "description" in schema else {}
    if choices or schema.get("x-kubernetes-int-or-string"):
        return {"x-kubernetes-int-or-string": True, **described}  # a number or a string: the only union in the document
    found = {key: schema[key] for key in _KEPT if key in schema} | described
    if "const" in schema:
        found |= {"type": "string", "enum": [schema["const"]]}
    if schema.get("type") == "integer":
        found["format"] = "int64"
    if schema.get("type") == "string" and "enum" not in found:
        found.setdefault("maxLength", limits.NAME_CHARS_MAX)  # CEL's cost is estimated from bounds
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
    inner = {ITEMS: "items", VALUES: "additionalProperties"}
    for step in path:
        spec = spec[inner[step]] if step in inner else spec["properties"][step]
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


def _said(schema: Schema, words: str) -> Schema:
    return {**schema, "description": words}


_CONDITION = {
    **_object(
        type=_said(_text(), "Ready, Progressing, Degraded, CertificatesReady, Connected or Paused."),
        status=_said({"type": "string", "enum": ["True", "False", "Unknown"]}, "True, False or Unknown."),
        reason=_said(_text(1024), "Why, in one word."),
        message=_said(_text(32768), "Why, in a sentence."),
        lastTransitionTime=_said({"type": "string", "format": "date-time"}, "When the status became what it is."),
        observedGeneration=_said(_count(), "The generation of the document by which this was judged."),
    ),
    "required": ["type", "status", "reason", "lastTransitionTime"],
}  # fmt: skip

STATUS: Schema = _object(
    observedGeneration=_said(_count(), "The generation of the document that was looked at last."),
    ready=_said(_text(), "Nodes whose pods are ready, of all, e.g. 9/10."),
    connected=_said(_text(), "Nodes all of whose links are up, of all, e.g. 9/10; ? while nobody can say."),
    replicas=_said(_count(), "Nodes of group node that there are."),
    readyReplicas=_said(_count(), "Nodes of group node whose pods are ready."),
    updatedReplicas=_said(_count(), "Nodes of group node whose pods are as the document wants them."),
    selector=_said(_text(1024), "Labels of the pods of group node, for kubectl scale and autoscalers."),
    registryVersion=_said(_count(), "Version of the list of members."),
    expiresAt=_said(_text(), "When the ttl ends, in RFC 3339."),
    nodes=_said(
        _object(
            desired=_said(_count(), "Nodes that are wanted."), ready=_said(_count(), "Nodes whose pods are ready."),
            connected=_said(_count(), "Nodes all of whose links are up."),
        ),
        "Counts of nodes in all groups.",
    ),
    certificates=_said(
        _object(
            issued=_said(_count(), "Nodes that have a certificate."),
            earliestExpiry=_said(_text(), "When the first of them ends, in RFC 3339."),
        ),
        "Certificates of nodes.",
    ),
    authority=_said(
        _object(
            fingerprint=_said(_text(), "SHA-256 of its certificate."), notAfter=_said(_text(), "When it ends, in RFC 3339."),
            phase=_said(_text(), "How far its replacement is."),
            replaced=_said(_text(4096), "The value of the annotation obeyed."),
        ),
        "The authority that issues certificates.",
    ),
    lastReport=_said(
        _object(
            run=_said(_text(), "The run's id."), state=_said(_text(), "finished or cancelled."),
            verdict=_said(_text(), "pass, fail or invalid."), reach=_said(_text(), "Share of receipts that came, e.g. 100%."),
            p95=_said(_text(), "95th percentile of latency, e.g. 12 ms."),
        ),
        "The run that ended last.",
    ),
    faults=_said(
        {
            "type": "array", "maxItems": FAULTS_MAX, "x-kubernetes-list-type": "atomic",
            "items": {
                **_object(
                    name=_said(_text(), "The fault's name."), what=_said(_text(), "What it does, to whom, in a few words."),
                    state=_said(_text(), "waiting, active, ended or failed."),
                    origin=_said(_text(), "spec: of spec.faults; lease: of a command line, while it goes on."),
                    detail=_said(_text(), "Why it failed."),
                ),
                "required": ["name", "state"],
            },
        },
        "Faults that the lab knows: of spec.faults, then those of the command line.",
    ),
    faultsInForce=_said(_text(), "Names of faults that act now or failed, e.g. cut-eu, loss-1 (failed)."),
    conditions={
        "type": "array", "maxItems": 16, "items": _CONDITION, "description": "What holds, and why.",
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    },
)  # fmt: skip
"""Every field that `status` writes; the API server drops all others."""

COLUMNS = [
    {"name": "Ready", "type": "string", "jsonPath": ".status.ready"},
    {"name": "Connected", "type": "string", "jsonPath": ".status.connected"},
    {"name": "Reach", "type": "string", "jsonPath": ".status.lastReport.reach"},
    {"name": "P95", "type": "string", "jsonPath": ".status.lastReport.p95"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Reason", "type": "string", "priority": 1, "jsonPath": '.status.conditions[?(@.type=="Ready")].reason'},
    {"name": "Faults", "type": "string", "priority": 1, "jsonPath": ".status.faultsInForce"},
    {"name": "Expiry", "type": "string", "priority": 1, "jsonPath": ".status.certificates.earliestExpiry"},
]
"""`kubectl get` prints the names in capitals."""
