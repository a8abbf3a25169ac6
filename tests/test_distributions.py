"""What is installed: `p2pnet` is everything, `p2pnet-node` its libraries alone, with no dependency more than these need."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from p2pnet.netem.presets import PRESETS

ROOT = Path(__file__).parents[1]
NODE = ROOT / "node"
PEERS = re.findall(r"^```python\n(.*?)^```$", (NODE / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
WRONG = """
from p2pnet.quic import Connection


async def ask(connection: Connection) -> str:
    return await connection.request("/shout", b"hello")
"""


def run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, folder: Path) -> Path:
    """The wheel of a source folder, without any package index."""
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", *offline, "--wheel-dir", folder, source)
    [wheel] = folder.glob("*.whl")
    return wheel


def written(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as file:
        [name] = [one for one in file.namelist() if one.endswith(".dist-info/METADATA")]
        return Parser().parsestr(file.read(name).decode())


def bounds(written: Message) -> set[tuple[str, str]]:
    """Name and versions of everything required, by an extra too."""
    return {(one.name, str(one.specifier)) for one in map(Requirement, written.get_all("Requires-Dist") or [])}


def code(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def rooms(portion: Path) -> set[str]:
    """The packages directly below the namespace in a folder of the repository."""
    return {path.parent.name for path in (portion / "p2pnet").glob("*/__init__.py")}


def needed(requirements: list[str], extras: frozenset[str] = frozenset()) -> dict[str, metadata.Distribution]:
    """The installed distributions that these requirements come to, with those that they require themselves."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(text, extras) for text in requirements]
    while todo:
        text, given = todo.pop()
        one = Requirement(text)
        if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in given or {""}):
            continue
        if one.name not in found:
            found[one.name] = metadata.distribution(one.name)
            todo += [(more, frozenset(one.extras)) for more in found[one.name].requires or []]
    return found


@pytest.fixture(scope="session")
def node_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(NODE, tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="session")
def whole_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def fresh(node_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a venv with p2pnet-node and what that requires: linked from this one, as nothing need be fetched."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", node_wheel)
    [site] = folder.glob("lib/python*/site-packages")
    for one in needed(written(node_wheel).get_all("Requires-Dist") or []).values():
        for part in {Path(file).parts[0] for file in one.files or []} - {"..", "__pycache__"}:
            if not (site / part).exists():
                (site / part).symlink_to(str(one.locate_file(part)))
    return python


def test_the_library_is_installed_without_what_the_operator_and_the_command_line_need(fresh: Path) -> None:
    heavy = "aiohttp h11 kopf kubernetes prometheus_client pydantic rich typer uvloop yaml p2pnet.cli p2pnet.operator"
    there = run(fresh, "-c", f"import importlib.util as u; print(*filter(u.find_spec, {heavy.split()}))")
    assert there.split() == []
    found = rooms(NODE)
    assert found >= {"broadcast", "quic"}
    run(fresh, "-c", "\n".join(f"import p2pnet.{room}" for room in sorted(found)))


def test_the_scripts_and_licences_of_the_rich_page_are_in_the_whole_alone(node_wheel: Path, whole_wheel: Path) -> None:
    folder = "p2pnet/present"
    page = {f"{folder}/vendor/{name}" for name in ("libraries.js", "view.js", "made.json", "LICENSES.txt")}
    page.add(f"{folder}/full.css")
    assert page <= code(whole_wheel)
    assert not page & code(node_wheel)
    licences = written(whole_wheel).get_all("License-File") or []
    assert {Path(one).name for one in licences} == {"LICENSE", "LICENSES.txt"}


def test_two_peers_talk_with_the_library_alone(fresh: Path) -> None:
    assert run(fresh, "-c", PEERS) == "HELLO\n"


def test_a_users_program_passes_mypy_strict_and_a_wrong_one_does_not(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "peers.py").write_text(PEERS)
    (tmp_path / "wrong.py").write_text(WRONG)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-executable={fresh}"]
    done = subprocess.run([*mypy, "peers.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    found = re.findall(r"^(\w+\.py):\d+: error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert sorted(found) == [("wrong.py", "arg-type"), ("wrong.py", "return-value")], done.stdout + done.stderr


def test_everything_holds_the_libraries_too_and_needs_what_they_need(node_wheel: Path, whole_wheel: Path) -> None:
    node, whole = written(node_wheel), written(whole_wheel)
    assert (node["Name"], whole["Name"]) == ("p2pnet-node", "p2pnet")
    assert node["Version"] == whole["Version"]
    assert code(node_wheel) < code(whole_wheel)
    assert {name.split("/")[1] for name in code(whole_wheel)} >= {"cli", "lab", "operator", "quic"}
    assert bounds(node) < bounds(whole)
    extras = {"scipy", "opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"}
    assert {name for name, _ in bounds(whole) - bounds(node)} == {"kopf", "kubernetes", "rich", "typer", *extras}


def test_every_room_of_a_wheel_says_that_it_is_typed_and_none_shadows_the_namespace(
    node_wheel: Path, whole_wheel: Path
) -> None:
    for wheel, portions in ((node_wheel, [NODE]), (whole_wheel, [NODE, ROOT / "operator", ROOT / "cli"])):
        expected = set.union(*map(rooms, portions))
        files = code(wheel)
        assert {name.split("/")[1] for name in files} == expected
        assert {f"p2pnet/{room}/py.typed" for room in expected} <= files
        assert {f"p2pnet/netem/data/{name}.csv" for name in PRESETS} <= files


@pytest.mark.parametrize("source", [ROOT, NODE], ids=["p2pnet", "p2pnet-node"])
def test_a_source_distribution_makes_the_same_wheel(
    source: Path, tmp_path: Path, node_wheel: Path, whole_wheel: Path
) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=source)
    [packed] = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as file:
        file.extractall(tmp_path, filter="data")
    wheel = build(tmp_path / packed.name.removesuffix(".tar.gz"), tmp_path / "wheels")
    direct = whole_wheel if source == ROOT else node_wheel
    assert code(wheel) == code(direct)
    assert written(wheel).as_string() == written(direct).as_string()


def test_the_libraries_come_with_the_same_licence() -> None:
    assert (NODE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_doctor_warns_where_the_libraries_are_installed_over_the_whole(tmp_path: Path) -> None:
    info = tmp_path / "p2pnet_node-0.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: p2pnet-node\nVersion: 0.2.0\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "P2PNET_STATE": str(tmp_path / "state")}
    doctor = [sys.executable, "-m", "p2pnet.cli", "doctor", "-o", "json"]
    done = subprocess.run(doctor, env=environment, capture_output=True, text=True, check=False)
    [python] = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "python"]
    assert python["result"] == "warning"
    assert "p2pnet-node 0.2.0 is installed over files of p2pnet" in python["found"]
    assert "pip uninstall p2pnet-node" in python["todo"]
