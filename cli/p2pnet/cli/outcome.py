"""What a command hands back: a document to draw, an exit code, and what to say beside it. Pure data."""

from dataclasses import dataclass

from p2pnet.cli.documents import Document
from p2pnet.cli.failure import CommandError


@dataclass(frozen=True, slots=True)
class Outcome:
    """`document` goes to stdout, everything else to stderr."""

    document: Document | None = None
    exit_code: int = 0
    failure: CommandError | None = None
    """Why the exit code is what it is, when a document alone does not say."""
    next: tuple[str, ...] = ()
    """Commands worth typing now."""
