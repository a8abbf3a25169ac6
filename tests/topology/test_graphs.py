import pytest

from p2pnet.topology import degree_range, diameter, is_connected

NODES = [f"node-{index}" for index in range(4)]


def test_questions_about_a_full_mesh_need_no_edges() -> None:
    assert is_connected(NODES, None)
    assert diameter(NODES, None) == 1
    assert diameter(NODES[:1], None) == 0
    assert degree_range(NODES, None) == (3, 3)


def test_a_graph_in_pieces_has_no_diameter() -> None:
    assert not is_connected(NODES[:3], [("node-0", "node-1")])
    assert degree_range(NODES[:3], [("node-0", "node-1")]) == (0, 1)
    with pytest.raises(ValueError, match="pieces"):
        diameter(NODES[:3], [("node-0", "node-1")])
