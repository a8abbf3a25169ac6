"""The Dockerfile and what goes into the images."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.charts.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


@pytest.mark.parametrize("file", ["Dockerfile", "tests/cluster/pause/Dockerfile"])
def test_hadolint_finds_nothing(file: str) -> None:
    done = subprocess.run([tool("hadolint"), str(ROOT / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing_in_the_cluster_script() -> None:
    script = ["tests/cluster/cluster.sh", "tests/cluster/config.sh"]
    done = subprocess.run([tool("shellcheck"), "-x", *script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("group", "without"),
    [("image-node", {"kopf", "kubernetes", "rich", "typer"}), ("image-operator", {"aioquic", "h11", "rich", "typer"})],
)
def test_an_image_installs_some_of_the_projects_dependencies_with_the_same_bounds(
    group: str, without: set[str]
) -> None:
    wanted, all_of_them = set(PROJECT["dependency-groups"][group]), set(PROJECT["project"]["dependencies"])
    assert wanted <= all_of_them
    assert {re.split(r"\W", one.replace("-", "_"))[0] for one in all_of_them - wanted} == without


def test_images_run_as_nobody_without_a_shell_and_say_what_they_are() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "USER 65532:65532" in text
    assert re.findall(r"^ENTRYPOINT (.)", text, re.MULTILINE) == ["[", "["]
    for label in ("title", "description", "version", "revision", "created", "licenses", "vendor", "url", "source"):
        assert f"org.opencontainers.image.{label}=" in text
    assert re.findall(r"^FROM runtime AS (\w+)$", text, re.MULTILINE) == ["operator", "node"]
