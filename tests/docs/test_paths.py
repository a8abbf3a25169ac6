"""Every file and module that a page names exists, so that a reader who follows it arrives."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
MODULES = [str(path) for folder in ("node", "operator", "cli") for path in (ROOT / folder).rglob("*.py")]
CODE = re.compile(r"`(?!aioquic/|p2pnet/__init__)([\w./-]+/[\w-]+\.py)`")
DOTTED = re.compile(r"`(p2pnet(?!\.io)(?:\.[a-z_0-9]+)+)")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


_SPANS = (ROOT / "cli/p2pnet/present/spans.py").read_text()
_LOADS = [
    f"{end}.{figure}"
    for end in ("p2pnet.sender", "p2pnet.receiver")
    for figure in re.findall(r"\{prefix\}\.(\w+)", _SPANS)
]
ATTRIBUTES = {*re.findall(r'"(p2pnet\.[a-z_.]+)"', _SPANS), *_LOADS}
"""Of spans, which look like modules."""


def _is_module(name: str) -> bool:
    """A module, or a name in one."""
    path = name.replace(".", "/")
    return any(f"/{path}.py" in one or f"/{path}/__init__.py" in one for one in MODULES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    missing = [path for path in CODE.findall(text) if not (ROOT / path).exists() and not _ends_a_module(path)]
    missing += [
        name
        for name in DOTTED.findall(text)
        if not _is_module(name) and not _is_module(name.rpartition(".")[0]) and name not in ATTRIBUTES
    ]
    missing += [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []


def _ends_a_module(path: str) -> bool:
    return any(one.endswith(f"/{path}") for one in MODULES)


def test_every_link_to_a_heading_has_its_heading() -> None:
    for page in PAGES:
        for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)]+)\)", page.read_text()):
            target = (page.parent / link) if link else page
            headings = re.findall(r"^#+ (.+)$", target.read_text(), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
            assert anchor in slugs, f"{page.name}: {link}#{anchor}"
