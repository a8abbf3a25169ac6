"""docs/clients.md: its Python runs, block by block, and its client is one that real nodes load."""

import re
from pathlib import Path
from typing import Any

import pytest

from p2pnet.broadcast import Broadcast
from p2pnet.broadcast.loading import load_client
from p2pnet.model.config import ClientConfig

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
EXAMPLES = PAGE.parents[1] / "examples" / "clients"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
OURS_ALONE = re.compile(r"^(?:from|import) (p2pnet\S*)", re.MULTILINE)


def test_every_block_runs_in_the_order_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert len(BLOCKS) >= 5
    names: dict[str, Any] = {"__name__": "tutorial"}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), names)
    assert isinstance(names["a"].core, Broadcast)


def test_what_it_imports_of_ours_is_broadcast_and_sim_alone() -> None:
    imported = {name for block in BLOCKS for name in OURS_ALONE.findall(block)}
    assert imported == {"p2pnet.broadcast", "p2pnet.sim"}
    example = (EXAMPLES / "chat.py").read_text()
    assert set(OURS_ALONE.findall(example)) == {"p2pnet.broadcast"}


def test_its_client_is_loaded_as_real_nodes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latest.py").write_text(BLOCKS[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    client = load_client(ClientConfig(name="latest", class_="latest:Latest"), node="node-0")
    made = client.make("weather", b"sun", nonce=bytes(16), now=1.0, keep_s=1.0)
    assert client.inspect(made).size == 3
