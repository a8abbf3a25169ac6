"""What others wrote and the rich page carries: at the versions of the lock, built from what is here, with its licences."""

import hashlib
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

PAGE = Path(__file__).parents[2] / "cli" / "page"
VENDOR = files("p2pnet.present").joinpath("vendor")
MADE = json.loads(VENDOR.joinpath("made.json").read_text())
LOCK = json.loads((PAGE / "package-lock.json").read_text())["packages"]
BUILT = ("libraries.js", "view.js", "made.json", "LICENSES.txt")


def test_the_scripts_are_built_from_the_sources_and_the_lock_that_are_here():
    """Else: `make page`."""
    sources = sorted(
        [*PAGE.glob("src/*.js"), PAGE / "libraries/index.js", PAGE / "build.mjs", PAGE / "package-lock.json"]
    )
    whole = hashlib.sha256()
    for path in sources:
        whole.update(f"{path.relative_to(PAGE)}\n".encode() + path.read_bytes())
    assert MADE["sources"] == whole.hexdigest()


def test_every_library_is_at_the_version_of_the_lock():
    assert {name: LOCK[f"node_modules/{name}"]["version"] for name in MADE["packages"]} == MADE["packages"]
    asked = json.loads((PAGE / "package.json").read_text())
    pinned = {**asked["dependencies"], **asked["devDependencies"]}
    assert all(re.fullmatch(r"[0-9.]+", version) for version in pinned.values())
    assert {name: LOCK[f"node_modules/{name}"]["version"] for name in pinned} == pinned


def test_the_lock_names_no_host():
    assert '"resolved"' not in (PAGE / "package-lock.json").read_text()


def test_the_licence_of_every_library_ships_with_it():
    text = VENDOR.joinpath("LICENSES.txt").read_text()
    for name, version in MADE["packages"].items():
        assert re.search(rf"^{re.escape(name)} {re.escape(version)}$", text, re.MULTILINE), name
    assert "Apache License" in text
    assert "MIT" in text


def test_no_script_could_end_its_element_or_call_for_more():
    for name in ("libraries.js", "view.js"):
        text = VENDOR.joinpath(name).read_text()
        assert not re.search(
            r"</script|<!--|\beval\(|new Function|XMLHttpRequest|\bfetch\(|WebSocket|importScripts", text
        ), name
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}
    assert text.isascii()


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs node and npm")
def test_building_again_gives_the_same_bytes(tmp_path):
    shutil.copytree(PAGE, tmp_path / "page", ignore=shutil.ignore_patterns("node_modules"))
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(npm, cwd=tmp_path / "page", check=True, timeout=3 * PATIENCE_S)
    subprocess.run(["node", "build.mjs", str(tmp_path / "out")], cwd=tmp_path / "page", check=True, timeout=PATIENCE_S)
    for name in BUILT:
        assert (tmp_path / "out" / name).read_bytes() == VENDOR.joinpath(name).read_bytes(), name


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_modules_of_the_page_pass_their_own_tests():
    done = subprocess.run(
        ["node", "--test", *sorted(map(str, PAGE.glob("tests/*.test.js")))],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
