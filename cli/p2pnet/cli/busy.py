"""How busy this machine is while something is measured on it."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pnet.cli.capacity import this_machine
from p2pnet.model.comparison import MachineLoad

PRESSURE = Path("/proc/pressure/cpu")
BUSY_SHARE = (
    0.5  # of the cores by the load average, or of the time with somebody waiting: beyond, latencies tell of the machine
)
_WAITED_US = re.compile(r"^some .*total=([0-9]+)$", re.MULTILINE)


class BusyWatch:
    """Looks at the machine before anything is started, and while trials go on."""

    def __init__(self, pressure: Path = PRESSURE, clock: Callable[[], float] = time.monotonic) -> None:
        self._pressure = pressure
        self._clock = clock
        self._cores = this_machine().cores
        self._before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._waited_s, self._seconds, self._most = 0.0, 0.0, 0.0

    @contextmanager
    def trial(self) -> Iterator[None]:
        """One trial, from its begin to its end."""
        began_s, waited_s = self._clock(), self._total_s()
        yield
        seconds, ended_s = self._clock() - began_s, self._total_s()
        if waited_s is not None and ended_s is not None and seconds > 0:
            self._waited_s += ended_s - waited_s
            self._seconds += seconds
            self._most = max(self._most, min(1.0, (ended_s - waited_s) / seconds))

    def seen(self) -> MachineLoad:
        """What it saw."""
        waited = min(1.0, self._waited_s / self._seconds) if self._seconds else None
        return MachineLoad(
            cores=self._cores,
            load_before=self._before,
            waited=waited,
            waited_most=None if waited is None else self._most,
        )

    def _total_s(self) -> float | None:
        """Seconds since the machine started in which somebody waited for a core."""
        try:
            found = _WAITED_US.search(self._pressure.read_text(encoding="ascii"))
        except OSError:
            return None
        return None if found is None else int(found[1]) / 1e6


def busy_warnings(load: MachineLoad) -> list[str]:
    """A sentence for each sign that the machine had other things to do, or too much."""
    found = []
    if load.load_before is not None and load.load_before > BUSY_SHARE * load.cores:
        found.append(
            f"the machine was busy before it began: load average {load.load_before:.1f} on {load.cores:g} cores"
        )
    if load.waited is not None and load.waited > BUSY_SHARE:
        found.append(
            f"the machine was busy: in {load.waited:.0%} of the trials' time a process waited for a core, so latencies tell"
            " of that, too"
        )
    return found
