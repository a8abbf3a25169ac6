"""The Scenario document, read: from text to a checked plan. Shapes stand in `spec`, what shapes cannot say in `checks`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.scenario.checks import contradictions
from p2pnet.scenario.plan import ScenarioPlan, plan_of
from p2pnet.scenario.spec import KIND, Scenario, subnet_document
from p2pnet.subnet.checks import contradictions as subnet_contradictions
from p2pnet.subnet.document import in_lines, load_subnet, to_document
from p2pnet.subnet.mistakes import sentences_of, spec_error, without_nulls
from p2pnet.subnet.reading import find_subnet
from p2pnet.subnet.spec import Subnet


@dataclass(frozen=True, slots=True)
class WrittenScenario:
    """A Scenario document whose shapes are right, and what else stands in its text: `Kind name` each."""

    scenario: Scenario
    inline: Mapping[str, Any] | None
    """What stands under `spec.subnet`; None: `spec.subnetFrom` names a file."""
    others: tuple[str, ...] = ()


def read_scenario(text: str | bytes | Mapping[str, Any], source: str = "") -> WrittenScenario:
    """The one Scenario document in a YAML or JSON text, or in a value.

    Raises one SpecError with a line per mistake, at most 10, each `spec.steps[0].inject: what is wrong`; `source` (a file
    name) goes before them.
    """
    where = f"{source}: " if source else ""
    found = None if isinstance(text, Mapping) else find_subnet(text, source, kind=KIND)
    value = without_nulls(text if found is None else found.document)
    try:
        scenario = Scenario.model_validate(value)
    except ValidationError as error:
        raise spec_error(sentences_of(error, root=Scenario), where) from None
    spec = scenario.spec
    if (spec.subnet is None) == (spec.subnet_from is None):
        both = "not both" if spec.subnet is not None else "and none is given"
        raise SpecError(
            f"{where}spec.subnet: a scenario has its subnet here, or in the file that subnetFrom names, {both}"
        )
    return WrittenScenario(scenario, value["spec"].get("subnet"), () if found is None else found.others)


def inline_subnet(written: WrittenScenario, source: str = "", *, nodes_max: int = limits.NODES_MAX) -> Subnet:
    """The checked document of `spec.subnet`. Raises SpecError, with paths from there on."""
    document = subnet_document(written.scenario, dict(written.inline or {}))
    subnet = Subnet.model_validate(document)  # its shapes were right as a part of the scenario
    mistakes = subnet_contradictions(subnet, nodes_max)
    if mistakes:
        lines = [f"{path.replace('spec.', 'spec.subnet.', 1)}: {text}" for path, text in mistakes]
        raise spec_error(lines, f"{source}: " if source else "")
    return subnet


def renamed(subnet: Subnet, name: str, *, nodes_max: int = limits.NODES_MAX) -> Subnet:
    """The same document under another name."""
    document = to_document(subnet)
    document["metadata"]["name"] = name
    return load_subnet(document, nodes_max=nodes_max)


def checked_plan(
    scenario: Scenario, subnet: Subnet, source: str = "", *, nodes_max: int = limits.NODES_MAX
) -> ScenarioPlan:
    """What will be done. Raises one SpecError with a line per mistake."""
    mistakes = contradictions(scenario, subnet, nodes_max)
    if mistakes:
        raise spec_error([f"{path}: {text}" for path, text in mistakes], f"{source}: " if source else "")
    return plan_of(scenario, subnet)


def scenario_json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://p2pnet.io/schemas/scenario.v1alpha1.json",
        **in_lines(Scenario.model_json_schema(by_alias=True)),
    }
