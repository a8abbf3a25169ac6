"""Field by field: what the command line says of a document the API server says at `kubectl apply`, and then of its pods."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.cluster.control import Control
from tests.cluster.control_plane.sweep import Cause, Path, Tried, answers, variants
from tests.cluster.server import path_of
from tests.operator.documents import FULL_INJECTION, FULL_SUBNET

from p2pnet.model.errors import SpecError
from p2pnet.operator.injection.crd import root_schema as injection_schema
from p2pnet.operator.subnet.context import SubnetContext
from p2pnet.operator.subnet.crd import root_schema as subnet_schema
from p2pnet.operator.subnet.plan.pods import lab_pod, node_pod
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.injection import load_injection

AT_ONCE = 100
"""Documents of one coroutine, which a test waits for a minute at most."""
JUDGED_LATER = ("no node is named", "selects no node", "a value of type", "is nobody")
"""Words of checks that CEL cannot make, so that they are made in reconciliation: see `crd_rules`."""
OWN_WORDS = {
    "FieldValueTypeInvalid",
    "FieldValueRequired",
    "FieldValueNotSupported",
    "FieldValueTooLong",
    "FieldValueTooMany",
}
"""What the API server says in words of its own, at the same path."""
SECURITY = {
    "runAsUser": 7, "runAsGroup": 7, "runAsNonRoot": True,
    "seLinuxOptions": {"user": "u", "role": "r", "type": "t", "level": "s0"},
    "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/p2pnet.json"},
}  # fmt: skip
POD = {
    "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 2}},
    "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 7}],
    "securityContext": {**SECURITY, "fsGroup": 7, "fsGroupChangePolicy": "Always", "supplementalGroups": [7]},
    "containerSecurityContext": {
        **SECURITY, "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    },
}  # fmt: skip
LINE = ("up", "down", "queue", "discipline")
SHAPE = ("latency", "jitter", "distribution", "keepOrder", "loss", "lossBurst", "duplication", "reorder", "bandwidth", "queue",
         "discipline", "mtu")  # fmt: skip
THE_SAME_ELSEWHERE: tuple[Path, ...] = (
    ("groups", "[]", "pod"), ("network", "access", "groups", "{}"), ("lab", "resources"),
    *(("network", "rules", "[]", key) for key in SHAPE), *(("faults", "[]", key) for key in SHAPE),
    *(("faults", "[]", "access", key) for key in LINE), *(("pod", "containerSecurityContext", key) for key in SECURITY),
)  # fmt: skip
"""Made of the same shapes and rules as others, so that nobody waits for all of them twice."""
OF_PODS = ("pod", "lab", "image", "groups")


def whole_subnet() -> dict[str, Any]:
    spec = copy.deepcopy(FULL_SUBNET)
    spec["pod"] |= copy.deepcopy(POD)
    return spec


def document(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": kind, "metadata": {"name": "tried"}, "spec": spec}


def mistakes(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    """Path and words of what the command line finds wrong."""
    try:
        (load_subnet if kind == "Subnet" else load_injection)(document(kind, spec))
    except SpecError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        return [(path, words) for path, _, words in (line.partition(": ") for line in lines[1:] or lines)]
    return []


def difference(found: list[tuple[str, str]], causes: list[Cause] | None) -> str:
    """Between the command line's mistakes and what the API server said; empty where there is none."""
    if causes is None:
        later = all(any(words in text for words in JUDGED_LATER) for _, text in found)
        return "" if later else "taken by the API server alone"
    if not found:
        return "refused by the API server alone"
    if any("evaluating rule" in cause.words for cause in causes):
        return "a rule breaks instead of saying what is wrong"
    unknown = [
        cause.words.partition('unknown field "')[2].rstrip('"') for cause in causes if "unknown field" in cause.words
    ]
    if any(there.startswith(path) for there in unknown for path, _ in found):
        return ""
    same = any(cause.field.replace("[", ".").replace("]", "") == path.replace("[", ".").replace("]", "")
               and says(cause, words) for cause in causes for path, words in found)  # fmt: skip
    return "" if same else "other words, or another path"


def says(cause: Cause, words: str) -> bool:
    """Whether it is told as by us. A text with a line break in it is not repeated."""
    if cause.reason in OWN_WORDS or "must be of type" in cause.words:
        return True
    bounds = cause.words.partition(" in body ")[2]
    return (
        words in cause.words
        or words.partition("' is ")[2] in cause.words
        or (bool(bounds) and bounds.rstrip("s") in words)
    )


def batched(whole: list[Tried]) -> Iterator[list[Tried]]:
    for start in range(0, len(whole), AT_ONCE):
        yield whole[start : start + AT_ONCE]


def asked(control: Control, path: str, tried: list[Tried], kind: str) -> list[list[Cause] | None]:
    return [
        answer
        for some in batched(tried)
        for answer in control.inside.do(answers(control.server, path, [document(kind, one.spec) for one in some]))
    ]


def differences(tried: list[Tried], said: list[list[Cause] | None], kind: str) -> Iterator[str]:
    for one, causes in zip(tried, said, strict=True):
        found = mistakes(kind, one.spec)
        why = difference(found, causes) if found or causes is not None else ""
        if why:
            yield f"{'.'.join(one.path)}: {why}\n  ours: {found[:2]}\n  the API server's: {causes and causes[:2]}"


def test_a_subnet_is_refused_at_apply_as_by_the_command_line_field_by_field_and_makes_pods_where_it_is_not(
    control: Control,
) -> None:
    whole = whole_subnet()
    assert mistakes("Subnet", whole) == []
    tried = list(variants(whole, subnet_schema()["properties"]["spec"], THE_SAME_ELSEWHERE))
    with control.place("swept") as place:
        said = asked(control, path_of("subnets", place.name), tried, "Subnet")
        found = list(differences(tried, said, "Subnet"))
        assert not found, "\n".join(found[:20])
        taken = [one for one, causes in zip(tried, said, strict=True) if causes is None and one.path[0] in OF_PODS]
        made = {json.dumps(pod, sort_keys=True): one.path for one in taken for pod in pods_of(one.spec)}
        control.inside.do(control.server.ask("PATCH", path_of("namespaces", "", place.name), PRIVILEGED, MERGE))
        refused = control.inside.do(answers(control.server, path_of("pods", place.name), list(map(json.loads, made))))
        assert [(path, why) for path, why in zip(made.values(), refused, strict=True) if why is not None] == []
    assert len(tried) > 1_000
    assert len(made) > 100


def pods_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """One of each group, and the lab's."""
    if mistakes("Subnet", spec):
        return []
    context = SubnetContext(load_subnet(document("Subnet", spec)), "swept", "1", "x:1")
    first = {placed.group: placed for placed in context.placements}
    pods = [node_pod(context, placed, "1") for placed in first.values()] + [lab_pod(context)]
    for pod in pods:
        pod["metadata"].pop("namespace", None)
        pod["spec"].pop("priorityClassName", None)  # no such class is there
        pod["spec"].pop("runtimeClassName", None)
        pod["spec"].pop("serviceAccountName", None)
    return pods


MERGE = "application/merge-patch+json"
PRIVILEGED = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}


def test_an_injection_is_refused_at_apply_as_by_the_command_line_field_by_field(control: Control) -> None:
    tried = list(variants(FULL_INJECTION, injection_schema()["properties"]["spec"], ()))
    with control.place("swept") as place:
        found = list(
            differences(tried, asked(control, path_of("injections", place.name), tried, "Injection"), "Injection")
        )
    assert not found, "\n".join(found[:20])
