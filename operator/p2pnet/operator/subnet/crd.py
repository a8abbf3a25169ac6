"""The CustomResourceDefinition, generated from the JSON Schema of the document's model. Pure.

The JSON Schema is translated into a structural schema of Kubernetes; checks that a schema cannot express are CEL rules
(`crd_rules`), and those too expensive for CEL are made in every reconciliation. Defaults are left out except for immutable
fields: with a default the API server refuses the removal of such a field, too.
"""

from p2pnet.model import limits
from p2pnet.operator.kube.cel import CelRule, text_rule
from p2pnet.operator.kube.crd import (  # fmt: skip
    PATTERN_WORDS,
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
    validation,
)
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.crd_quantities import QUANTITY_RULES
from p2pnet.operator.subnet.crd_rules import RULES
from p2pnet.operator.subnet.status import FAULTS_MAX
from p2pnet.subnet.document import subnet_json_schema
from p2pnet.subnet.edits import immutable_fields

NAME_CHARS_MAX = 40
MAP_LISTS: tuple[tuple[str, ...], ...] = (("groups",), ("clients",), ("faults",))
"""Lists whose entries have unique names, by which the API server merges them."""


def crd() -> Schema:
    """The CustomResourceDefinition `subnets.p2pnet.io`."""
    version = {
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
    return definition(SUBNET, version, short="snet")


def root_schema() -> Schema:
    """The structural schema of a Subnet."""
    document = subnet_json_schema()
    spec = structural(document["$defs"]["Spec"], document["$defs"], QUANTITY_RULES)
    spec["properties"]["nodes"]["maximum"] = limits.NODES_MAX
    part_at(spec, ("groups",))["items"]["properties"]["nodes"]["maximum"] = limits.NODES_MAX
    for names in MAP_LISTS:
        part_at(spec, names).update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})
    for path, value in immutable_fields().items():
        part_at(spec, path)["default"] = value
        message = f"{'.'.join(path)} cannot be changed: make another subnet"
        add_rules(part_at(spec, path), [CelRule("self == oldSelf", message)])
        if len(path) > 1:
            # of the parent, too: the API server checks a default against the rules before it fills in inner defaults
            part_at(spec, path[:1]).setdefault("default", {})[path[1]] = value
    for place, checks in RULES.items():
        add_rules(part_at(spec, place), checks)
    spec["default"] = {key: part["default"] for key, part in spec["properties"].items() if "default" in part}
    name = document["$defs"]["Metadata"]["properties"]["name"]
    rule = text_rule(name["pattern"], name[PATTERN_WORDS], "self.metadata.name")
    return {
        "type": "object",
        "x-kubernetes-validations": [validation(rule._replace(path=".metadata.name"))],
        "description": "A subnet of p2pnet: nodes, who is connected to whom, and what the links do.",
        "properties": {
            "apiVersion": {"type": "string", "description": "p2pnet.io/v1alpha1."},
            "kind": {"type": "string", "description": "Subnet."},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": NAME_CHARS_MAX}},
            },
            "spec": spec,
            "status": {**STATUS, "description": "What there is; written by the operator."},
        },
    }


STATUS: Schema = fields(
    observedGeneration=said(count(), "The generation of the document that was looked at last."),
    state=said(text(), "Degraded's reason, else Paused, else what is still to happen, else Ready. The conditions say more."),
    ready=said(text(), "Nodes whose pods are ready, of all, e.g. 9/10; ? where no document could be read yet."),
    connected=said(text(), "Nodes all of whose links are up, of all, e.g. 9/10; ? while nobody can say."),
    links=said(text(), "Links that are up, of those wanted, e.g. 44/45; ? while nobody can say."),
    replicas=said(count(), "Nodes of group node that there are."),
    readyReplicas=said(count(), "Nodes of group node whose pods are ready."),
    updatedReplicas=said(count(), "Nodes of group node whose pods are as the document wants them."),
    selector=said(text(1024), "Labels of the pods of group node, for kubectl scale and autoscalers."),
    registryVersion=said(count(), "Version of the list of members."),
    expiresAt=said(text(), "When the ttl ends, in RFC 3339."),
    nodes=said(
        fields(
            desired=said(count(), "Nodes that are wanted."), ready=said(count(), "Nodes whose pods are ready."),
            connected=said(count(), "Nodes all of whose links are up."),
        ),
        "Counts of nodes in all groups.",
    ),
    rollout=said(
        fields(
            startedAt=said(text(), "When it began, in RFC 3339."), pods=said(count(), "Pods that were to be replaced then."),
        ),
        "The rolling update under way.",
    ),
    certificates=said(
        fields(
            issued=said(count(), "Nodes that have a certificate."),
            earliestExpiry=said(text(), "When the first of them ends, in RFC 3339."),
        ),
        "Certificates of nodes.",
    ),
    authority=said(
        fields(
            fingerprint=said(text(), "SHA-256 of its certificate."), notAfter=said(text(), "When it ends, in RFC 3339."),
            phase=said(text(), "How far its replacement is."),
            replaced=said(text(4096), "The value of the annotation obeyed."),
        ),
        "The authority that issues certificates.",
    ),
    lastReport=said(
        fields(
            run=said(text(), "The run's id."), state=said(text(), "finished or cancelled."),
            verdict=said(text(), "pass, fail or invalid."), reach=said(text(), "Share of receipts that came, e.g. 100%."),
            p95=said(text(), "95th percentile of latency, e.g. 12 ms."),
        ),
        "The run that ended last.",
    ),
    faults=said(
        {
            "type": "array", "maxItems": FAULTS_MAX, "x-kubernetes-list-type": "atomic",
            "items": {
                **fields(
                    name=said(text(), "The fault's name."), what=said(text(), "What it does, to whom, in a few words."),
                    state=said(text(), "waiting, active, ended or failed."),
                    origin=said(text(), "spec: of spec.faults; lease: of a command line, while it goes on."),
                    detail=said(text(), "Why it failed."),
                ),
                "required": ["name", "state"],
            },
        },
        "Faults that the lab knows: of spec.faults, then those of the command line.",
    ),
    faultsInForce=said(text(), "Names of faults that act now or failed, e.g. cut-eu, loss-1 (failed)."),
    conditions=conditions("Ready, Progressing, Degraded, CertificatesReady, Connected or Paused"),
)  # fmt: skip
"""Every field that `status` writes; the API server drops all others."""

COLUMNS = [
    {"name": "Status", "type": "string", "jsonPath": ".status.state"},
    {"name": "Ready", "type": "string", "jsonPath": ".status.ready"},
    {"name": "Connected", "type": "string", "jsonPath": ".status.connected"},
    {"name": "Links", "type": "string", "jsonPath": ".status.links"},
    {"name": "Reach", "type": "string", "jsonPath": ".status.lastReport.reach"},
    {"name": "P95", "type": "string", "jsonPath": ".status.lastReport.p95"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Reason", "type": "string", "priority": 1, "jsonPath": '.status.conditions[?(@.type=="Ready")].reason'},
    {"name": "Faults", "type": "string", "priority": 1, "jsonPath": ".status.faultsInForce"},
    {"name": "Expiry", "type": "string", "priority": 1, "jsonPath": ".status.certificates.earliestExpiry"},
]
"""`kubectl get` prints the names in capitals."""
