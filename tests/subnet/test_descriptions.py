"""Schemas say of each field what stands under it in the source, which nobody reads who only checks documents."""

import subprocess
import sys

from p2pnet.subnet.descriptions import descriptions_of
from p2pnet.subnet.document import subnet_json_schema
from p2pnet.subnet.quantities import Document
from p2pnet.subnet.spec import LabSpec


class Basket(Document):
    """Bases are read, too."""

    apples: int = 0
    """How many of them.

    And of which kind."""
    pears: int = 0


class LargeBasket(Basket):
    """Its own words win."""

    apples: int = 10
    """Very many."""
    melons: int = 1
    """One of them."""


def test_what_stands_under_a_field_describes_it_and_a_subclass_has_the_last_word() -> None:
    assert descriptions_of(Basket) == {"apples": "How many of them.\n\nAnd of which kind."}
    assert descriptions_of(LargeBasket) == {"apples": "Very many.", "melons": "One of them."}
    properties = LargeBasket.model_json_schema()["properties"]
    assert properties["apples"]["description"] == "Very many."
    assert "description" not in properties["pears"]


def test_a_class_without_a_source_has_none() -> None:
    assert descriptions_of(int) == {}
    assert descriptions_of(type("Nowhere", (), {"__module__": "no_such_module"})) == {}


def test_a_schema_describes_parts_in_parts() -> None:
    storage = subnet_json_schema()["$defs"]["LabSpec"]["properties"]["storage"]["description"]
    assert storage == descriptions_of(LabSpec)["storage"]


def test_who_checks_a_document_reads_no_source() -> None:
    document = b'{"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "a"}, "spec": {}}'
    code = (
        "import inspect, sys\n"
        "inspect.getsource = inspect.findsource = None\n"
        "from p2pnet.subnet.document import load_subnet\n"
        f"load_subnet({document!r}, 'here')\n"
        "sys.exit('p2pnet.subnet.descriptions' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
