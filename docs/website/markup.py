"""Words of code as Markdown."""

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`\n]+`)")


def plain(text: str) -> str:
    """The text as prose in one line: what it has between backticks stays code, nothing else is markup."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(
        part.replace("|", "\\|") if _CODE.fullmatch(part) else re.sub(r"([\\*_<>|\[\]$`~#{}])", r"\\\1", part)
        for part in parts
    )


def code(text: str) -> str:
    """The text as a span of code that may stand in a table."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|")


def block(text: str, language: str) -> str:
    """The text as a block of code, whatever fences it has itself."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown without a line break. Nothing for no rows."""
    body = ["| " + " | ".join(row) + " |" for row in rows]
    if not body:
        return ""
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |", *body])


def page(*parts: str) -> str:
    """The parts that are not empty, as paragraphs."""
    return "\n\n".join(part for part in parts if part) + "\n"
