"""Pages of the repository as they are, and what they link to, at the same places in the site's source."""

import ast
import re
import shutil
from pathlib import Path

from docs.website.markup import block, page, plain, table

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("docs/changes", "docs/website")
SHOWN_BYTES = 20_000
"""How large a file may be that the page of its folder shows whole."""
_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)((?:#[^)]*)?\))")
_SHOWN = {".yaml": "yaml", ".py": "python", ".sh": "sh"}


def repository_pages() -> list[Path]:
    """Markdown below docs/ that the site has."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [path for path in found if not path.relative_to(ROOT).as_posix().startswith(LEFT_OUT)]


def copy_pages(source: Path) -> None:
    """Copy pages into `source`; a linked file goes along, a linked folder gets a page. FileNotFoundError: a dead link."""
    own = repository_pages()
    waiting, done = list(own), set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        if path.is_dir():
            _write(source, path / "index.md", folder_page(path))
        elif path.suffix == ".md":
            text, linked = with_links(path)
            _write(source, path, text if path in own else f"---\norphan: true\n---\n{text}")
            waiting += linked
        else:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _write(source: Path, path: Path, text: str) -> None:
    target = source / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def with_links(path: Path) -> tuple[str, list[Path]]:
    """The text of a page, whose links to folders lead to their pages, and what it links to. FileNotFoundError: a dead link."""
    linked = []

    def lead(found: re.Match[str]) -> str:
        target = (path.parent / found[2]).resolve()
        if not target.exists():
            raise FileNotFoundError(f"{path.relative_to(ROOT)} links to {found[2]}, which does not exist")
        target.relative_to(ROOT.resolve())  # ValueError for what is no part of the repository
        linked.append(ROOT / target.relative_to(ROOT.resolve()))
        return f"{found[1]}{found[2].rstrip('/')}/index.md{found[3]}" if target.is_dir() else found[0]

    return _LINK.sub(lead, path.read_text(encoding="utf-8")), linked


def folder_page(folder: Path) -> str:
    """What a folder is for and has: of a package its docstring and modules, of any other its files."""
    name = folder.relative_to(ROOT).as_posix()
    files = sorted(path for path in folder.iterdir() if path.is_file())
    head = "---\norphan: true\n---\n# " + plain(name)
    if (folder / "__init__.py").exists():
        rows = [(f"`{path.stem}`", plain(_docstring(path).partition("\n\n")[0])) for path in files if _is_module(path)]
        about = [plain(one) for one in _docstring(folder / "__init__.py").split("\n\n")]
        return page(head, *about, table(("module", ""), rows))
    shown = [
        page(f"## {plain(path.name)}", block(path.read_text(encoding="utf-8"), _SHOWN[path.suffix]))
        for path in files
        if path.suffix in _SHOWN and path.stat().st_size <= SHOWN_BYTES
    ]
    return page(head, ", ".join(f"`{path.name}`" for path in files), *shown)


def _is_module(path: Path) -> bool:
    return path.suffix == ".py" and path.name != "__init__.py"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
