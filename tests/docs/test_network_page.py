"""The page about the network: its documents are documents, and it leaves no field out."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.network import network_plan
from p2pnet.subnet.network_spec import AccessSpec, ChurnSpec, FaultSpec, NetworkSpec, PartitionSpec
from p2pnet.subnet.spec import API_VERSION, Subnet

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "network.md").read_text()
PARTS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
WISHES = re.findall(r"`((?:network|faults): [^`]+)`", PAGE)
GROUPS = [
    {"name": "home", "nodes": 4, "labels": {"region": "eu"}}, {"name": "far", "nodes": 4, "labels": {"region": "us"}},
]  # fmt: skip


def subnet(part: str) -> Subnet:
    spec: dict[str, Any] = {"nodes": 4, "groups": GROUPS, **yaml.safe_load(part)}
    return load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})


@pytest.mark.parametrize("part", [*PARTS, *WISHES])
def test_every_part_of_a_document_on_the_page_can_be_written(part: str) -> None:
    read = subnet(part)
    plan = network_plan(read, read.spec.faults)
    assert plan.shaped or any(fault.kinds in (["kill"], ["churn"]) for fault in read.spec.faults)


def test_the_page_has_parts() -> None:
    assert len(PARTS) == 4
    assert len(WISHES) >= 8


@pytest.mark.parametrize("name", ["network.yaml", "faults.yaml"])
def test_the_examples_are_documents_without_notes(name: str) -> None:
    read = load_subnet((ROOT / "examples" / name).read_text(), name)
    plan = network_plan(read, read.spec.faults)
    assert plan.notes == []
    assert plan.shaped


@pytest.mark.parametrize("part", [NetworkSpec, AccessSpec, FaultSpec, PartitionSpec, ChurnSpec])
def test_every_field_stands_on_the_page(part: Any) -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    words = set(re.findall(r"[A-Za-z]+", " ".join([*re.findall(r"`[^`]+`", prose), *PARTS])))
    assert {field.alias or name for name, field in part.model_fields.items()} - words == set()
