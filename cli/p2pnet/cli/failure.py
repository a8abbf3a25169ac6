"""The one shape of an error a person sees: what happened, where, and what to do, with its exit code."""

from enum import IntEnum

from p2pnet.model.errors import P2pnetError

_CONTROL = {code: "?" for code in (*range(32), *range(127, 160)) if code not in (9, 10)} | {9: " "}


def clean(text: str) -> str:
    """The text without control characters: names and messages come from files and networks, terminals obey them."""
    return text.translate(_CONTROL)


class ExitCode(IntEnum):
    """The contract of `p2pnet`'s exit codes."""

    OK = 0
    EXPECTATION_FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_READY = 4
    INVALID = 5
    REGRESSION = 6
    INCONCLUSIVE = 7
    BUG = 70
    INTERRUPTED = 130


class CommandError(P2pnetError):
    """An error with all three lines; everything else is turned into one before it is shown."""

    def __init__(self, what: str, *, where: str, todo: str, exit_code: int = ExitCode.USAGE) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.todo = todo
        self.exit_code = int(exit_code)

    def lines(self) -> list[str]:
        """Exactly three lines; a line break inside a part becomes `; `."""
        parts = (("error:", self.what), ("where:", self.where), (" next:", self.todo))
        return [
            f"{label} {'; '.join(filter(None, map(str.strip, clean(text).split(chr(10)))))}" for label, text in parts
        ]
