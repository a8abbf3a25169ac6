import re
from pathlib import Path

import pytest

import p2pnet.sim

ROOT = Path(__file__).parent.parent.parent


def test_the_example_in_the_docs_of_clients_is_true(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "examples" / "clients")
    (example,) = re.findall(
        r"```python\n(from chat import .*?)```", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL
    )
    exec(example, {})
    assert "s to the last" in capsys.readouterr().out


def test_the_example_of_the_package_is_true():
    (example,) = re.findall(r"\n\n((?:    .*\n|\n)+)", p2pnet.sim.__doc__)
    assert "world.settle()" in example
    exec("\n".join(line[4:] for line in example.splitlines()), {})


@pytest.mark.parametrize("name", p2pnet.sim.__all__)
def test_everything_public_is_there(name):
    assert hasattr(p2pnet.sim, name)
