"""What pages with scripts share: the scripts and what a policy calls them by, the head, and the places where they draw."""

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

from p2pnet.present.markup import Content, Markup, tag
from p2pnet.present.style import themed_sheet

SCRIPTS = ("libraries.js", "view.js")
"""Built from cli/page by `make page`; their licences lie beside them."""


def digest(text: str) -> str:
    """What a policy calls a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache(maxsize=len(SCRIPTS))
def script(name: str) -> str:
    """One of SCRIPTS."""
    return files("p2pnet.present").joinpath("vendor", name).read_text(encoding="utf-8")


def beside(name: str) -> str:
    """A file that lies beside this module."""
    return files("p2pnet.present").joinpath(name).read_text(encoding="utf-8")


def head(title: str, *more: Content) -> Markup:
    """The head of a page, with its sheet."""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        *more,
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(themed_sheet() + beside("full.css"))),
    )


def part(key: str, title: str, *content: Content) -> Markup:
    """A card with a heading, which links can lead to."""
    heading = tag("h2", title, id=f"{key}-title")
    return tag("section", heading, *content, id=key, class_="card part", aria_labelledby=f"{key}-title")


def drawn(key: str) -> Markup:
    """Where the page's script draws."""
    return tag("div", data_view=key, class_="drawn")
