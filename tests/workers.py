"""How `make test` divides the tests among processes (pytest-xdist): loaded by `-p tests.workers`.

A worker that begins a group ends it, so that what a group shares is made once: the files of tests/cluster share a real
cluster, those of its control_plane one without machines; each other file is a group by itself.
"""

from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

SHARING = {"tests/cluster": "cluster", "tests/cluster/control_plane": "control plane"}
"""Folders whose files are one group. These last longest and begin first; they mostly wait, which leaves the cores to others."""

NodeManager.EXIT_TIMEOUT = 20  # seconds after Ctrl-C: a cluster is taken down in less, but not in the 10 of xdist


def group(nodeid: str) -> str:
    """The group of a test."""
    file = PurePosixPath(nodeid.partition("::")[0])
    return SHARING.get(str(file.parent), str(file))


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
    first = list(SHARING.values())
    items.sort(key=lambda item: first.index(group(item.nodeid)) if group(item.nodeid) in first else len(first))
