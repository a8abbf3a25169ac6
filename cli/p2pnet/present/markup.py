"""HTML and SVG built so that content cannot break them: all text is escaped unless it was made here."""

from collections.abc import Iterable
from html import escape

from p2pnet.present.words import clean


class Markup(str):
    """Text that is HTML already, and is not escaped. Only `tag`, `join` and constants of this package make it."""

    __slots__ = ()


Content = str | int | float | None
Attribute = str | int | float | bool | None

_VOID = frozenset({"meta", "br", "col", "line", "path", "polyline", "rect", "circle", "input"})


def tag(name: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """`<name attributes>content</name>`; None and False are left out, `class_` becomes `class`, `aria_label` `aria-label`."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID and not content:
        return Markup(f"<{name}{written}/>" if name not in {"meta", "br", "col", "input"} else f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(content: Iterable[Content], between: str = "") -> Markup:
    """The parts joined, escaped where they are not markup; None is left out."""
    return Markup(between.join(_safe(one) for one in content if one is not None))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(clean(str(value)), quote=True)}"'


def _safe(content: str | float) -> str:
    return content if isinstance(content, Markup) else escape(clean(str(content)), quote=True)
