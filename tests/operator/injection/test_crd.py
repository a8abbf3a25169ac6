"""The definition of Injections says what the model says, and has every field that is ever written."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from tests.operator.documents import FILES_INJECTION as FILES
from tests.operator.documents import FULL_INJECTION as FULL
from tests.operator.injection_kit import InjectionWorld, report

from p2pnet.model.jobs import RunState
from p2pnet.model.report import RunStateName, Verdict
from p2pnet.operator.injection import status
from p2pnet.operator.injection.context import ENDED, InjectionContext, Reason
from p2pnet.operator.injection.crd import STATUS, crd, root_schema
from p2pnet.operator.injection.crd_rules import RULES
from p2pnet.operator.injection.plan import AskStep, BeginStep, EndStep, FollowStep, SilentStep, WaitStep, ended
from p2pnet.subnet.injection import injection_json_schema, load_injection

SCHEMA = root_schema()
SPEC = SCHEMA["properties"]["spec"]


def document(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Injection", "metadata": {"name": "smoke"}, "spec": spec}


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for key, value in schema.get("properties", {}).items():
        yield from parts(value, f"{path}.{key}")
    if isinstance(schema.get("items"), dict):
        yield from parts(schema["items"], f"{path}[]")


def test_the_schema_is_structural_bounded_and_described_for_kubectl_explain() -> None:
    for path, part in parts(SCHEMA):
        assert not {"$ref", "anyOf", "allOf", "oneOf", "title", "const", "default"} & set(part), path
        assert part.get("type"), path
        assert part.get("description") or path in ("", ".metadata", ".metadata.name") or path.endswith("[]"), path
    for path, part in parts(SPEC):
        if part["type"] == "array":
            assert part["maxItems"] <= 100, path
        elif part["type"] == "string":
            assert part["maxLength"] <= 1_000, path


def test_every_field_of_the_spec_says_its_default_its_unit_and_an_example() -> None:
    for path, part in parts(SPEC):
        if not path or path.endswith("[]"):
            continue
        words = part["description"]
        assert "Default" in words or words.endswith("Required."), path
        assert "e.g. " in words, path
        rules = part.get("x-kubernetes-validations", [])
        quantity = any(rule["rule"].startswith("self.matches(r'^[0-9]+(") for rule in rules)
        assert not quantity or "with its unit" in words, path


@pytest.mark.parametrize("spec", [FULL, FILES, {"subnet": "demo"}])
def test_what_the_model_takes_the_schema_has(spec: dict[str, Any]) -> None:
    jsonschema.validate(spec, SPEC)
    jsonschema.validate(document(spec), injection_json_schema())
    written = load_injection(document(spec)).spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert set(written) <= set(SPEC["properties"])
    assert {*FULL, *FILES} == set(SPEC["properties"])


def test_names_of_the_scenarios_inject_step_mean_the_same_here() -> None:
    from p2pnet.scenario.spec import InjectSpec

    step = {field.alias or name for name, field in InjectSpec.model_fields.items()}
    assert step - set(SPEC["properties"]) == {"files"}, "files of a folder are keys of a ConfigMap here: filesFrom"
    assert set(SPEC["properties"]) - step == {"subnet", "filesFrom", "ttl"}


def test_every_rule_says_what_is_wrong_and_no_spec_is_ever_changed() -> None:
    for rules in RULES.values():
        for rule, message, _, _ in rules:
            assert message
            assert rule.count("(") == rule.count(")")
    assert SPEC["x-kubernetes-validations"][0]["rule"] == "self == oldSelf"
    [rule] = SPEC["properties"]["expect"]["items"]["x-kubernetes-validations"]
    assert re.compile(rule["rule"].removeprefix("self.matches(r'").removesuffix("')"))


def test_columns_and_names_are_as_designed() -> None:
    version = crd()["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    shown = [one["name"].upper() for one in version["additionalPrinterColumns"] if not one.get("priority")]
    assert shown == ["SUBNET", "STATE", "REASON", "REACH", "P95", "AGE"]
    assert crd()["metadata"]["name"] == "injections.p2pnet.io"
    assert crd()["spec"]["names"]["shortNames"] == ["inj"]


async def test_every_status_that_is_ever_written_is_in_the_schema_and_has_its_conditions() -> None:
    world = await InjectionWorld.ready()
    context = InjectionContext.of(world.apply(ttl="1h"))
    request = None
    await world.reconcile()
    [request] = world.lab.started
    steps: list[Any] = [
        WaitStep(Reason("Queued", "waits"), 1.0), WaitStep(Reason("FilesMissing", "none"), 1.0, blocked=True),
        BeginStep("lab-1"), AskStep("lab-1"), SilentStep(Reason("LabUnreachable", "gone")),
        EndStep("Invalid", Reason("SubnetGone", "gone")),
    ]  # fmt: skip
    states: tuple[RunStateName, ...] = ("queued", "running")
    steps += [FollowStep(RunState("r-1", state, request, 0.0)) for state in states]
    verdicts: tuple[Verdict, ...] = ("pass", "fail", "invalid")
    ends: tuple[RunStateName, ...] = ("finished", "cancelled")
    for state, verdict in itertools.product(ends, verdicts):
        steps.append(ended(RunState("r-1", state, request, 0.0, report=report(verdict))))
    for step in steps:
        new = status.status_of(context, step, world.world.now, subnet_uid="u")
        new = {"state": "Running", **{key: value for key, value in new.items() if value is not None}}
        check(new, STATUS)
        jsonschema.validate(new, STATUS)
        truths = {one["type"]: one["status"] for one in new["conditions"]}
        of_verdict = sorted(truths[kind] for kind in ENDED)
        assert of_verdict == (["False", "False", "True"] if truths["Finished"] == "True" else ["Unknown"] * 3), step


def check(value: Any, schema: dict[str, Any]) -> None:
    if isinstance(value, dict):
        assert set(value) <= set(schema["properties"])
        for key, one in value.items():
            check(one, schema["properties"][key])
    elif isinstance(value, list):
        for one in value:
            check(one, schema["items"])
