"""The definition of Injections, generated from the JSON Schema of the document's model. Pure."""

from p2pnet.operator.injection.context import INJECTION
from p2pnet.operator.injection.crd_rules import RULES
from p2pnet.operator.injection.status import INVALID_CHARS_MAX, INVALID_MAX
from p2pnet.operator.kube.crd import (  # fmt: skip
    Schema,
    add_rules,
    conditions,
    count,
    definition,
    fields,
    part_at,
    said,
    structural,
    text,
)
from p2pnet.operator.subnet.crd_quantities import QUANTITY_RULES
from p2pnet.subnet.injection import EXPRESSIONS_MAX, NAME_CHARS_MAX, injection_json_schema


def crd() -> Schema:
    """The CustomResourceDefinition `injections.p2pnet.io`."""
    version = {
        "schema": {"openAPIV3Schema": root_schema()}, "subresources": {"status": {}},
        "additionalPrinterColumns": COLUMNS,
    }  # fmt: skip
    return definition(INJECTION, version, short="inj")


def root_schema() -> Schema:
    """The structural schema of an Injection."""
    document = injection_json_schema()
    spec = structural(document["$defs"]["InjectionSpec"], document["$defs"], QUANTITY_RULES)
    for place, checks in RULES.items():
        add_rules(part_at(spec, place), checks)
    for names in (("expect",), ("filesFrom", "keys")):
        part_at(spec, names)["x-kubernetes-list-type"] = "atomic"
    return {
        "type": "object",
        "description": "An experiment on a subnet of p2pnet: artifacts to publish, what must hold, and what came of it.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "p2pnet.io/v1alpha1."},
            "kind": {"type": "string", "description": "Injection."},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": NAME_CHARS_MAX}}},
            "spec": spec,
            "status": {**STATUS, "description": "What came of it; written by the operator."},
        },
    }


def _number() -> Schema:
    return {"type": "number"}


_VERDICTS = ("Propagated", "Failed", "Invalid")
_PERCENTILES = {
    "p50": "Median",
    "p90": "90th percentile",
    "p95": "95th percentile",
    "p99": "99th percentile",
    "max": "Largest",
}

STATUS: Schema = fields(
    observedGeneration=said(count(), "The generation of the document that was looked at last."),
    state=said(
        {"type": "string", "enum": ["Waiting", "Starting", "Running", *_VERDICTS]},
        "Waiting, Starting, Running; at the end Propagated, Failed or Invalid. The conditions say why.",
    ),
    blocked=said({"type": "boolean"}, "Whether others may begin before it: it waits for files."),
    subnetUid=said(text(), "The uid of the Subnet that it is for."),
    lab=said(text(), "The process of the Subnet's lab that was asked for the run."),
    run=said(text(), "The run's id, by which p2pnet report, trace and compare know it."),
    verdict=said({"type": "string", "enum": ["pass", "fail", "invalid"]}, "pass, fail or invalid, once it is over."),
    startedAt=said(text(), "When the run was asked for, in RFC 3339."),
    finishedAt=said(text(), "When it was over, in RFC 3339."),
    expiresAt=said(text(), "When it will be deleted, in RFC 3339."),
    silentSince=said(text(), "Since when the lab of the run does not answer, in RFC 3339."),
    progress=said(
        fields(
            published=said(count(), "Artifacts published so far."), artifacts=said(count(), "Artifacts to publish."),
            delivered=said(count(), "Receipts so far."), expected=said(count(), "Receipts that make the run complete."),
        ),
        "How far the run is.",
    ),
    shown=said(
        fields(reach=said(text(), "Share of receipts that came, e.g. 100%."), p95=said(text(), "E.g. 12.5 ms.")),
        "Figures as the columns show them.",
    ),
    nodes=said(count(), "Nodes of the subnet."),
    artifacts=said(count(), "Artifacts published."),
    unknown=said(count(), "Receipts of which nothing is known, by faults that somebody ordered."),
    reach=said(
        fields(
            expected=said(count(), "Receipts expected: nodes - 1 per artifact."), delivered=said(count(), "Receipts that came."),
            ratio=said(_number(), "Share of receipts that came, 0 to 1."),
        ),
        "Who got what was published.",
    ),
    latencyMs=said(
        fields(**{
            key: said(_number(), f"{words}; left out where it is of a receipt that never came.")
            for key, words in _PERCENTILES.items()
        }),
        "Publication to first validation, in milliseconds, over all expected receipts.",
    ),
    hops=said(
        fields(p50=said(count(), "Median."), max=said(count(), "Largest.")), "Hops from the publisher, over receipts."
    ),
    duplicatesPerDelivery=said(_number(), "Whole payloads for an id already held, per receipt."),
    bytes=said(
        fields(
            payload=said(count(), "The user's bytes x receipts."), sent=said(count(), "Bytes that all nodes sent."),
            ratio=said(_number(), "Bytes sent per byte of payload."),
        ),
        "What it cost.",
    ),
    clockBoundMs=said(_number(), "By how much the clocks of nodes may differ, in milliseconds."),
    expectations=said(
        {
            "type": "array", "maxItems": EXPRESSIONS_MAX + 1, "x-kubernetes-list-type": "atomic",
            "items": {
                **fields(
                    expr=said(text(), "The expectation."),
                    value=said(_number(), "What was measured, in the expectation's own unit; left out where it could not be."),
                    ok=said({"type": "boolean"}, "Whether it holds."),
                ),
                "required": ["expr", "ok"],
            },
        },
        "What had to hold, and what was measured.",
    ),
    invalid=said(
        {
            "type": "array", "maxItems": INVALID_MAX, "x-kubernetes-list-type": "atomic", "items": text(INVALID_CHARS_MAX),
        },
        "Why the run is invalid.",
    ),
    conditions=conditions("Finished, Propagated, Failed or Invalid"),
)  # fmt: skip
"""Every field that `status` writes; the API server drops all others."""

_REASON = '.status.conditions[?(@.type=="Finished")].reason'
COLUMNS = [
    {"name": "Subnet", "type": "string", "jsonPath": ".spec.subnet"},
    {"name": "State", "type": "string", "jsonPath": ".status.state"},
    {"name": "Reason", "type": "string", "jsonPath": _REASON},
    {"name": "Reach", "type": "string", "jsonPath": ".status.shown.reach"},
    {"name": "P95", "type": "string", "jsonPath": ".status.shown.p95"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Run", "type": "string", "priority": 1, "jsonPath": ".status.run"},
    {"name": "Expiry", "type": "string", "priority": 1, "jsonPath": ".status.expiresAt"},
]
"""`kubectl get` prints the names in capitals."""
