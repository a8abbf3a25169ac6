"""Writes the site's source into build/docs-source: `make docs` does it before Sphinx reads it."""

import shutil
from pathlib import Path

from docs.website.documents import PRINTED, WRITTEN, document_page, schema_text, schemas_page
from docs.website.gallery import make_gallery
from docs.website.metrics import metrics_page
from docs.website.pages import copy_pages
from docs.website.program import exit_codes_page, verbs_page

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "build" / "docs-source"


def reference_pages() -> dict[str, str]:
    """Path in the site -> text of every page and file that is generated from code alone."""
    pages = {
        "reference/verbs.md": verbs_page(),
        "reference/exit-codes.md": exit_codes_page(),
        "reference/metrics.md": metrics_page(),
        "reference/schemas.md": schemas_page(),
    }
    for kind, example in WRITTEN.items():
        text = (ROOT / example).read_text(encoding="utf-8")
        pages[f"reference/documents/{kind}.md"] = document_page(kind, text)
    for kind in PRINTED:
        pages[f"reference/printed/{kind}.md"] = document_page(kind)
    for kind in (*WRITTEN, *PRINTED):
        pages[f"_extra/schemas/{kind}.json"] = schema_text(kind)
    return pages


def main() -> None:
    """Begin anew, so that nothing stays of a page that is gone."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    copy_pages(SOURCE)
    shutil.copyfile(Path(__file__).with_name("index.md"), SOURCE / "index.md")
    for name, text in reference_pages().items():
        target = SOURCE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    make_gallery(SOURCE, SOURCE / "_extra")


if __name__ == "__main__":
    main()
