"""`sim` and what is kept of its runs: in this process, and as a program where signals and the disk are concerned."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from tests.patience import PATIENCE_S
from tests.running import is_running

from p2pnet.cli import target_choice
from p2pnet.cli.capacity import Machine
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.store import State, archive

ROOT = Path(__file__).parents[2]
DOCUMENT = """
apiVersion: p2pnet.io/v1alpha1
kind: Subnet
metadata: {name: demo}
spec: {nodes: 5, seed: 42}
"""
# A run without an end, for all that a test can wait: whoever tells it to stop must be heard.
LONG = ("--size", "64KiB", "--count", "50000", "--rate", "1/s", "--nodes", "40")


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "subnet.yaml"
    path.write_text(DOCUMENT)
    return str(path)


def report_of(ended: Any, code: int = 0) -> Any:
    assert ended.code == code, ended.err
    return json.loads(ended.out)


# --- the report ---


def test_a_document_in_a_report_out(p2pnet: Callable[..., Any], document: str) -> None:
    report = report_of(p2pnet("sim", "-f", document, "--count", "3", "--rate", "2/s", "-o", "json"))

    jsonschema.validate(report, schema_of("report"))
    assert (report["target"], report["subnet"], report["seed"], report["nodes"]) == ("sim", "demo", 42, 5)
    assert report["reach"] == {"expected": 12, "delivered": 12, "ratio": 1.0}
    assert report["verdict"] == "pass"
    assert len(report["digest"]) >= 32
    assert report["load"]["count"] == 3
    assert report["payload_bytes"] == 3 * 65536


def test_the_same_seed_gives_the_same_digest_and_another_another(p2pnet: Callable[..., Any], document: str) -> None:
    def digest(*words: str) -> str:
        return str(report_of(p2pnet("sim", "-f", document, "-o", "json", *words))["digest"])

    assert digest() == digest("--seed", "42")
    assert digest() != digest("--seed", "43")


def test_it_says_what_it_took_and_what_to_type_next(p2pnet: Callable[..., Any], document: str) -> None:
    ended = p2pnet("sim", "-f", document)

    assert ended.code == 0
    assert "of virtual time in" in ended.err
    *_, hint = ended.err.splitlines()
    words = hint.removeprefix("Next: p2pnet ").split()
    assert words[0] == "trace"
    assert p2pnet(*words).code == 0


def test_a_network_that_does_nothing_is_pointed_out(p2pnet: Callable[..., Any], document: str) -> None:
    assert "spec.network shapes nothing" in p2pnet("sim", "-f", document).err
    path = Path(document)
    path.write_text(DOCUMENT.replace("seed: 42", "seed: 42, network: {preset: aws}"))
    assert "spec.network shapes nothing" not in p2pnet("sim", "-f", document).err


def test_quiet_leaves_the_table_alone(p2pnet: Callable[..., Any], document: str) -> None:
    ended = p2pnet("sim", "-f", document, "-q")

    assert ended.err == ""
    assert "simulated in virtual time" in ended.out
    assert "digest" in ended.out


@pytest.mark.parametrize(("expect", "code"), [("reach >= 99%", 0), ("hops <= 0", 1), ("reach == 100%", 0)])
def test_an_expectation_decides_the_exit_code(
    p2pnet: Callable[..., Any], document: str, expect: str, code: int
) -> None:
    assert p2pnet("sim", "-f", document, "--expect", expect).code == code


def test_more_nodes_than_can_live_here_are_simulated(p2pnet: Callable[..., Any], document: str) -> None:
    report = report_of(p2pnet("sim", "-f", document, "--nodes", "700", "--size", "700B", "-o", "json"))

    assert (report["nodes"], report["reach"]["delivered"]) == (700, 699)


def test_a_run_that_is_not_over_in_time_says_so(p2pnet: Callable[..., Any], document: str) -> None:
    report = report_of(
        p2pnet("sim", "-f", document, "--count", "5", "--rate", "1/s", "--until", "2500ms", "-o", "json"), code=5
    )

    assert report["artifacts"] == 3
    assert "2 of 5 artifacts" in " ".join(report["invalid"])


def test_files_are_published_under_their_names_and_read_back(
    p2pnet: Callable[..., Any], document: str, tmp_path: Path
) -> None:
    photo, song, back = tmp_path / "photo.jpg", tmp_path / "song.ogg", tmp_path / "back"
    photo.write_bytes(os.urandom(100_000))
    song.write_bytes(b"la la la")
    assert p2pnet("sim", "-f", document, str(photo), str(song), "--count", "2").code == 0

    for path in (photo, song):
        ids = [one for one, name in published(State(tmp_path / "state")) if name == path.name]
        assert len(ids) == 2
        for artifact in ids:
            assert p2pnet("get", "demo", artifact, "-O", str(back)).code == 0
            assert back.read_bytes() == path.read_bytes()


def published(state: State) -> list[tuple[str, str]]:
    [head] = archive.list_heads(state)
    run = archive.read_run_file(state, head.run)
    return list(zip(run.artifacts, run.names, strict=True))


# --- what is kept ---


def test_report_trace_get_and_runs_read_it(p2pnet: Callable[..., Any], document: str, tmp_path: Path) -> None:
    report = report_of(p2pnet("sim", "-f", document, "--count", "2", "--size", "1KiB", "-o", "json"))

    assert report_of(p2pnet("report", "demo", "-o", "json")) == report
    assert report_of(p2pnet("report", "demo", report["run"], "--on", "sim", "-o", "json")) == report
    alone = p2pnet("report", report["run"], "--expect", "hops <= 9", "-o", "json")
    assert (alone.code, report_of(alone)["run"]) == (0, report["run"])
    assert f"p2pnet trace demo {report['slowest'][:12]}" in alone.err
    other = p2pnet("trace", report["run"])
    assert (other.code, f"p2pnet trace demo {report['slowest'][:12]}" in other.err) == (2, True)
    for artifact in report["artifact_ids"]:
        trace = report_of(p2pnet("trace", "demo", artifact, "-o", "json"))
        assert (trace["reached"], trace["run"], trace["target"]) == (4, report["run"], "sim")
        assert trace["critical_path"][0] == trace["publisher"]
        got = report_of(p2pnet("get", "demo", artifact[:12], "-O", str(tmp_path / artifact), "-o", "json"))
        assert got["node"] != trace["publisher"]
        assert (tmp_path / artifact).stat().st_size == 1024
    first, second = ((tmp_path / one).read_bytes() for one in report["artifact_ids"])
    assert first != second
    [kept] = report_of(p2pnet("runs", "demo", "-o", "json"))["runs"]
    assert (kept["run"], kept["target"], kept["verdict"]) == (report["run"], "sim", "pass")
    assert p2pnet("runs", "demo", "--rm", "latest", "-y").code == 0
    assert p2pnet("report", "demo").code == 3


def test_every_paper_can_be_written_at_once_and_later(
    p2pnet: Callable[..., Any], document: str, tmp_path: Path
) -> None:
    names = {"--html": "r.html", "--junit": "r.xml", "--md": "r.md", "--csv": "r.csv", "--events": "e.ndjson"}
    words = [word for option, name in names.items() for word in (option, str(tmp_path / name))]
    assert p2pnet("sim", "-f", document, *words).code == 0
    written = {name: (tmp_path / name).read_bytes() for name in names.values()}

    assert written["r.html"].startswith(b"<!doctype html>")
    assert len(written["r.csv"].splitlines()) == 1 + 4
    kinds = [json.loads(line)["kind"] for line in written["e.ndjson"].splitlines()]
    assert kinds.count("published") == 1
    assert kinds.count("validated") >= 4
    assert p2pnet("report", "demo", *words[:-2]).code == 0
    again = {name: (tmp_path / name).read_bytes() for name in names.values()}
    assert again == written


def test_a_node_that_does_not_hold_an_artifact_gives_no_bytes(
    p2pnet: Callable[..., Any], document: str, tmp_path: Path
) -> None:
    short = ("--until", "1ms", "--size", "64KiB", "-o", "json")
    report_of(p2pnet("sim", "-f", document, *short, "--expect", "reach >= 0%"), code=0)
    ended = p2pnet("get", "demo", "latest", "--node", "node-77", "-O", str(tmp_path / "x"))
    assert (ended.code, (tmp_path / "x").exists()) == (2, False)
    assert "there is no node 'node-77'" in ended.err


def test_the_newest_run_is_meant_whatever_made_it(p2pnet: Callable[..., Any], document: str, state: State) -> None:
    first = report_of(p2pnet("sim", "-f", document, "-o", "json"))
    second = report_of(p2pnet("sim", "-f", document, "--seed", "9", "-o", "json"))
    folder = state.run(second["run"])
    file = archive.read_run_file(state, second["run"])
    (folder / "run.json").write_bytes(archive.pretty(file).replace(b'"target": "sim"', b'"target": "local"'))

    assert report_of(p2pnet("report", "demo", "-o", "json"))["run"] == second["run"]
    assert report_of(p2pnet("report", "demo", "--on", "sim", "-o", "json"))["run"] == first["run"]
    assert report_of(p2pnet("report", "demo", "--on", "local", "-o", "json"))["run"] == second["run"]
    assert [one["run"] for one in report_of(p2pnet("runs", "demo", "--on", "sim", "-o", "json"))["runs"]] == [
        first["run"]
    ]


def test_a_name_that_is_in_a_cluster_too_is_2_unless_it_is_said_which(
    p2pnet: Callable[..., Any], document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_of(p2pnet("sim", "-f", document, "-o", "json"))
    monkeypatch.setattr("p2pnet.lab_client.kube.Kube.configured", lambda: True)
    monkeypatch.setattr("p2pnet.lab_client.kube_lookup.is_there", lambda name, *, beside: beside)
    monkeypatch.setattr(target_choice, "_cluster", lambda *_: SimpleNamespace(where="context prod, namespace default"))

    for words in (("report", "demo"), ("trace", "demo"), ("get", "demo", "latest"), ("runs", "demo")):
        ended = p2pnet(*words)
        assert ended.code == 2, words
        assert "next: say which: --on sim, or --on cluster" in ended.err
    assert report_of(p2pnet("report", "demo", "--on", "sim", "-o", "json")) == report


def test_the_oldest_runs_go_when_there_are_too_many(
    p2pnet: Callable[..., Any], document: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PNET_KEEP_RUNS", "2")
    made = [report_of(p2pnet("sim", "-f", document, "-o", "json"))["run"] for _ in range(3)]

    assert [head.run for head in archive.list_heads(state)] == made[1:]


@pytest.mark.parametrize("verb", ["inject", "status", "logs"])
def test_what_needs_nodes_says_that_there_are_none_and_what_to_do(
    p2pnet: Callable[..., Any], document: str, verb: str
) -> None:
    p2pnet("sim", "-f", document)
    ended = p2pnet(verb, "demo")

    assert ended.code == 3
    assert "it was simulated, and only its runs are here" in ended.err
    assert "p2pnet up demo -f FILE" in ended.err


def test_down_leaves_the_runs_and_says_how_to_remove_them(p2pnet: Callable[..., Any], document: str) -> None:
    p2pnet("sim", "-f", document)
    ended = p2pnet("down", "demo")

    assert ended.code == 0
    assert "p2pnet runs demo --keep 0" in ended.err
    assert p2pnet("report", "demo").code == 0


@pytest.mark.parametrize("verb", ["up", "inject", "status", "fault", "down", "logs", "withdraw"])
def test_a_verb_that_wants_nodes_names_sim(p2pnet: Callable[..., Any], verb: str) -> None:
    ended = p2pnet(verb, "demo", "--on", "sim")

    assert ended.code == 2
    assert "next: p2pnet sim -f FILE" in ended.err


def test_runs_of_the_simulator_that_are_not_there_are_not_found(p2pnet: Callable[..., Any]) -> None:
    for words in (("report", "demo"), ("trace", "demo"), ("get", "demo", "latest"), ("runs", "demo")):
        ended = p2pnet(*words, "--on", "sim")
        assert ended.code == 3, words
        assert "p2pnet sim -f FILE" in ended.err


# --- what is wrong ---

WRONG = [
    ("", "the Subnet document is empty", "p2pnet schema subnet"),
    ("spec: {nodes: [", "not YAML: line", "correct it"),
    ("kind: Pod", "apiVersion", "correct it"),
    (DOCUMENT.replace("nodes: 5", "nodes: -1"), "spec.nodes: ", "correct it"),
    (DOCUMENT.replace("nodes: 5", "nodes: 200000"), "spec.nodes: ", "correct it"),
    (DOCUMENT.replace("seed: 42", "sede: 42"), "did you mean", "correct it"),
    (DOCUMENT + "---" + DOCUMENT.replace("demo", "other"), "2 are here: Subnet demo, Subnet other", "--name NAME"),
    (DOCUMENT.replace("seed: 42", "image: x"), "spec.image: ", "use --ignore-unsupported"),
]


@pytest.mark.parametrize(("text", "said", "hint"), WRONG, ids=[said for _, said, _ in WRONG])
def test_a_wrong_document_is_2_and_names_the_place(
    p2pnet: Callable[..., Any], state: State, tmp_path: Path, text: str, said: str, hint: str
) -> None:
    path = tmp_path / "subnet.yaml"
    path.write_text(text)
    ended = p2pnet("sim", "-f", str(path))

    assert ended.code == 2, ended.err
    assert said in ended.err
    assert hint in ended.err
    assert [line[:6] for line in ended.err.splitlines()] == ["error:", "where:", " next:"]
    assert archive.list_heads(state) == []


WRONG_WORDS = [
    ((), "Missing option '-f'"),
    (("-f", "nowhere.yaml"), "there is no such file"),
    (("-f", "DOCUMENT", "--nodes", "0"), "greater than or equal to 1"),
    (("-f", "DOCUMENT", "--nodes", "1000000"), "spec.nodes"),
    (("-f", "DOCUMENT", "--until", "5"), "write a number with its unit"),
    (("-f", "DOCUMENT", "--from", "node-9"), "there is no node 'node-9'"),
    (("-f", "DOCUMENT", "--client", "chat"), "chat"),
    (("-f", "DOCUMENT", "--expect", "speed > 3"), "a metric: p50"),
    (("-f", "DOCUMENT", "--size", "1GiB"), "above the limit"),
    (("-f", "DOCUMENT", "--count", "99999999"), "more than a run publishes"),
    (("-f", "DOCUMENT", "nowhere.jpg"), "there is no such file"),
    (("-f", "DOCUMENT", "--html", "/nowhere/r.html"), "there is no directory"),
    (("-f", "DOCUMENT", "--events", "/nowhere/e"), "there is no directory"),
    (("-f", "DOCUMENT", "--on", "sim"), "No such option: --on"),
]


@pytest.mark.parametrize(("words", "said"), WRONG_WORDS, ids=[" ".join(words) for words, _ in WRONG_WORDS])
def test_a_wrong_command_line_is_2_before_anything_is_simulated(
    p2pnet: Callable[..., Any], state: State, document: str, words: tuple[str, ...], said: str
) -> None:
    ended = p2pnet("sim", *(document if word == "DOCUMENT" else word for word in words))

    assert ended.code == 2, ended.err
    assert said in ended.err
    assert archive.list_heads(state) == []


def test_what_there_is_no_memory_for_is_refused(
    p2pnet: Callable[..., Any], document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pnet.cli.capacity.this_machine", lambda: Machine(4.0, 200 << 20))
    few, many = ("--nodes", "1000", "--size", "1B"), ("--nodes", "60000")

    assert p2pnet("sim", "-f", document, *few).code == 0
    large = ("--nodes", "2", "--size", "1MiB", "--count", "300", "--rate", "9/s")
    for words in (many, large, (*few, "--trials", "9", "--jobs", "9")):
        ended = p2pnet("sim", "-f", document, *words)
        assert ended.code == 2
        assert "200 MiB are free" in ended.err


def test_what_is_not_honoured_is_left_out_when_that_is_asked_for_and_stands_in_the_report(
    p2pnet: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "subnet.yaml"
    path.write_text(DOCUMENT.replace("seed: 42", "image: x, ttl: 1h"))
    ended = p2pnet("sim", "-f", str(path), "--ignore-unsupported", "-o", "json")

    assert "note: ignored: spec.image" in ended.err
    assert [line.partition(":")[0] for line in report_of(ended)["ignored"]] == ["spec.image", "spec.ttl"]


def test_of_several_subnets_in_a_file_one_is_named(p2pnet: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    path.write_text(
        DOCUMENT + "---" + DOCUMENT.replace("demo", "other") + "---\nkind: Namespace\nmetadata: {name: x}\n"
    )
    ended = p2pnet("sim", "-f", str(path), "--name", "other", "-o", "json")

    assert report_of(ended)["subnet"] == "other"
    assert "left to kubectl: Subnet demo, Namespace x" in ended.err


# --- trials ---


def test_trials_are_the_same_however_many_go_on_at_a_time(p2pnet: Callable[..., Any], document: str) -> None:
    words = ("sim", "-f", document, "--trials", "4", "--size", "2KiB", "-o", "json")
    alone, beside = (report_of(p2pnet(*words, "--jobs", jobs)) for jobs in ("1", "3"))

    assert alone == beside
    jsonschema.validate(alone, schema_of("trials"))
    assert [one["seed"] for one in alone["trials"]] == [42, 43, 44, 45]
    assert len({one["digest"] for one in alone["trials"]}) == 4
    assert (alone["asked"], alone["finished"], alone["verdict"]) == (4, 4, "pass")


def test_a_trial_is_the_run_of_its_seed(p2pnet: Callable[..., Any], document: str) -> None:
    trials = report_of(p2pnet("sim", "-f", document, "--trials", "2", "--seed", "7", "-o", "json"))
    run = report_of(p2pnet("sim", "-f", document, "--seed", "8", "-o", "json"))

    assert trials["trials"][1]["digest"] == run["digest"]
    assert trials["trials"][1]["p95_ms"] == run["latency_ms"]["p95"]


def test_of_trials_no_run_is_kept(p2pnet: Callable[..., Any], document: str, state: State) -> None:
    ended = p2pnet("sim", "-f", document, "--trials", "2", "--jobs", "1")

    assert ended.code == 0
    assert "95% INTERVAL" in ended.out
    assert "simulated 2 of 2 trials" in ended.err
    assert archive.list_heads(state) == []


def test_a_trial_that_fails_is_named_with_the_command_that_repeats_it(
    p2pnet: Callable[..., Any], document: str
) -> None:
    ended = p2pnet("sim", "-f", document, "--trials", "2", "--size", "3KiB", "--expect", "hops <= 0", "--count", "2")

    assert ended.code == 1
    assert "MISS hops <= 0  (in 0 of 2 trials, not with seed 42, 43)" in ended.out
    *_, hint = ended.err.splitlines()
    assert hint == (f"Next: p2pnet sim -f {document} --seed 42 --size 3072B --count 2 --expect 'hops <= 0'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trials", "0"), "greater than or equal to 1"),
        (("--trials", "2", "--html", "r.html"), "--html is for one run"),
        (("--trials", "2", "--label", "x"), "--label is for one run"),
        (("--jobs", "2"), "add --trials N"),
    ],
)
def test_what_does_not_go_with_trials_is_refused(
    p2pnet: Callable[..., Any], document: str, words: tuple[str, ...], said: str
) -> None:
    ended = p2pnet("sim", "-f", document, *words)

    assert ended.code == 2
    assert said in ended.err


def test_a_process_that_dies_costs_its_trial_and_is_named(
    p2pnet: Callable[..., Any], document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os\nfrom p2pnet.broadcast import BlobClient\n"
        "class Deadly(BlobClient):\n"
        "    def on_state_change(self, changes, pool, now):\n        os._exit(9)\n"
    )
    path = Path(document)
    path.write_text(DOCUMENT.replace("seed: 42", "seed: 42, clients: [{name: blob, class: 'deadly:Deadly'}]"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    trials = report_of(p2pnet("sim", "-f", document, "--trials", "2", "-o", "json"), code=5)

    assert [one["seed"] for one in trials["failed"]] == [42, 43]
    assert "ended with exit code 9" in trials["failed"][0]["error"]


# --- the program itself ---


class Program:
    """p2pnet as a process, with a state directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder / "state")
        self.environment = {**os.environ, "P2PNET_STATE": str(self.state.root), "NO_COLOR": "1"}

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "p2pnet.cli", *words],
            env=self.environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def begun(self) -> None:
        """Returns when a run has begun to be simulated."""
        until(lambda: list(self.state.runs.glob("r-*/writer.json")))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_reports_and_keeps_what_there_is(program: Program, document: str, number: int) -> None:
    process = program.start("sim", "-f", document, *LONG, "-o", "json")
    program.begun()
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130, err
    report = json.loads(out)
    assert (report["state"], report["verdict"]) == ("cancelled", "invalid")
    assert "interrupted after" in err
    [head] = archive.list_heads(program.state)
    assert (head.run, head.state) == (report["run"], "cancelled")


