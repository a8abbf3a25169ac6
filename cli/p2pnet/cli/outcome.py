"""How a command ends: with a document, or with an error in three lines."""

from dataclasses import dataclass

from p2pnet.cli.documents import Document
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.terminal import clean
from p2pnet.model.errors import P2pnetError


class CommandError(P2pnetError):
    """An error as it is printed: what happened, where, and the next step. Every other error becomes one before it is shown."""

    def __init__(self, what: str, *, where: str, next_step: str, exit_code: int = ExitCode.USAGE) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next_step = next_step
        self.exit_code = int(exit_code)

    def lines(self) -> list[str]:
        """Exactly three lines; a line break inside a part becomes `; `."""
        parts = (("error:", self.what), ("where:", self.where), (" next:", self.next_step))
        return [
            f"{label} {'; '.join(filter(None, map(str.strip, clean(text).split(chr(10)))))}" for label, text in parts
        ]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command hands back. `document` goes to stdout, everything else to stderr."""

    document: Document | None = None
    exit_code: int = 0
    failure: CommandError | None = None
    """Why the exit code is what it is, when a document alone does not say."""
    next: tuple[str, ...] = ()
    """Commands worth typing now."""
