"""What every test of the house lives by."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
# Folders whose tests bear their name as a marker: `make unit` leaves them out.
MARKED = ("browser", "cluster", "e2e")
GARBAGE = 64 << 20
"""Bytes by which a process may grow before its garbage is collected: Python counts objects, and the cycles of a world that a
test has left behind are few, but may hold megabytes of artifacts."""

# A busy machine is no failure: examples are bounded in number and size, never in time.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# A shell starts background jobs with Ctrl-C ignored, and so would every process be that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKED:
            item.add_marker(folder)


class Tidy:
    """Collects garbage after a test when the process has grown by `GARBAGE`."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # around all that holds on to a test
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """One test, and what it left behind."""
        done = yield
        if self._process.memory_info().rss > self._before + GARBAGE:
            gc.collect()
            self._before = self._process.memory_info().rss
        return done


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Tidy(), "tidy")


# Where no bytecode may lie beside the sources, each of the hundreds of processes that tests start would compile them anew.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(
        Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
    )
