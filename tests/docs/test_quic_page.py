"""docs/quic.md: its Python runs, block by block; it imports of ours what is public, and names all that is."""

import re
from pathlib import Path
from typing import Any

import pytest

from p2pnet import quic

PAGE = Path(__file__).parents[2] / "docs" / "quic.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
OURS = re.compile(r"^(?:from|import) (p2pnet\S*)", re.MULTILINE)


def test_every_block_runs_in_the_order_of_the_page() -> None:
    assert len(BLOCKS) >= 12
    names: dict[str, Any] = {"__name__": "manual"}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), names)


def test_what_it_imports_of_ours_is_public() -> None:
    assert {name for block in BLOCKS for name in OURS.findall(block)} == {"p2pnet.quic", "p2pnet.trust"}


@pytest.mark.parametrize("name", quic.__all__)
def test_every_exported_name_is_explained(name: str) -> None:
    assert re.search(rf"`{name}\b", TEXT), name
