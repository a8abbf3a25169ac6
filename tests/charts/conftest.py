"""Helm for the chart's tests: `$HELM`, the one on PATH, or the one the cluster's tests have built."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))

from charts.generate import CHART, ROOT, find_helm

__all__ = ["CHART", "ROOT"]

FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> str:
    """The helm binary; skips without one, fails where a cluster is required, for its tests build one."""
    found = find_helm()
    if found is None and os.environ.get("P2PNET_REQUIRE_CLUSTER") == "1":
        subprocess.run(["bash", str(ROOT / "tests" / "cluster" / "cluster.sh"), "build"], check=True)
        found = find_helm()
    if found is None:
        pytest.skip("no helm: set HELM, or run tests/cluster/cluster.sh build")
    return found


@pytest.fixture(scope="session")
def render(helm: str) -> Render:
    """Objects of the chart under these `--set` values."""

    @functools.cache
    def text(*words: str) -> str:
        done = subprocess.run(
            [helm, "template", "p2pnet", str(CHART), *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(done.stderr)
        return done.stdout

    def rendered(*sets: str, hooks: bool = True, namespace: str = "p2pnet-system") -> list[dict[str, Any]]:
        words = ["--namespace", namespace, *([] if hooks else ["--no-hooks"])]
        for one in sets:
            words += ["--set", one]
        return [one for one in yaml.load_all(text(*words), FAST) if one]

    return rendered
