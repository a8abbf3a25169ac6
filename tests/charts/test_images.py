"""The Dockerfile and what goes into the images."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from tests.charts.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EVERYTHING = {one for one in requires("p2pnet") or () if "extra ==" not in one}


def names(requirements: set[str]) -> set[str]:
    return {re.split(r"\W", one.replace("-", "_"))[0] for one in requirements}


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


@pytest.mark.parametrize("file", ["Dockerfile", "tests/cluster/pause/Dockerfile"])
def test_hadolint_finds_nothing(file: str) -> None:
    done = subprocess.run([tool("hadolint"), str(ROOT / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing_in_any_script() -> None:
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "*.sh",
            ".ci/run",
            "tests/cluster/stand_in/docker",
            "tests/cluster/kind_node/entrypoint",
            "tests/cluster/kind_node/runtime",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    scripts = listed.stdout.split()
    assert scripts
    done = subprocess.run([tool("shellcheck"), "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_operators_image_installs_some_of_the_projects_dependencies() -> None:
    wanted = set(PROJECT["dependency-groups"]["image-operator"])
    assert wanted <= EVERYTHING
    assert names(EVERYTHING - wanted) == {"aioquic", "h11", "rich", "typer"}


def test_the_node_image_installs_what_p2pnet_node_says_its_image_needs() -> None:
    node = tomllib.loads((ROOT / "node" / "pyproject.toml").read_text())["project"]
    extras = node["optional-dependencies"]
    assert "p2pnet-node[process]" in extras["image"]
    wanted = {*node["dependencies"], *extras["process"], *extras["image"]} - {"p2pnet-node[process]"}
    assert names(EVERYTHING - wanted) == {"kopf", "kubernetes", "rich", "typer"}
    assert 'install --quiet --only-deps "./node[image]"' in (ROOT / "Dockerfile").read_text()


def test_images_run_as_nobody_without_a_shell_and_say_what_they_are() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "USER 65532:65532" in text
    assert re.findall(r"^ENTRYPOINT (.)", text, re.MULTILINE) == ["[", "["]
    for label in ("title", "description", "version", "revision", "created", "licenses", "vendor", "url", "source"):
        assert f"org.opencontainers.image.{label}=" in text
    assert re.findall(r"^FROM runtime AS (\w+)$", text, re.MULTILINE) == ["operator", "node"]
