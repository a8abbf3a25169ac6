"""The CRD says what the model says, within what an API server takes."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from tests.operator.documents import FULL_SUBNET as FULL
from tests.operator.kit import World

from p2pnet.operator.injection.crd import crd as injection_crd
from p2pnet.operator.injection.crd import root_schema as injection_root_schema
from p2pnet.operator.subnet.crd import STATUS, crd, root_schema
from p2pnet.operator.subnet.crd_rules import RULES
from p2pnet.subnet.document import load_subnet, subnet_json_schema, to_document
from p2pnet.subnet.edits import immutable_fields

SCHEMA = root_schema()
SPEC = SCHEMA["properties"]["spec"]


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for key, value in schema.get("properties", {}).items():
        yield from parts(value, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key], f"{path}[]")


def test_the_schema_is_structural() -> None:
    for path, part in parts(SCHEMA):
        assert not {"$ref", "anyOf", "allOf", "oneOf", "title", "const", "propertyNames", "exclusiveMaximum"} & set(
            part
        ), path
        assert part.get("type") or part.get("x-kubernetes-int-or-string"), path
        assert part.get("additionalProperties") is not False, path
        assert not ("properties" in part and "additionalProperties" in part), path


def test_every_list_and_every_text_of_the_spec_is_bounded() -> None:
    for path, part in parts(SPEC):
        if part.get("type") == "array":
            assert part["maxItems"] <= 10_000, path
        elif part.get("type") == "string" and "enum" not in part:
            assert part["maxLength"] <= 4096, path
        elif part.get("type") == "object" and "additionalProperties" in part:
            assert part["maxProperties"] <= 64, path


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in schema.get("properties", {}).items():
        yield f"{path}.{key}", value
        yield from fields(value, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from fields(schema[key], f"{path}[]")


def test_no_field_is_refused_by_a_pattern_alone_which_says_nothing_to_a_person() -> None:
    for schema in (SCHEMA, injection_root_schema()):
        assert [path for path, part in parts(schema) if "pattern" in part] == []


def test_every_field_is_described_for_kubectl_explain() -> None:
    assert [
        path
        for path, part in fields(SCHEMA)
        if not part.get("description") and path != ".metadata" and path != ".metadata.name"
    ] == []


def test_every_field_of_the_spec_says_its_default_and_gives_an_example() -> None:
    for path, part in fields(SPEC):
        words = part["description"]
        assert "Default" in words or words.endswith("Required."), path
        assert "e.g. " in words or "enum" in part, path
        rules = part.get("x-kubernetes-validations", [])
        quantity = any(rule["rule"].startswith("self.matches(r'^[0-9]+(") for rule in rules)
        assert not quantity or re.search(r"unit|Share", words), path


def test_the_json_schema_has_the_same_descriptions() -> None:
    defs = subnet_json_schema()["$defs"]
    for name, part in defs["Spec"]["properties"].items():
        assert SPEC["properties"][name]["description"] == part["description"]
    for name, part in defs["PodSpec"]["properties"].items():
        assert SPEC["properties"]["pod"]["properties"][name]["description"] == part["description"]


def test_a_document_with_everything_in_it_fits_and_so_does_the_model() -> None:
    validator = jsonschema.Draft202012Validator(SPEC)
    assert list(validator.iter_errors(FULL)) == []
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": FULL}
    assert load_subnet(document).node_count == 8


def test_every_key_of_the_model_is_in_the_schema() -> None:
    """An API server drops what is not."""

    def check(value: Any, schema: dict[str, Any], path: str) -> None:
        if isinstance(value, dict) and "properties" in schema:
            for key, one in value.items():
                assert key in schema["properties"], f"{path}.{key}"
                check(one, schema["properties"][key], f"{path}.{key}")
        elif isinstance(value, list):
            for one in value:
                check(one, schema["items"], f"{path}[]")

    document = load_subnet(
        {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "x"}, "spec": FULL}
    )
    check(document.spec.model_dump(mode="json", by_alias=True, exclude_none=True), SPEC, "spec")


@pytest.mark.parametrize("path", immutable_fields(), ids=".".join)
def test_what_never_changes_has_a_default_so_that_its_removal_is_a_change(path: tuple[str, ...]) -> None:
    part = SPEC
    for step in path:
        assert "default" in part, "a parent that is taken away must come back too"
        part = part["properties"][step]
    assert part["default"] == immutable_fields()[path]
    assert "self == oldSelf" in part["x-kubernetes-validations"][-1]["rule"]
    defaults: Any = load_subnet(
        {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "x"}}
    ).spec.model_dump(mode="json", by_alias=True)
    for step in path:
        defaults = defaults[step]
    assert defaults == immutable_fields()[path]


def test_every_rule_says_what_is_wrong_and_names_only_fields_that_are() -> None:
    import re

    names = {key for _, part in parts(SPEC) for key in part.get("properties", {})}
    for rules in RULES.values():
        for rule, message, words, _ in rules:
            assert message
            assert rule.count("(") == rule.count(")")
            assert words.count("(") == words.count(")")
            for chain in re.findall(r"self((?:\.[a-zA-Z]+)+)", rule):
                for word in chain.strip(".").split("."):
                    assert word in names or word in ("all", "contains", "exists", "map", "find", "matches"), word


def test_a_clients_settings_are_kept_whatever_is_in_them() -> None:
    settings = SPEC["properties"]["clients"]["items"]["properties"]["settings"]
    assert settings["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in settings


def test_a_null_in_a_clients_settings_is_a_value_and_everywhere_else_unset() -> None:
    spec = {"ttl": None, "clients": [{"name": "chat", "class": None, "settings": {"a": None, "b": [None]}}]}
    thing = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
    read = to_document(load_subnet(thing))["spec"]
    assert read == {"clients": [{"name": "chat", "settings": {"a": None, "b": [None]}}]}


def test_names_are_bounded_so_that_pod_names_fit_into_labels() -> None:
    assert SCHEMA["properties"]["metadata"]["properties"]["name"]["maxLength"] == 40
    [rule] = SCHEMA["x-kubernetes-validations"]
    assert rule["fieldPath"] == ".metadata.name"
    pattern = rule["rule"].removeprefix("self.metadata.name.matches(r'").removesuffix("')")
    assert re.fullmatch(pattern, "demo-1")
    for wrong in ("Demo", "1demo", "demo-", "a" * 41):
        assert not re.fullmatch(pattern, wrong)


def test_groups_clients_and_faults_are_known_by_name() -> None:
    for key in ("groups", "clients", "faults"):
        part = SPEC["properties"][key]
        assert part["x-kubernetes-list-map-keys"] == ["name"]
        assert part["items"]["required"]
        assert "name" in part["items"]["required"]


def test_status_scale_columns_and_names_are_as_designed() -> None:
    version = crd()["spec"]["versions"][0]
    assert version["subresources"] == {
        "status": {},
        "scale": {"specReplicasPath": ".spec.nodes", "statusReplicasPath": ".status.replicas",
                  "labelSelectorPath": ".status.selector"},
    }  # fmt: skip
    shown = [one["name"].upper() for one in version["additionalPrinterColumns"] if not one.get("priority")]
    assert shown == ["STATUS", "READY", "CONNECTED", "LINKS", "REACH", "P95", "AGE"]
    wide = {one["name"].upper(): one["jsonPath"] for one in version["additionalPrinterColumns"] if one.get("priority")}
    assert wide["FAULTS"] == ".status.faultsInForce"
    assert crd()["metadata"]["name"] == "subnets.p2pnet.io"
    assert crd()["spec"]["names"]["shortNames"] == ["snet"]


async def test_every_status_that_is_written_is_in_the_schema() -> None:
    from p2pnet.model.report import FaultStatus, RunSummary

    world = World(nodes=3, ttl="1d")
    world.lab.runs = [RunSummary("r1", "finished", "pass", 1, 0.975, 12.5)]
    world.lab.faults = [FaultStatus("cut", "block from node-0 to *", "spec", "active", detail="x"),
                        FaultStatus("loss-1", "loss 5% from * to *", "lease", "failed", detail="nobody")]  # fmt: skip
    await world.converge()

    def check(value: Any, schema: dict[str, Any]) -> None:
        if isinstance(value, dict):
            assert set(value) <= set(schema["properties"])
            for key, one in value.items():
                check(one, schema["properties"][key])
        elif isinstance(value, list):
            for one in value:
                check(one, schema["items"])

    check(world.status, STATUS)
    jsonschema.validate(world.status, STATUS)
    assert world.status["lastReport"] == {
        "run": "r1", "state": "finished", "verdict": "pass", "reach": "97.5%", "p95": "12.5 ms",
    }  # fmt: skip


def test_the_command_prints_all_definitions() -> None:
    done = subprocess.run([sys.executable, "-m", "p2pnet.operator", "crd"], capture_output=True, text=True, check=True)
    assert list(yaml.safe_load_all(done.stdout)) == json.loads(json.dumps([crd(), injection_crd()]))
