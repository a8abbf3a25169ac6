"""Expectations of a command line, read before anything is waited for."""

from collections.abc import Iterable

from p2pnet.cli.outcome import CommandError
from p2pnet.measure import expectations
from p2pnet.model.errors import SpecError


def check_expectations(expressions: Iterable[str] | None) -> None:
    """CommandError (exit 2) for the first that cannot be read."""
    for expression in expressions or ():
        try:
            expectations.parse(expression)
        except SpecError as error:
            raise CommandError(
                str(error), where="--expect", next_step="write it like 'p95 <= 800ms' or 'reach >= 99%'"
            ) from None
