"""The exit codes of `p2pnet`: a contract, listed in docs/cli.md."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's end means to a script."""

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
