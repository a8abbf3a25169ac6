"""What every test of the house lives by."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
# Folders whose tests bear their name as a marker: `make unit` leaves them out.
MARKED = ("browser", "cluster", "e2e")

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


# Where no bytecode may lie beside the sources, each of the hundreds of processes that tests start would compile them anew.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(
        Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
    )
