from pathlib import Path

import pytest

from p2pnet.model import limits
from p2pnet.model.config import BroadcastSettings, ClientConfig, NodeConfig, read_node_config, write_node_config
from p2pnet.model.errors import SpecError


def test_a_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = NodeConfig(name="node-0", subnet="demo", clients=[ClientConfig("chat", "chat:Chat", {"rooms": [1, None]})])
    write_node_config(tmp_path / "node.json", config)
    assert read_node_config(tmp_path / "node.json") == config
    assert [file.name for file in tmp_path.iterdir()] == ["node.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"name": "node-0"}', '{"name": "a", "subnet": "b", "colour": "red"}'])
def test_a_file_that_is_no_config_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(SpecError, match=r"node\.json: not a node config"):
        read_node_config(tmp_path / "node.json")
    with pytest.raises(SpecError, match="cannot read the node config"):
        read_node_config(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (BroadcastSettings(), limits.PART_BYTES + 1),
        (BroadcastSettings(full_mesh=False), limits.PUSH_BELOW_BYTES),
        (BroadcastSettings(push_below=0), 0),
        (BroadcastSettings(push_below=7, full_mesh=False), 7),
    ],
)
def test_what_is_pushed_depends_on_the_topology_unless_it_is_set(settings: BroadcastSettings, limit: int) -> None:
    assert settings.push_limit == limit
