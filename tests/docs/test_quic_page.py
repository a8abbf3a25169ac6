"""docs/quic.md: its Python runs, every line of it; it imports of ours what is public, and names all that is."""

import dis
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from p2pnet import quic

PAGE = Path(__file__).parents[2] / "docs" / "quic.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
OURS = re.compile(r"^(?:from|import) (p2pnet\S*)", re.MULTILINE)


def lines(code: CodeType) -> Iterator[tuple[str, int]]:
    """Every line with something to run, of what is defined inside too."""
    yield from ((code.co_filename, line) for _, line in dis.findlinestarts(code) if line)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from lines(inner)


def test_every_line_of_every_block_runs_in_the_order_of_the_page() -> None:
    assert len(BLOCKS) >= 15
    blocks = [compile(block, f"{PAGE.name}, block {number}", "exec") for number, block in enumerate(BLOCKS, 1)]
    ran = set()

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PAGE.name):
            return None
        ran.add((frame.f_code.co_filename, frame.f_lineno))
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        names: dict[str, Any] = {"__name__": "manual"}
        for block in blocks:
            exec(block, names)
    finally:
        sys.settrace(before)
    assert {line for block in blocks for line in lines(block)} - ran == set()


BOUND = re.compile(
    r"^\| ((?:`\w+`(?:, )?)+) \| ((?:[\d,]+(?: KiB| MiB| s)?(?: of each kind)?(?:, (?=\d)| \+ )?)+) \|", re.MULTILINE
)
UNITS = {"": 1, " KiB": 1 << 10, " MiB": 1 << 20, " s": 1}


def test_the_bounds_it_names_are_the_codes() -> None:
    rows = BOUND.findall(TEXT)
    assert len(rows) == 10
    for names, shown in rows:
        texts = [shown] if "+" in shown else re.split(r", (?=\d)", shown)
        found = [
            sum(
                int(number.replace(",", "")) * UNITS[unit]
                for number, unit in re.findall(r"([\d,]+)( KiB| MiB| s|)", text)
            )
            for text in texts
        ]
        fields = [name.strip("`") for name in names.split(", ")]
        assert dict(zip(fields, found, strict=True)) == {name: getattr(quic.Settings(), name) for name in fields}


def test_what_it_imports_of_ours_is_public() -> None:
    assert {name for block in BLOCKS for name in OURS.findall(block)} == {"p2pnet.quic", "p2pnet.trust"}


@pytest.mark.parametrize("name", quic.__all__)
def test_every_exported_name_is_explained(name: str) -> None:
    assert re.search(rf"`{name}\b", TEXT), name


def test_every_test_of_the_check_list_exists() -> None:
    written = "\n".join(path.read_text() for path in Path("tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert len(named) > 100
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []
