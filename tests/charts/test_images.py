"""The Dockerfile and what goes into the images."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
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


GROUPS = PROJECT["dependency-groups"]
NODE = tomllib.loads((ROOT / "node" / "pyproject.toml").read_text())["project"]
LOCKS = {
    "node/image.lock": [*NODE["dependencies"], *NODE["optional-dependencies"]["process"],
                        *(one for one in NODE["optional-dependencies"]["image"] if "[process]" not in one)],
    "operator/image.lock": GROUPS["image-operator"],
    "operator/build.lock": GROUPS["image-build"],
}  # fmt: skip
"""What each lock is made of."""


def pins(lock: str) -> dict[str, tuple[str, list[str], set[str]]]:
    """Name -> version, hashes, and what asks for it ("" for a list of ours)."""
    found = {}
    for block in re.split(r"\n(?=\S)", (ROOT / lock).read_text()):
        head = re.match(r"([a-z0-9-]+)==(\S+)", block)
        assert head, block
        askers = {one.removeprefix("via").strip() for one in re.findall(r"^ +# +(\S.*)$", block, re.MULTILINE)} - {""}
        by = {"" if one.startswith("p2pnet") else one for one in askers}
        found[head[1]] = head[2], re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block), by
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_its_list_asks_for_with_hashes_and_nothing_that_nobody_asks_for(lock: str) -> None:
    pinned = pins(lock)
    for requirement in map(Requirement, LOCKS[lock]):
        version, _, by = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"make lock: {requirement} and {version}"
        assert "" in by, f"make lock: {requirement} is new"
    asked = {canonicalize_name(Requirement(one).name) for one in LOCKS[lock]}
    assert {name for name, (_, _, by) in pinned.items() if "" in by} == asked, "make lock: something has left the list"
    for name, (_, hashes, by) in pinned.items():
        assert hashes, name
        assert by - {""} <= pinned.keys(), name


def test_images_install_from_locks_that_name_no_host_and_all_else_is_made_here() -> None:
    text = (ROOT / "Dockerfile").read_text()
    installs = re.findall(r"pip\b.* (?:install|wheel) (.*)$", text, re.MULTILINE)
    assert len(installs) == 6
    for words in installs:
        assert "--require-hashes" in words or "--no-deps" in words
    assert [name for name in LOCKS if f"COPY {name} ./" not in text] == []
    assert not [name for name in LOCKS if "://" in (ROOT / name).read_text()]


def test_images_run_as_nobody_without_a_shell_and_say_what_they_are() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "USER 65532:65532" in text
    assert re.findall(r"^ENTRYPOINT (.)", text, re.MULTILINE) == ["[", "["]
    for label in ("title", "description", "version", "revision", "created", "licenses", "vendor", "url", "source"):
        assert f"org.opencontainers.image.{label}=" in text
    assert re.findall(r"^FROM runtime AS (\w+)$", text, re.MULTILINE) == ["operator", "node"]
