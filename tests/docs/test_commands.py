"""Whatever command of ours is printed or written somewhere exists: its verb and its options."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.commands import COMMAND, options_of_verbs, unknown

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "charts" / "p2pnet" / "templates" / "NOTES.txt",
]
SOURCES = [path for folder in ("cli", "operator", "node") for path in sorted((ROOT / folder).rglob("*.py"))]
PROSE = {
    "charts",
    "command",
    "ended",
    "is",
    "itself",
    "node",
    "nodes",
    "operator",
    "payload",
    "publishers",
    "puts",
    "subnet",
    "version",
}
"""Words that follow the name where no command is meant."""


def printed(path: Path) -> Iterator[str]:
    """Every string of a module that is no docstring; what is filled in becomes a word."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
    }
    for node in ast.walk(tree):
        if id(node) in prose or id(node) in parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "WORD" for one in node.values)


def meant(text: str) -> str:
    """The text without the sentences about p2pnet."""
    return COMMAND.sub(lambda found: "" if found.group(1).split()[0] in PROSE else found.group(0), text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_of_a_page_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = (
        text
        if path.suffix != ".md"
        else "\n".join(re.findall(r"^```.*?^```|`[^`\n]+`", text, re.MULTILINE | re.DOTALL))
    )
    assert not list(unknown(meant(code), options_of_verbs()))


def test_every_command_that_the_program_prints_exists() -> None:
    options = options_of_verbs()
    wrong = {
        path.name: found
        for path in SOURCES
        if (found := [x for text in printed(path) for x in unknown(meant(text), options)])
    }
    assert not wrong


def test_a_command_that_does_not_exist_is_found() -> None:
    options = options_of_verbs()
    assert list(unknown("p2pnet fly demo", options))
    assert list(unknown("then p2pnet status demo --target cluster", options))
    assert not list(unknown("p2pnet status demo --on cluster -n blue", options))
