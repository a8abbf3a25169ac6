"""The annotations of a Subnet by which people tell the operator something, and which of their values mean something. Pure."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from p2pnet.model.errors import SpecError
from p2pnet.model.units import parse_duration

PAUSED = "p2pnet.io/paused"
"""`"true"` suspends all writes but those of the status."""
FORCE_RENEW = "p2pnet.io/force-renew"
"""Each new value renews every leaf once."""
FORCE_REPLACE = "p2pnet.io/force-replace"
"""Each new value replaces the authority once."""
REPLACE_LOST = "p2pnet.io/replace-lost-after"
"""How long (`2m`) a machine is lost before its pods are deleted by force and made again elsewhere; at most REPLACE_LOST_MAX."""

REPLACE_LOST_MAX = timedelta(days=30)
"""Who waits longer waits for somebody, and any moment that it is added to stays a date that clocks know."""
FORCE_CHARS_MAX = 253
"""The longest value of FORCE_RENEW and FORCE_REPLACE: it is kept in status and Secrets, which have their own limits."""
_VALUE_CHARS_MAX = 64  # of a duration, and of a value that is quoted: it may have a quarter of a megabyte


def is_paused(annotations: Mapping[str, str]) -> bool:
    """Whether writes for the Subnet with these annotations are suspended."""
    return annotations.get(PAUSED, "").lower() == "true"


def replace_lost_after(annotations: Mapping[str, str]) -> timedelta | None:
    """For how long a machine must be lost until its pods are replaced; None: for ever, or the value means nothing."""
    try:
        return _lost_after(annotations[REPLACE_LOST])
    except (KeyError, SpecError):
        return None


def asked_by(annotations: Mapping[str, str], name: str) -> str:
    """The value of FORCE_RENEW or FORCE_REPLACE; empty: there is none, or it means nothing."""
    value = annotations.get(name, "")
    return value if len(value) <= FORCE_CHARS_MAX else ""


def problem_with(annotations: Mapping[str, str]) -> str:
    """Which values mean nothing and are passed over, in one line; empty: none."""
    found = []
    for name, check in CHECKS.items():
        if name not in annotations:
            continue
        try:
            check(annotations[name])
        except SpecError as error:
            found.append(f"metadata.annotations[{name}]: {error}")
    return "; ".join(found)


def _check_paused(value: str) -> None:
    if value.lower() not in ("true", "false"):
        raise SpecError(f"{_quoted(value)} is neither true nor false; the Subnet is not paused")


def _check_new_value(value: str) -> None:
    if not value:
        raise SpecError("an empty value asks for nothing")
    if len(value) > FORCE_CHARS_MAX:
        raise SpecError(f"write at most {FORCE_CHARS_MAX} characters; nothing is done")


def _lost_after(value: str) -> timedelta:
    """Raises SpecError."""
    nothing = "nothing is replaced"
    if len(value) > _VALUE_CHARS_MAX:
        raise SpecError(f"write at most {_VALUE_CHARS_MAX} characters; {nothing}")
    try:
        seconds = parse_duration(value)
    except SpecError as error:
        raise SpecError(f"{error}; {nothing}") from None
    # Compared as a number: a timedelta cannot hold every duration.
    if seconds > REPLACE_LOST_MAX.total_seconds():
        raise SpecError(f"{value!r} is more than {REPLACE_LOST_MAX.days}d; {nothing}")
    return timedelta(seconds=seconds)


def _quoted(value: str) -> str:
    return repr(value if len(value) <= _VALUE_CHARS_MAX else value[: _VALUE_CHARS_MAX - 1] + "…")


CHECKS: dict[str, Callable[[str], object]] = {
    PAUSED: _check_paused,
    FORCE_REPLACE: _check_new_value,
    FORCE_RENEW: _check_new_value,
    REPLACE_LOST: _lost_after,
}
"""Every annotation that people set on a Subnet, and what raises SpecError for a value that means nothing."""
