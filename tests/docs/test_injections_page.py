"""The page about Injections: its documents are read, its Role is the one in the code, and every reason stands on it."""

import re
from pathlib import Path

import yaml

from p2pnet.operator import rbac
from p2pnet.subnet.injection import InjectionSpec, load_injection

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "inject-with-kubectl.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]


def test_the_documents_of_the_page_and_the_example_are_right() -> None:
    [on_page] = [block for block in BLOCKS if block["kind"] == "Injection"]
    assert load_injection(on_page).spec.count == 20
    assert load_injection((ROOT / "examples" / "injection.yaml").read_text()).name == "smoke"


def test_the_role_of_the_page_is_enough_and_no_more() -> None:
    [role] = [block for block in BLOCKS if block["kind"] == "Role"]
    assert role == rbac.injector_role("default")


def test_every_field_and_every_reason_stands_on_the_page() -> None:
    for name, field in InjectionSpec.model_fields.items():
        assert f"`{field.alias or name}" in PAGE, name
    source = "".join(path.read_text() for path in (ROOT / "operator/p2pnet/operator/injection").glob("*.py"))
    reasons = set(re.findall(r'Reason\(\s*"(\w+)"', source))
    assert len(reasons) > 15
    assert {reason for reason in reasons if f"`{reason}`" not in PAGE} == set()
