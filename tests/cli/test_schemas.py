"""The schemas p2pnet ships are schemas, and what it prints is valid against them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.samples import broken_row

from p2pnet.cli import documents
from p2pnet.cli.documents import KINDS, SHAPES, Trace
from p2pnet.cli.render import Output, render
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.model.report import FaultStatus, Finding, Latency, Report, Status
from p2pnet.model.scenario_run import ScenarioRun, ScenarioStep, StepExpectation, TrialLine
from p2pnet.subnet.document import default_subnet, to_document

# The contract: keys that scripts rely on.
REPORT_KEYS = {
    "schema",
    "run",
    "subnet",
    "target",
    "seed",
    "nodes",
    "artifacts",
    "verdict",
    "reach",
    "latency_ms",
    "hops",
    "duplicates_per_delivery",
    "bytes",
    "clock_bound_ms",
    "expectations",
    "invalid",
    "unknown",
    "artifact_ids",
    "packed",
    "digest",
    "load",
    "ignored",
    "throughput",
}
SCENARIO_KEYS = {
    "schema",
    "scenario",
    "target",
    "seed",
    "trials",
    "steps",
    "expectations",
    "verdict",
    "invalid",
    "rerun",
}
STATUS_KEYS = {
    "schema",
    "name",
    "target",
    "nodes",
    "links",
    "certificates",
    "conditions",
    "runs",
    "faults",
    "members",
    "ignored",
}


def printed(document: Any) -> Any:
    return json.loads(render(document, Output.JSON))


@pytest.mark.parametrize("kind", KINDS)
def test_every_schema_is_one_and_says_which(kind: str) -> None:
    schema = schema_of(kind)

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert kind in schema["$id"]


@pytest.mark.parametrize("kind", SHAPES)
def test_a_document_of_another_kind_is_not_valid(kind: str, report: Report) -> None:
    other = printed(msgspec.structs.replace(report, schema="p2pnet.io/other/v1"))

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(other, schema_of(kind))


def test_a_report_is_valid_and_has_every_key_of_the_contract(report: Report) -> None:
    value = printed(msgspec.structs.replace(report, latency_ms=Latency(1.0, float("inf"), None, None, None)))

    jsonschema.validate(value, schema_of("report"))
    assert set(value) >= REPORT_KEYS
    assert set(schema_of("report")["required"]) >= REPORT_KEYS
    assert set(value["load"]) >= {"rate_per_s", "from", "within_s", "seed", "client", "count"}
    assert set(value["throughput"]) >= {"payload_bytes_per_s", "artifacts_per_s"}


def test_what_a_report_says_of_the_network_has_every_key_of_the_contract(report: Report) -> None:
    finding = Finding("node-7", "its uplink was full for 4 of 9 s", "uplink-full", seconds=4.0)
    value = printed(msgspec.structs.replace(report, network=[broken_row()], findings=[finding]))

    jsonschema.validate(value, schema_of("report"))
    [row] = value["network"]
    assert set(row) >= {"rule", "from", "to", "asked", "seen", "ok"}
    assert set(row["asked"]) == {"delay_ms", "jitter_ms", "loss", "bandwidth_bps"}
    assert set(row["seen"]) == {"delay_ms", "jitter_ms", "loss", "bandwidth_bps", "samples"}
    assert row["asked"]["bandwidth_bps"] is None  # not asked for


def test_a_scenario_run_is_valid_and_has_every_key_of_the_contract() -> None:
    one = StepExpectation(expr="p95 <= 800ms", value=float("inf"), ok=False, name="a", step="a")
    step = ScenarioStep(
        name="a", kind="inject", number="1", what="64 KiB", state="done", ok=False, run="r-1", expectations=[one]
    )
    value = printed(
        ScenarioRun(
            scenario="story", subnet="story", target="sim", seed=1, shown_seed=1, nodes=3, steps=[step], expectations=[one],
            trials=[TrialLine(seed=1, verdict="fail")], verdict="fail",
        )
    )  # fmt: skip
    jsonschema.validate(value, schema_of("scenario-run"))
    assert set(value) >= SCENARIO_KEYS
    assert set(schema_of("scenario-run")["required"]) >= SCENARIO_KEYS
    assert set(value["steps"][0]) >= {"name", "kind", "ok", "run", "expectations"}
    assert set(value["expectations"][0]) >= {"expr", "value", "ok", "name"}


def test_the_schema_of_scenarios_takes_every_story() -> None:
    check = Draft202012Validator(schema_of("scenario"))
    stories = sorted((Path(__file__).parents[2] / "examples" / "scenarios").glob("*.yaml"))
    assert len(stories) >= 10
    for path in stories:
        assert list(check.iter_errors(yaml.safe_load(path.read_text()))) == [], path.name


def test_a_status_is_valid_and_has_every_key_of_the_contract(make_status: Callable[..., Status]) -> None:
    fault = FaultStatus("split", "partition 30%", "spec", "active", ["node-0"], since="2026-11-21T20:13:20Z")
    status = msgspec.structs.replace(make_status(3), faults=[fault], network=[broken_row()], network_notes=["odd"])
    value = printed(status)

    jsonschema.validate(value, schema_of("status"))
    assert set(value) >= STATUS_KEYS
    assert set(value["members"][0]) >= {
        "name",
        "group",
        "state",
        "address",
        "peers",
        "restarts",
        "cert_not_after",
        "pid",
    }


def test_a_report_without_a_key_is_not_valid(report: Report) -> None:
    value = printed(report)
    del value["verdict"]

    with pytest.raises(jsonschema.ValidationError, match="verdict"):
        jsonschema.validate(value, schema_of("report"))


def test_a_subnet_document_is_valid_against_its_schema() -> None:
    jsonschema.validate(to_document(default_subnet("demo", 3)), schema_of("subnet"))


def test_a_schema_is_printed_as_json_unless_yaml_is_asked_for(p2pnet: Callable[..., Any]) -> None:
    as_json, as_yaml = p2pnet("schema", "trace"), p2pnet("schema", "trace", "-o", "yaml")

    assert json.loads(as_json.out) == yaml.safe_load(as_yaml.out) == schema_of("trace")


def test_documents_carry_the_schema_they_are_named_by() -> None:
    assert {kind: msgspec.structs.fields(shape)[0].default for kind, shape in SHAPES.items()} == {
        kind: f"p2pnet.io/{kind}/v1" for kind in SHAPES
    }
    assert SHAPES["trace"] is Trace


def test_every_document_and_every_line_has_a_schema_under_its_name() -> None:
    carried = {
        fields[0].default
        for shape in vars(documents).values()
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct)
        if (fields := msgspec.structs.fields(shape)) and fields[0].name == "schema"
    }

    assert carried <= {f"p2pnet.io/{kind}/v1" for kind in KINDS}


def test_the_package_needs_no_schema_files(tmp_path: Path) -> None:
    assert not list(Path(schema_of.__code__.co_filename).parent.glob("*.json"))
