"""A release is a git tag: both distributions, the images and the chart take their version from it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from p2pnet.model.images import UNRELEASED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NODE = tomllib.loads((ROOT / "node" / "pyproject.toml").read_text())
FRAGMENTS = ROOT / "docs" / "changes"
GIT = (
    "git",
    "-c",
    "user.name=p",
    "-c",
    "user.email=p@example.org",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "tag.gpgsign=false",
)


def run(*words: str, cwd: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SETUPTOOLS_SCM")}
    done = subprocess.run(words, cwd=cwd, env={**environment, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def versions(tree: Path, **variables: str) -> set[str]:
    """What both distributions of a working tree call themselves."""
    return {run(sys.executable, "-m", "hatchling", "version", cwd=tree / sub, **variables) for sub in (".", "node")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that say how a version is found, without git."""
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "node/pyproject.toml",
        "node/dependencies.py",
        "node/README.md",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def git(tree: Path) -> Callable[..., str]:
    """git in that tree, of which one commit has been made."""
    run("git", "init", "--quiet", cwd=tree)
    run("git", "add", ".", cwd=tree)
    run(*GIT, "commit", "--quiet", "--message", "Begin", cwd=tree)
    return lambda *words: run(*GIT, *words, cwd=tree)


@pytest.mark.parametrize("version", ["1.2.3", "1.3.0rc1"])
def test_a_tagged_commit_has_the_version_of_its_tag(tree: Path, git: Callable[..., str], version: str) -> None:
    git("tag", f"v{version}")
    assert versions(tree) == {version}


def test_commits_after_a_tag_lead_to_the_next_release_and_have_nothing_an_image_tag_may_not_hold(
    tree: Path, git: Callable[..., str]
) -> None:
    git("tag", "v1.2.3")
    git("tag", "unrelated-7")
    (tree / "README.md").write_text("changed, not committed")
    assert versions(tree) == {"1.2.4.dev0"}
    git("commit", "--quiet", "--all", "--message", "Go on")
    assert versions(tree) == {"1.2.4.dev1"}


def test_a_clone_without_tags_comes_before_the_first_release(tree: Path, git: Callable[..., str]) -> None:
    assert git("tag") == ""
    assert versions(tree) == {"0.1.dev1"}


def test_without_git_the_version_is_the_fallback_or_the_one_that_the_image_is_built_with(tree: Path) -> None:
    [fallback] = {one["tool"]["hatch"]["version"]["fallback-version"] for one in (PROJECT, NODE)}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^ARG VERSION=(.*)$", dockerfile, re.MULTILINE) == [fallback, fallback]
    assert versions(tree) == {fallback}
    assert 'SETUPTOOLS_SCM_PRETEND_VERSION="${VERSION}"' in dockerfile
    assert versions(tree, SETUPTOOLS_SCM_PRETEND_VERSION="4.5.6") == {"4.5.6"}


def test_both_distributions_find_their_version_alike() -> None:
    ours, libraries = (one["tool"]["hatch"]["version"] for one in (PROJECT, NODE))
    assert libraries["raw-options"].pop("root") == ".."
    assert ours == libraries
    assert set(PROJECT["build-system"]["requires"]) == set(NODE["build-system"]["requires"])


def test_the_chart_of_the_working_tree_names_images_of_no_release() -> None:
    text = (ROOT / "charts" / "p2pnet" / "Chart.yaml").read_text()
    chart = yaml.safe_load(text)
    assert (chart["version"], chart["appVersion"]) == (f"0.0.0-{UNRELEASED}", UNRELEASED)
    assert re.findall(r"image: \S+:(\S+)", text) == [UNRELEASED, UNRELEASED]


def test_notes_of_the_next_release_can_be_made_of_the_fragments() -> None:
    kinds = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}
    fragments = [path for path in FRAGMENTS.iterdir() if path.name not in {"README.md", ".gitignore"}]
    assert not [path.name for path in fragments if not re.fullmatch(rf"\+?[\w-]+\.({'|'.join(kinds)})\.md", path.name)]
    notes = run(sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9", cwd=ROOT)
    assert "## [9.9.9] - " in notes
    assert all(path.read_text().strip() in notes for path in fragments)
