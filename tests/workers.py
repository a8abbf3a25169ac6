"""How `make test` divides the tests among processes (pytest-xdist): loaded by `-p tests.workers`.

A worker that begins a group ends it, so that what a group shares is made once: the real cluster is one group, the control
plane without machines is another, and each other file is one by itself.
"""

from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

LONGEST = ("cluster", "control plane")
"""Groups that begin at once, as they last longest; they mostly wait, and leave the cores to the others."""

NodeManager.EXIT_TIMEOUT = 20  # seconds after Ctrl-C: a cluster is taken down in less, but not in the 10 of xdist


def group(nodeid: str) -> str:
    """The group of a test."""
    file = PurePosixPath(nodeid.partition("::")[0])
    if file.is_relative_to("tests/cluster/control_plane"):
        return "control plane"
    return "cluster" if file.is_relative_to("tests/cluster") else str(file)


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives whole groups to workers, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGroup:
    """The scheduler, whatever `--dist` says."""
    config.option.loadscopereorder = False
    return ByGroup(config, log)


@pytest.hookimpl(trylast=True)  # after pytest-randomly, whose order holds within groups and among those not named
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    items.sort(key=lambda item: LONGEST.index(group(item.nodeid)) if group(item.nodeid) in LONGEST else len(LONGEST))
