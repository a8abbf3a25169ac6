"""Which tests `make test` gives to one worker."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.workers import Room, group, pytest_collection_modifyitems

REAL = "tests/cluster/test_subnet.py::test_packed"
PLAYED = "tests/cluster/control_plane/test_scale.py::test_ten[a/b::c]"
KIND = "tests/cluster/test_kind.py::test_a_second_up"
OTHERS = ["tests/quic/test_once.py::test_b", "tests/quic/test_once.py::test_a", "tests/test_house.py::test_x"]


def test_the_files_of_a_cluster_are_one_group_and_any_other_file_is_one() -> None:
    assert group(REAL) == group("tests/cluster/test_machines.py::test_drained") == "cluster"
    assert group(PLAYED) == "control plane"
    assert group(KIND) == group("tests/cluster/test_real_kind.py::test_up") == "kind"
    assert group("tests/cluster/script/test_traces.py::test_nothing") == "tests/cluster/script/test_traces.py"
    assert [group(one) for one in OTHERS] == [*["tests/quic/test_once.py"] * 2, "tests/test_house.py"]


def named(nodeid: str, *marks: str) -> Any:
    return SimpleNamespace(nodeid=nodeid, get_closest_marker=lambda mark: mark if mark in marks else None)


def test_clusters_come_first_who_wants_to_be_alone_last_and_the_rest_keeps_its_order() -> None:
    lone = named("tests/e2e/test_lying.py::test_a", "alone")
    items = [lone, *map(named, OTHERS), named(KIND), named(PLAYED, "alone"), named(REAL)]
    pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == [REAL, PLAYED, KIND, *OTHERS, lone.nodeid]


def test_files_of_a_group_with_one_who_wants_to_be_alone_come_last_in_it_and_stay_whole() -> None:
    lone, beside = (
        named("tests/cluster/test_network.py::test_b", "alone"),
        named("tests/cluster/test_network.py::test_a"),
    )
    items = [beside, lone, named(REAL), named(PLAYED)]
    pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == [REAL, beside.nodeid, lone.nodeid, PLAYED]


def test_one_alone_waits_for_those_inside_and_they_for_him(tmp_path: Path) -> None:
    room, said = Room(tmp_path / "cache"), list[str]()
    entered, leave = threading.Event(), threading.Event()

    def worker(turn: Callable[[], AbstractContextManager[None]], name: str) -> threading.Thread:
        def work() -> None:
            with turn():
                said.append(name)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def lone() -> None:
        with room.alone():
            said.append("alone")
            entered.set()
            leave.wait(20)
            said.append("alone no more")

    with room.together():
        with room.together():
            pass  # any number of them
        alone = threading.Thread(target=lone)
        alone.start()
        assert not entered.wait(0.1)
        said.append("out")
    assert entered.wait(20)
    other = worker(room.together, "together")
    other.join(0.1)
    assert said == ["out", "alone"]
    leave.set()
    other.join(20)
    alone.join(20)
    assert said == ["out", "alone", "alone no more", "together"]
