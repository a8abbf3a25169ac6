"""What `p2pnet` depends on, when it is built: everything that stands in the two lists, each of them written once.

node/pyproject.toml has what nodes and labs need, the groups of pyproject.toml what the operator and the command line do.
"""

import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

NODE = "p2pnet-node"
GROUPS = ("image-operator", "command-line")


class Dependencies(MetadataHookInterface):
    """Hatchling finds it by `tool.hatch.metadata.hooks.custom`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in `dependencies`."""
        metadata["dependencies"] = dependencies(Path(self.root))


def dependencies(root: Path) -> list[str]:
    """Dependencies of the distribution `p2pnet` of this checkout or sdist, sorted, each once."""
    node = tomllib.loads((root / "node" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    lists = [node["dependencies"], *node["optional-dependencies"].values(), *(groups[name] for name in GROUPS)]
    return sorted({one for some in lists for one in some if not one.startswith(NODE)})
