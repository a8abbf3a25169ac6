"""How `make test` divides the tests among processes (pytest-xdist): loaded by `-p tests.workers`.

A worker that begins a group ends it, so that what a group shares is made once: the files of tests/cluster share a real
cluster, those of its control_plane one without machines; those of kind have clusters of their own and follow one another;
each other file is a group by itself.

A test marked `alone` has the machine to itself: it waits until the tests of the other workers end, and they begin none
until it has. It is for tests in which many processes keep time, which two busy cores would not let them.
"""

import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

SHARING = {
    "tests/cluster": "cluster",
    "tests/cluster/control_plane": "control plane",
    "tests/cluster/test_kind.py": "kind",
    "tests/cluster/test_real_kind.py": "kind",
}
"""Folders whose files are one group, and files that are not of their folder's. These last longest and begin first; they
mostly wait, which leaves the cores to others."""

NodeManager.EXIT_TIMEOUT = 20  # seconds after Ctrl-C: a cluster is taken down in less, but not in the 10 of xdist


@contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    """Hold a lock of a file, LOCK_SH or LOCK_EX of `fcntl`, inside the block; a process that dies lets go of it."""
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield


class Room:
    """Workers of one checkout: any number of them inside together, or one alone. Who waits to be alone goes first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.door, self.inside = folder / "workers.door", folder / "workers.inside"

    @contextmanager
    def together(self) -> Iterator[None]:
        """Be inside with others, after those who wait at the door to be alone."""
        with self.inside.open("a") as file:
            with locked(self.door, fcntl.LOCK_EX):
                fcntl.flock(file, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Close the door, wait until the others have left, be inside alone."""
        with locked(self.door, fcntl.LOCK_EX), locked(self.inside, fcntl.LOCK_EX):
            yield


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout, for waiting is no part of the test
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Inside with the other workers, or alone."""
    turn: AbstractContextManager[None] = nullcontext()
    if hasattr(item.config, "workerinput"):
        room = Room(item.config.rootpath / ".pytest_cache")
        turn = room.alone() if item.get_closest_marker("alone") else room.together()
    with turn:
        return (yield)


def file_of(nodeid: str) -> str:
    """The file of a test, below the root of the repository."""
    return nodeid.partition("::")[0]


def group(nodeid: str) -> str:
    """The group of a test, or of a file."""
    file = PurePosixPath(file_of(nodeid))
    return SHARING.get(str(file)) or SHARING.get(str(file.parent), str(file))


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
    """The longest first, those that want the machine to themselves last: Kubernetes is no longer compiled by then.

    Within a group, too, their files come last: whoever waits to be alone waits for the longest test of the other workers, and
    tests of minutes are among those that begin first.
    """
    order = list(dict.fromkeys(SHARING.values()))
    files = {file_of(item.nodeid) for item in items if item.get_closest_marker("alone")}
    alone = {group(file) for file in files}

    def place(item: pytest.Item) -> tuple[int, bool]:
        name, file = group(item.nodeid), file_of(item.nodeid)
        return order.index(name) if name in order else len(order) + (name in alone), file in files

    items.sort(key=place)