STUBBORN = """
import sys, time
from p2pnet.cli import app, simulating

def stubborn(*_, is_stopped, **__):
    print("begun", flush=True)
    while not is_stopped():
        time.sleep(0.01)
    print("told", flush=True)
    time.sleep(600)

simulating.simulate = stubborn
sys.exit(app.main(sys.argv[1:]))
"""


def test_told_twice_it_ends_at_once_and_leaves_nothing(program: Program, document: str) -> None:
    words = [sys.executable, "-c", STUBBORN, "sim", "-f", document]
    with subprocess.Popen(
        words, env=program.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "told\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "nothing is kept" in err
    assert list(program.state.runs.glob("r-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_of_trials(program: Program, document: str, number: int) -> None:
    process = program.start("sim", "-f", document, *LONG, "--trials", "4", "--jobs", "2", "-o", "json")
    workers = until(lambda: len(found := children(process.pid)) == 2 and found)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
    if number != signal.SIGKILL:
        assert json.loads(out)["invalid"] == ["4 trials not finished"]
        assert "interrupted after 0 of 4 trials" in err
    until(lambda: not any(map(is_running, workers)))  # of a killed command they learn by the end of their pipe


def until(holds: Callable[[], Any]) -> Any:
    """What it gives as soon as it gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def test_what_a_killed_one_left_is_removed_by_the_next(program: Program, document: str) -> None:
    process = program.start("sim", "-f", document, *LONG)
    program.begun()
    process.kill()
    process.communicate()
    [left] = program.state.runs.glob("r-*")

    with program.start("sim", "-f", document) as after:
        after.communicate(timeout=PATIENCE_S)
    assert after.returncode == 0
    assert not left.exists()


def test_a_state_directory_that_cannot_be_written_is_2_before_anything_is_simulated(
    program: Program, document: str, tmp_path: Path
) -> None:
    program.state.root.write_text("a file where the directory should be")
    with program.start("sim", "-f", document, *LONG) as process:
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2
    assert "the state directory is of no use: Not a directory" in err


def test_a_disk_that_fills_up_meanwhile_is_5_and_the_report_is_shown_all_the_same(
    p2pnet: Callable[..., Any], document: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("p2pnet.store.simulated.sync_directory", full)
    ended = p2pnet("sim", "-f", document, "-o", "json")

    assert report_of(ended, code=5)["reach"]["ratio"] == 1.0
    assert "No space left on device" in ended.err
    assert archive.list_heads(state) == []


def test_events_beyond_the_bound_are_left_out_and_that_is_said(
    p2pnet: Callable[..., Any], document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pnet.store.simulated.EVENTS_BYTES_MAX", 0)
    report = report_of(p2pnet("sim", "-f", document, "-o", "json"))

    assert report["reach"]["ratio"] == 1.0  # measured as they came
    [note] = [one for one in report["notes"] if "too many to be kept" in one]
    assert int(note.split()[0]) > 4


def test_the_document_may_come_from_stdin(program: Program) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "p2pnet.cli", "sim", "-f", "-", "-o", "json"],
        env=program.environment, text=True, input=DOCUMENT, capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["subnet"] == "demo"


def test_a_client_of_ones_own_runs_unchanged_and_one_that_is_not_there_says_how_to_find_it(
    p2pnet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ROOT / "examples" / "clients"
    words = (
        "sim",
        "-f",
        str(folder / "subnet.yaml"),
        "--client",
        "chat",
        "--size",
        "300B",
        "--count",
        "3",
        "-o",
        "json",
    )
    for module in [one for one in sys.modules if one.partition(".")[0] in {path.stem for path in folder.glob("*.py")}]:
        monkeypatch.delitem(sys.modules, module)  # another test of this process may have imported it
    ended = p2pnet(*words)
    assert ended.code == 2
    assert "spec.clients[1].class" in ended.err
    assert "name its folder in PYTHONPATH" in ended.err

    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    report = report_of(p2pnet(*words))
    assert (report["client"], report["reach"]["ratio"]) == ("chat", 1.0)
    assert report_of(p2pnet(*words, "--trials", "1"))["trials"][0]["digest"] == report["digest"]


SUBNETS = [path for path in sorted((ROOT / "examples").glob("*.yaml")) if "kind: Subnet" in path.read_text()]


@pytest.mark.parametrize("path", SUBNETS, ids=lambda path: path.stem)
def test_every_example_is_simulated(p2pnet: Callable[..., Any], path: Path) -> None:
    report = report_of(p2pnet("sim", "-f", str(path), "--size", "1KiB", "-o", "json"))

    assert report["verdict"] == "pass"
    assert report["ignored"] == []


# --- judged again ---


def test_a_kept_run_is_judged_again_by_other_expectations(
    p2pnet: Callable[..., Any], document: str, state: State
) -> None:
    run = report_of(p2pnet("sim", "-f", document, "--count", "3", "--expect", "bytes <= 100", "-o", "json"))["run"]
    kept = (state.run(run) / archive.SUMMARY_FILE).read_bytes()

    again = report_of(p2pnet("report", "demo", run, "--expect", "hops <= 1", "-o", "json"))
    assert [one["expr"] for one in again["expectations"]] == ["hops <= 1", "reach == 100%"]
    assert again["bytes"]["sent"] == json.loads(kept)["bytes"]["sent"]
    missed = report_of(p2pnet("report", "demo", run, "--expect", "bytes <= 0.5", "-o", "json"), code=1)
    assert (missed["verdict"], missed["expectations"][0]["ok"]) == ("fail", False)
    assert (state.run(run) / archive.SUMMARY_FILE).read_bytes() == kept

    wrong = p2pnet("report", "demo", run, "--expect", "hops <=")
    assert (wrong.code, "where: --expect" in wrong.err) == (2, True)
    archive.events_file(state.run(run)).unlink()
    gone = p2pnet("report", "demo", run, "--expect", "hops <= 1")
    assert (gone.code, f"no events of run {run} are kept" in gone.err) == (2, True)


def test_what_made_a_run_invalid_still_does_when_it_is_judged_again(
    p2pnet: Callable[..., Any], document: str, state: State
) -> None:
    run = report_of(p2pnet("sim", "-f", document, "--expect", "p50 <= 1ms", "-o", "json"))["run"]
    path = state.run(run) / archive.SUMMARY_FILE
    report = json.loads(path.read_bytes())
    report["verdict"] = "invalid"
    report["invalid"] = ["the disk was full", "p50 <= 1ms: measured 0 ms, and clocks are known only to 2 ms"]
    path.write_text(json.dumps(report))

    again = report_of(p2pnet("report", "demo", run, "--expect", "hops <= 1", "-o", "json"), code=5)
    assert (again["verdict"], again["invalid"]) == ("invalid", ["the disk was full"])
