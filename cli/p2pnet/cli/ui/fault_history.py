"""The faults of a subnet as a page draws them on the axis of time: those in force, and those that were. Pure, bounded."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from p2pnet.model.report import FaultStatus

KEPT_MAX = 100


class FaultHistory:
    """Faults by name and begin. A status tells those that stand: what it tells no more is over."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, str | None], FaultStatus] = {}

    def take(self, standing: Sequence[FaultStatus], now: datetime | None = None) -> None:
        """Take in a status; `now` (default: this moment) is when faults ended that it tells no more."""
        known = {(fault.name, fault.since): fault for fault in standing}
        for key, fault in list(self._faults.items()):
            if key not in known and fault.since is None:
                del self._faults[key]  # it waited, and has begun or was taken back
            elif key not in known and fault.state != "ended":
                until = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
                self._faults[key] = msgspec.structs.replace(fault, state="ended", until=until)
        self._faults |= known
        for key in list(self._faults)[: max(0, len(self._faults) - KEPT_MAX)]:
            del self._faults[key]

    def listed(self) -> list[FaultStatus]:
        """In the order in which they were heard of, at most KEPT_MAX."""
        return list(self._faults.values())
