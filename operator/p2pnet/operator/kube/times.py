"""Kubernetes' moments as text. Pure."""

from datetime import UTC, datetime


def parse(text: object) -> datetime | None:
    """An RFC 3339 moment; None for anything else."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    except ValueError:
        return None


def text(moment: datetime) -> str:
    """RFC 3339 with whole seconds, as the API server writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def earliest(*moments: datetime | None) -> datetime | None:
    """The first of those that are."""
    return min((moment for moment in moments if moment is not None), default=None)
