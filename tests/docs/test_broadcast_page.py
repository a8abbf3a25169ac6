"""docs/broadcast.md names tests that exist and bounds as the code has them."""

import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "broadcast.md").read_text()
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "B": 1, "": 1}
NANOSECONDS = {"ms": 1_000_000, "s": 1_000_000_000}
BOUND = re.compile(r"\| `(model|broadcast)\.(\w+)\.([A-Z_]+)` \| (\d+) ?(\w*) \|")


def test_every_test_it_names_is_there() -> None:
    sources = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", sources))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 80
    assert named - there == set()


def test_every_bound_it_names_is_the_codes() -> None:
    bounds = BOUND.findall(PAGE)
    assert len(bounds) == PAGE.count("| `model.") + PAGE.count("| `broadcast.")
    for room, module, name, number, unit in bounds:
        value = getattr(import_module(f"p2pnet.{room}.{module}"), name)
        factor = NANOSECONDS[unit] if name.endswith("_NS") else UNITS.get(unit, 1)
        assert value == int(number) * factor, name
