"""Which tests `make test` gives to one worker."""

from types import SimpleNamespace

from tests.workers import group, pytest_collection_modifyitems

REAL = "tests/cluster/test_subnet.py::test_packed"
PLAYED = "tests/cluster/control_plane/test_scale.py::test_ten[a/b::c]"
OTHERS = ["tests/quic/test_once.py::test_b", "tests/quic/test_once.py::test_a", "tests/test_house.py::test_x"]


def test_the_files_of_a_cluster_are_one_group_and_any_other_file_is_one() -> None:
    assert group(REAL) == group("tests/cluster/test_machines.py::test_drained") == "cluster"
    assert group(PLAYED) == "control plane"
    assert group("tests/cluster/script/test_traces.py::test_nothing") == "tests/cluster/script/test_traces.py"
    assert [group(one) for one in OTHERS] == [*["tests/quic/test_once.py"] * 2, "tests/test_house.py"]


def test_clusters_come_first_and_the_rest_keeps_its_order() -> None:
    items = [SimpleNamespace(nodeid=nodeid) for nodeid in (*OTHERS, PLAYED, REAL)]
    pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == [REAL, PLAYED, *OTHERS]
