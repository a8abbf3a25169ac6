"""What people get wrong: three lines, the exit code of the contract, and nothing started, lost or overwritten."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HEAD = "apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\n"
MESSY = (
    HEAD
    + """metadata: {name: messy, lables: {a: b}}
spec:
  nodes: many
  nods: 3
  identity: {ttl: 5, trustDomain: 7}
  broadcast: {pushBelow: -1, artifactBytesMax: 128}
  groups: [{name: a, nodes: 1}, {name: X, nodes: 2}]
  ready: {connected: 200%}
  seed: x
"""
)
CONTRADICTING = (
    HEAD
    + """metadata: {name: torn}
spec:
  nodes: 5
  topology: {kind: random-regular, degree: 3, edges: [[a, b]]}
  groups: [{name: b, nodes: 0}, {name: b, nodes: 1}, {name: node, nodes: 0}]
  identity: {ttl: 10m, renewBefore: 2d}
  ttl: 1s
"""
)
DOCUMENTS = {
    "messy": (
        MESSY,
        ["metadata.lables", "spec.nodes", "spec.nods", "spec.identity.ttl", "spec.identity.trustDomain",
         "spec.broadcast.pushBelow", "spec.broadcast.artifactBytesMax", "spec.groups[1].name", "spec.ready.connected",
         "spec.seed"],
    ),
    "contradicting": (
        CONTRADICTING,
        ["spec.groups[1].name", "spec.groups[2].name", "spec.topology.edges", "spec.identity.ttl",
         "spec.identity.renewBefore", "spec.ttl"],
    ),
    "no-yaml": ("a: b: c\n- x", ["not YAML: line 1, column 5"]),
    "no-text": ("\0\1\2", ["not YAML"]),
    "a-number": ("42", ["a Subnet document is a mapping"]),
    "a-list": ("[1]", ["a Subnet document is a mapping"]),
    "two-documents": (f"{HEAD}metadata: {{name: a}}\n---\n{HEAD}metadata: {{name: b}}\n", ["2 are here"]),
    "a-key-twice": (HEAD + "metadata: {name: a}\nspec: {nodes: 3, nodes: 4}\n", ["'nodes' stands here twice", "line 4"]),
    "a-pod": ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", ["apiVersion", "kind"]),
    "a-tag": ("x: !!python/object/apply:os.system ['true']\n", ["not YAML"]),
    "too-deep": ("[" * 20_000, ["not YAML"]),
    "too-large": ("#" * (3 << 20), ["larger than 2 MiB"]),
    "empty": (" \n", ["empty"]),
    "unsupported": (HEAD + "metadata: {name: a}\nspec: {nodes: 1, image: x, lab: {storage: 1Gi}}\n",
                    ["spec.image", "spec.lab", "(target local)"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_that_will_not_do_is_refused_with_every_mistake_by_its_path(person: Any, kind: str) -> None:
    text, words = DOCUMENTS[kind]
    file = person.folder / "subnet.yaml"
    file.write_text(text)

    ended = person.run("up", "-f", str(file), code=2, inside=True)

    what, where, _ = ended.error
    assert where in (str(file), "Subnet a")
    assert [word for word in words if word not in what] == []
    assert not person.processes()
    assert person.document("down", "--all", "--yes") == {"schema": "p2pnet.io/removal/v1", "removed": [], "absent": []}


def test_a_file_that_cannot_be_published_is_named_and_no_run_begins(settled: Any) -> None:
    folder = settled.folder / "files"
    folder.mkdir()
    (folder / "empty").touch()
    with (folder / "large").open("wb") as file:
        file.truncate((128 << 20) + 1)
    runs = sorted((settled.state / "runs").iterdir())
    refused = {
        "absent": "there is no such file", ".": "it is a directory", "empty": "is empty",
        "large": "above the limit of 134217728 bytes", "/dev/zero": "more than 134217728 bytes",
    }  # fmt: skip

    for name, why in refused.items():
        what, where, _ = settled.run("inject", "demo", str(folder / name), code=2, inside=True).error
        assert why in what
        assert str(folder / name) in where or "artifactBytesMax" in where
    what, where, _ = settled.run("inject", "demo", "--size", "134217729B", code=2, inside=True).error
    assert "--size" in what
    assert "spec.broadcast.artifactBytesMax: 128Mi" in where
    assert sorted((settled.state / "runs").iterdir()) == runs


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(settled: Any) -> None:
    file = settled.folder / "secret"
    file.write_text("x")
    file.chmod(0)

    assert "it may not be read" in settled.run("inject", "demo", str(file), code=2).error[0]
    assert "it may not be read" in settled.run("up", "-f", str(file), code=2).error[0]


WORDS = [
    ("up ../x", 2, "at most 40 characters"),
    ("up a/b", 2, "at most 40 characters"),
    ("status ..", 2, "at most 40 characters"),
    ("up x --nodes 0", 2, "--nodes"),
    ("up x --nodes 501", 2, "spec.nodes: 501 nodes"),
    ("up x --timeout 0s", 2, "'0s' is no time to wait"),
    ("up x -f nosuch.yaml", 2, "there is no such file"),
    ("inject demo --rate 0/s", 2, "'0/s' is no rate"),
    ("inject demo --count 0", 2, "--count"),
    ("inject demo --within 0s", 2, "'0s' is no time to wait"),
    ("inject demo --within 25h", 2, "more than a day"),
    ("inject demo --size 0B", 2, "at least one byte"),
    ("inject demo --from nosuch", 2, "there is no node 'nosuch'"),
    ("inject demo --expect nonsense", 2, "'nonsense'"),
    ("inject demo --expect p95<=800", 2, "a duration with its unit"),
    ("inject demo --count 1000000000", 2, "more than a run publishes"),
    ("get demo abcde", 2, "no run published an artifact"),
    ("get demo zzzzzz", 2, "hex digits, at most 64"),
    ("trace demo ffffff0", 2, "no run published an artifact"),
    ("withdraw demo ffffff0", 2, "no run published an artifact"),
    ("get demo ffffff0 --node nosuch", 2, "there is no node 'nosuch'"),
    ("report demo r-nosuch", 2, "demo has no run r-nosuch"),
    ("logs demo --grep (", 2, "no regular expression"),
    ("logs demo -f -o yaml", 2, "never ends"),
    ("down demo --all", 2, "both a name and --all"),
    ("schema nosuch", 2, "no schema is named"),
    ("frobnicate", 2, "No such command"),
    ("status nosuch", 3, "there is no subnet nosuch"),
    ("inject nosuch", 3, "there is no subnet nosuch"),
    ("get nosuch abcdef", 3, "there is no subnet nosuch"),
    ("logs nosuch", 3, "there is no subnet nosuch"),
    ("report nosuch", 3, "there is no subnet nosuch"),
    ("trace nosuch abcdef", 3, "there is no subnet nosuch"),
]


@pytest.mark.parametrize(("line", "code", "words"), WORDS, ids=[line for line, *_ in WORDS])
def test_a_slip_of_the_hand_is_explained(settled: Any, line: str, code: int, words: str) -> None:
    assert words in settled.run(*line.split(), code=code, inside=True).error[0]


def test_a_prefix_of_two_artifacts_is_ambiguous(settled: Any) -> None:
    [run] = [
        path
        for path in (settled.state / "runs").iterdir()
        if len(json.loads((path / "run.json").read_bytes())["artifacts"]) == 2
    ][:1]
    copy = settled.folder / "elsewhere" / "runs" / run.name
    copy.mkdir(parents=True)
    file = json.loads((run / "run.json").read_bytes())
    file["artifacts"] = ["abcdef" + "0" * 58, "abcdef" + "1" * 58]
    (copy / "run.json").write_text(json.dumps(file))

    away = {**settled.environment, "P2PNET_STATE": str(settled.folder / "elsewhere")}
    what = settled.run("trace", "demo", "abcdef", code=2, env=away).error[0]

    assert "ambiguous: 2 artifacts" in what


@pytest.mark.parametrize("form", ["json", "yaml", "ndjson"])
def test_every_verb_prints_a_document_that_parses(settled: Any, form: str) -> None:
    parse = {"json": json.loads, "yaml": yaml.safe_load, "ndjson": lambda text: [*map(json.loads, text.splitlines())]}
    report = settled.document("inject", "demo", "--size", "1KiB")
    [artifact] = report["artifact_ids"]
    copy = settled.folder / f"copy-{form}"

    for words in (
        ("up", "demo"), ("status",), ("status", "demo"), ("inject", "demo", "--size", "1KiB"), ("report", "demo"),
        ("inject", "demo", "--size", "1KiB", "--no-wait"), ("trace", "demo", artifact), ("logs", "demo", "--node", "node-0"),
        ("get", "demo", artifact, "-O", str(copy)), ("withdraw", "demo", artifact), ("schema", "report"),
        ("doctor",), ("down", "nosuch", "--yes"),
    ):  # fmt: skip
        ended = settled.calls(*words, "-o", form)
        assert ended.code in (0, 2 if words == ("doctor",) else 0), ended.err
        assert parse[form](ended.out), words


def test_a_reader_that_leaves_early_ends_nothing_badly(settled: Any) -> None:
    program = " ".join(settled.start.__globals__["PROGRAM"])
    for words in ("status demo", "logs demo", "--help"):
        for reader in ("head -1", "true"):
            script = f"{program} {words} | {reader}; echo ${{PIPESTATUS[0]}} >&2"
            done = subprocess.run(
                ["bash", "-c", script],
                env=settled.environment,
                cwd=settled.folder,
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stderr.splitlines()[-1] == "0", (words, reader, done.stderr)
            assert "Traceback" not in done.stderr
            assert "Broken" not in done.stderr


@pytest.mark.parametrize(
    ("redirection", "words", "code"),
    [(">&-", "status demo", 0), ("2>&-", "status demo", 0), ("2>&-", "status nosuch", 3), ("<&-", "up -f -", 2),
     ("> /dev/full", "status demo", 2), (">&- 2>&- <&-", "report demo", 0)],
)  # fmt: skip
def test_a_stream_that_is_closed_or_full_is_no_bug(settled: Any, redirection: str, words: str, code: int) -> None:
    program = " ".join(settled.start.__globals__["PROGRAM"])
    done = subprocess.run(
        ["bash", "-c", f"{program} {words} {redirection}"],
        env=settled.environment, cwd=settled.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not (settled.state / "crashes").exists()


def test_a_terminal_that_speaks_only_ascii_gets_ascii(settled: Any) -> None:
    poor = {**settled.environment, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    [artifact, *_] = settled.document("report", "demo")["artifact_ids"]
    file = settled.folder / "größe.bin"
    file.write_bytes(b"x")

    for words in (("status", "demo"), ("trace", "demo", artifact), ("inject", "demo", str(file))):
        ended = settled.run(*words, env=poor)
        assert ended.out.isascii()
    named = settled.run("trace", "demo", settled.document("report", "demo")["artifact_ids"][0], "-o", "json", env=poor)
    assert named.out.isascii()
    assert json.loads(named.out)["name"] == "größe.bin"


@pytest.mark.parametrize("columns", [80, 200])
def test_no_line_is_wider_than_the_terminal_and_none_is_coloured(settled: Any, columns: int) -> None:
    wide = {**settled.environment, "COLUMNS": str(columns)}
    for words in (("status", "demo"), ("report", "demo")):
        out = settled.run(*words, env=wide).out
        assert max(map(len, out.splitlines())) <= columns
        assert "\x1b" not in out


def test_without_a_home_the_state_is_where_the_system_says_the_home_is(settled: Any) -> None:
    bare = {"PATH": os.environ["PATH"]}

    assert settled.types("status", env=bare).code in (0, 3)
    ended = settled.run("status", code=3, env={**bare, "HOME": "/nonexistent"})
    assert ended.error[0] == "there is no subnet"


def test_a_state_directory_that_cannot_be_is_named(person: Any) -> None:
    file = person.folder / "file"
    file.touch()
    for root, words in ((file, "Not a directory"), (Path("/proc/nosuch"), "No such file")):
        there = {**person.environment, "P2PNET_STATE": str(root)}
        for verb in (["up", "demo"], ["status"], ["down", "demo", "--yes"]):  # none says that there is no subnet
            what, where, advice = person.run(*verb, code=2, env=there).error
            assert words in what
            assert where.startswith(str(root))
            assert advice == "make it accessible, or set P2PNET_STATE to a directory of yours"


def test_a_name_that_stands_for_two_subnets_is_refused(person: Any) -> None:
    file = person.folder / "subnet.yaml"
    file.write_text(HEAD + "metadata: {name: here}\n")

    what, where, advice = person.run("up", "there", "-f", str(file), code=2, inside=True).error

    assert "the command line says there, the file's metadata.name says here" in what
    assert where == str(file)
    assert advice.endswith(f"p2pnet up here -f {file}")


def test_a_subnet_that_cannot_connect_in_time_here_is_refused_with_the_estimate(person: Any) -> None:
    file = person.folder / "subnet.yaml"
    file.write_text(HEAD + "metadata: {name: vast}\nspec: {nodes: 200, topology: {kind: full}, ready: {within: 1s}}\n")

    what, where, advice = person.run("up", "-f", str(file), code=2, inside=True).error

    assert "200 nodes with 19900 links need about" in what
    assert where == "Subnet vast"
    assert "fewer nodes" in advice
    assert not person.subnet("vast").exists()


def test_a_port_somebody_took_meanwhile_is_given_up_for_another(person: Any) -> None:
    person.run("up", "demo", "--nodes", "2")
    address = person.member("demo", "node-0")["address"]
    lab = person.lab("demo")
    os.kill(lab, 9)
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        for _ in range(200):
            try:
                thief.bind(("127.0.0.1", port))
                break
            except OSError:  # its nodes end a moment after their lab
                person.types("status", "demo")
        status = person.document("up", "demo")

        assert status["nodes"]["connected"] == 2
        assert status["members"][0]["address"] != address
