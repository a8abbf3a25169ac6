"""`run --shrink`: a failing scenario becomes a small one that fails by the same expectation, for the same reason."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.patience import PATIENCE_S

from p2pnet.cli import shrinking
from p2pnet.cli.verbs.schema import schema_of

Call = Callable[..., Any]
NETWORK = {"default": {"latency": "20ms"}, "rules": [{"from": "node-1", "to": "*", "latency": "50ms"}]}
OUT = {"name": "out", "fault": {"from": "node-3", "to": "*", "block": True, "bothWays": True}}
BEFORE = {"name": "before", "inject": {"size": "4KiB", "count": 3, "rate": "10/s", "expect": "p95 <= 2s"}}
CUT = {"name": "cut", "fault": {"partition": {"minority": "30%"}}}
DARK = {"name": "dark", "inject": {"size": "4KiB", "count": 2, "within": "2s"}}
AFTER = {"name": "after", "inject": {"size": "4KiB", "count": 3, "rate": "10/s", "within": "5s"}}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(*steps: Any, **spec: Any) -> str:
    spec = {"nodes": 8, "network": NETWORK, **spec}
    document = {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario", "metadata": {"name": "story"},
        "spec": {"subnet": spec, "steps": list(steps)},
    }  # fmt: skip
    Path("story.yaml").write_text(yaml.safe_dump(document))
    return "story.yaml"


def shrunk(p2pnet: Call, *words: str, code: int = 1) -> Any:
    ended = p2pnet("run", *words, "--on", "sim", "-o", "json")
    assert ended.code == code, ended.err
    found = json.loads(ended.out)
    jsonschema.validate(found, schema_of("shrunk"))
    return found


def test_a_planted_fault_is_all_that_is_left_and_the_files_fail_by_it(p2pnet: Call) -> None:
    story = write(
        BEFORE, CUT, DARK, {"expect": ["dark.reach < 100%"]}, {"heal": "cut"}, {"wait": {"holds": "dark", "within": "60s"}},
        {"wait": {"connected": "100%", "within": "60s"}}, {"wait": "5s"}, OUT,
        {"parallel": [AFTER, {"at": "100ms", "fault": {"from": "node-2", "latency": "30ms", "for": "1s"}, "name": "late"}]},
        faults=[{"name": "wet", "from": "node-4", "loss": "1%"}], topology={"kind": "random-regular", "degree": 4},
    )  # fmt: skip
    found = shrunk(p2pnet, story, "--shrink", "small")

    assert (found["verified"], found["state"]) == (True, "finished")
    assert (found["expectation"]["name"], found["expectation"]["expr"]) == ("after", "reach == 100%")
    after = found["after"]
    assert (after["nodes"], after["steps"], after["faults"], after["artifacts"], after["bytes"]) == (4, 2, 1, 1, 1)
    steps = yaml.safe_load(Path("small/scenario.yaml").read_text())["spec"]["steps"]
    assert [step["name"] for step in steps] == ["out", "after"]
    assert steps[0]["fault"].keys() >= {"from", "block"}
    again = p2pnet("run", "small/scenario.yaml", "--on", "sim", "-o", "json")
    assert again.code == 1
    [missed] = json.loads(again.out)["trials"][0]["missed"]
    assert missed == "reach == 100%"
    assert found["rerun"] == "p2pnet run small/scenario.yaml --on sim"


def test_the_same_failure_gives_the_same_files(p2pnet: Call) -> None:
    story = write(BEFORE, OUT, AFTER)
    for folder in ("one", "two"):
        shrunk(p2pnet, story, "--shrink", folder)
    assert [path.name for path in sorted(Path("one").iterdir())] == ["scenario.yaml", "subnet.yaml"]
    for name in ("scenario.yaml", "subnet.yaml"):
        assert Path("one", name).read_text() == Path("two", name).read_text()


def test_a_fault_that_was_healed_is_never_the_reason_afterwards(p2pnet: Call) -> None:
    """Without the heal, or the wait for links, `after` would miss for another reason."""
    slow = {"name": "after", "inject": {"size": "4KiB", "count": 3, "within": "5s", "expect": "p50 <= 10ms"}}
    story = write(
        BEFORE, CUT, DARK, {"expect": ["dark.reach < 100%"]}, {"heal": "cut"}, {"wait": {"connected": "100%"}}, slow
    )
    found = shrunk(p2pnet, story, "--shrink", "small")

    assert found["expectation"]["expr"] == "p50 <= 10ms"
    assert found["expectation"]["value"] is not None
    assert (found["after"]["faults"], found["after"]["steps"]) == (0, 1)
    assert found["subnet_document"]["spec"]["network"] == {"default": {"latency": "20ms"}}


def test_the_seed_of_the_first_trial_that_failed_is_shrunk_and_written(p2pnet: Call) -> None:
    story = write({**AFTER, "inject": {"size": "4KiB", "expect": ["hops <= 1", "p95 <= 30ms"]}}, seed=11)
    found = shrunk(p2pnet, story, "--trials", "12", "--shrink", "small")
    assert found["verified"]
    assert found["subnet_document"]["spec"].get("seed") == found["seed"] or found["seed"] in (11, 42)
    assert p2pnet("run", "small/scenario.yaml", "--on", "sim").code == 1


def test_published_files_become_bytes_or_go_along(p2pnet: Call) -> None:
    Path("photo.jpg").write_bytes(b"x" * 5_000)
    story = write(OUT, {"name": "after", "inject": {"files": ["photo.jpg"], "within": "3s"}})
    assert shrunk(p2pnet, story, "--shrink", "small")["files"] == []
    dear = {"name": "after", "inject": {"files": ["photo.jpg"], "client": "blob", "expect": "bytes <= 0.5"}}
    found = shrunk(p2pnet, write(dear), "--shrink", "other")
    assert (found["files"], found["after"]["bytes"]) in ((["other/photo.jpg"], 5_000), ([], found["after"]["bytes"]))
    assert found["verified"]


def test_a_bound_ends_it_with_the_smallest_so_far(p2pnet: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrinking, "TRIALS_MAX", 6)
    found = shrunk(p2pnet, write(BEFORE, OUT, AFTER), "--shrink", "small")
    assert (found["state"], found["why"], found["trials"]) == ("bounded", "after 6 trials", 6)
    assert found["verified"]
    monkeypatch.setattr(shrinking, "SECONDS_MAX", 0.0)
    assert shrunk(p2pnet, write(BEFORE, OUT, AFTER), "--shrink", "other")["state"] == "bounded"


def test_what_passes_is_not_shrunk_and_leaves_no_folder(p2pnet: Call) -> None:
    ended = p2pnet("run", write(BEFORE), "--on", "sim", "--shrink", "small")
    assert (ended.code, "nothing to shrink: it passes" in ended.err) == (0, True)
    assert not Path("small").exists()


def test_where_it_cannot_be_is_said_before_anything_runs(p2pnet: Call, state: Any) -> None:
    story = write(OUT, AFTER)
    Path("full").mkdir()
    Path("full", "mine").write_text("x")
    for words, why in (
        (["--shrink", "small"], "add --on sim"),
        (["--on", "sim", "--shrink", "full"], "not empty"),
        (["--on", "sim", "--shrink", "story.yaml/x"], "cannot write"),
    ):
        ended = p2pnet("run", story, *words)
        assert (ended.code, why in ended.err) == (2, True), ended.err
    assert not state.runs.exists()


def test_a_failure_in_the_simulator_offers_to_be_shrunk(p2pnet: Call) -> None:
    ended = p2pnet("run", write(OUT, AFTER), "--on", "sim", "--seed", "3")
    assert "p2pnet run story.yaml --seed 3 --on sim --shrink story-smaller" in ended.err
    drawn = p2pnet("run", "story.yaml", "--on", "sim", "--seed", "3", "--shrink", "story-smaller")
    assert "small" in drawn.out
    assert "MISS after: reach == 100%" in drawn.out
    assert "block: true" in drawn.out


def test_ctrl_c_keeps_the_smallest_so_far(state: Any, tmp_path: Path) -> None:
    load = {"name": "after", "inject": {"size": "32KiB", "count": 40, "rate": "20/s", "within": "5s"}}
    story = write(*({**BEFORE, "name": f"before-{at}"} for at in range(6)), OUT, load, nodes=24)
    words = [sys.executable, "-m", "p2pnet.cli", "run", story, "--on", "sim", "--shrink", "small", "-o", "json"]
    environ = {**os.environ, "P2PNET_STATE": str(state.root)}
    with subprocess.Popen(words, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert any("shrinking while" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    found = json.loads(out)
    assert found["state"] == "cancelled"
    assert sorted(path.name for path in Path("small").iterdir()) == ["scenario.yaml", "subnet.yaml"]
