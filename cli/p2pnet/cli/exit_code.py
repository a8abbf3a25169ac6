"""The exit codes of `p2pnet`: a contract, listed in docs/cli.md."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's end means to a script."""

    OK = 0
    """All is well."""
    EXPECTATION_FAILED = 1
    """An expectation failed; or `get` of bytes that the node does not hold."""
    USAGE = 2
    """Usage, no such file, an invalid or unsupported document, a name or port in use, damaged or full state before the start."""
    NOT_FOUND = 3
    """The target or subnet is not found or not reachable; or the collector of `--otlp` took no spans."""
    NOT_READY = 4
    """Not ready in time: what blocks it is printed."""
    INVALID = 5
    """The run is invalid: events or the lab were lost, a fault or rule was not in force, nothing was measured; outranks 1."""
    REGRESSION = 6
    """`compare` found a regression."""
    INCONCLUSIVE = 7
    """`compare` is inconclusive; more trials would decide."""
    BUG = 70
    """A bug of p2pnet."""
    INTERRUPTED = 130
    """Interrupted; data are kept."""
