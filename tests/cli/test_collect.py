"""`collect`: one file with all of a run, and what a person is told of it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.patience import PATIENCE_S

from p2pnet.cli.verbs.schema import schema_of
from p2pnet.store import State, archive
from p2pnet.store.bundles import open_bundle

Call = Callable[..., Any]
SUBNET = {"nodes": 4, "network": {"default": {"latency": "10ms"}}}


@pytest.fixture
def simulated(p2pnet: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Simulate a run in the folder that is the current one; its id."""
    monkeypatch.chdir(tmp_path)

    def simulate(*words: str) -> str:
        document = {
            "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": SUBNET,
        }  # fmt: skip
        Path("subnet.yaml").write_text(yaml.safe_dump(document))
        return str(json.loads(p2pnet("sim", "-f", "subnet.yaml", *words, "-o", "json").out)["run"])

    return simulate


def manifest_of(ended: Any) -> Any:
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    jsonschema.validate(found, schema_of("bundle"))
    return found


def test_a_run_is_packed_with_a_manifest_of_every_file(p2pnet: Call, simulated: Callable[..., str]) -> None:
    run = simulated("--count", "2")
    found = manifest_of(p2pnet("collect", run, "-o", "json"))

    assert (found["schema"], found["runs"], found["subnet"]) == ("p2pnet.io/bundle/v1", [run], "demo")
    assert found["file"] == f"demo-{run}.tar.gz"
    with tarfile.open(found["file"]) as tar:
        assert tar.getnames() == ["manifest.json", *(one["name"] for one in found["files"])]
        within = json.load(tar.extractfile("manifest.json"))
    assert within == {**found, "file": "", "size": 0}
    names = {one["name"] for one in found["files"]}
    assert names >= {"subnet.json", "environment.json", f"runs/{run}/run.json", f"runs/{run}/events.ndjson.gz"}
    assert all(one["why"] for one in found["left_out"])


def test_the_same_run_gives_the_same_bytes_and_any_word_for_a_run_means_it(
    p2pnet: Call, simulated: Callable[..., str]
) -> None:
    run = simulated("--label", "base")
    for word in ("latest", "-1", run[:-1], "base"):
        assert p2pnet("collect", word, "-O", f"{word}.tar.gz").code == 0, word
    assert p2pnet("collect", "-O", "without.tar.gz").code == 0
    assert len({path.read_bytes() for path in Path().glob("*.tar.gz")}) == 1


def test_a_run_that_is_not_there_and_a_place_that_cannot_be_written_are_exit_2(
    p2pnet: Call, simulated: Callable[..., str]
) -> None:
    assert "no run is kept" in p2pnet("collect").err
    simulated()
    for words in (["r-9"], ["-O", "."], ["-O", "none/x.tar.gz"], ["-O", "-", "-o", "json"]):
        ended = p2pnet("collect", *words)
        assert (ended.code, ended.err.count("\n")) == (2, 3), words
    assert p2pnet("collect").code == 0
    assert "exists already" in p2pnet("collect").err


def test_files_that_were_published_go_along_unless_they_are_not_to(
    p2pnet: Call, simulated: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"private")
    run = simulated("photo.jpg")
    with_it = manifest_of(p2pnet("collect", "-O", "a.tar.gz", "-o", "json"))
    without = manifest_of(p2pnet("collect", "-O", "b.tar.gz", "--no-payloads", "-o", "json"))
    payload = f"runs/{run}/payload-0.bin"
    assert payload in {one["name"] for one in with_it["files"]}
    assert payload in {one["what"] for one in without["left_out"]} - {one["name"] for one in without["files"]}


def test_a_run_of_a_scenario_brings_the_others_and_the_scenario(
    p2pnet: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    steps = [{"name": "one", "inject": {"size": "1KiB"}}, {"name": "two", "inject": {"size": "2KiB", "count": 2}}]
    document = {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario", "metadata": {"name": "story"},
        "spec": {"subnet": SUBNET, "steps": steps},
    }  # fmt: skip
    Path("story.yaml").write_text(yaml.safe_dump(document))
    story = json.loads(p2pnet("run", "story.yaml", "--on", "sim", "-o", "json").out)
    found = manifest_of(p2pnet("collect", "story/one", "-o", "json"))

    assert found["scenario"] == "story"
    assert found["runs"] == [step["run"] for step in story["steps"]]
    opened = open_bundle(Path(found["file"]))
    record = opened.scenario
    assert record is not None
    assert record.scenario["spec"]["steps"] == steps
    assert (record.result.digest, record.result.seed) == (story["digest"], 42)
    opened.close()


def test_what_a_run_has_not_is_said_in_the_table(p2pnet: Call, simulated: Callable[..., str], state: State) -> None:
    run = simulated()
    (state.run(run) / archive.COMPRESSED_FILE).unlink()
    ended = p2pnet("collect")
    assert "events.ndjson.gz: none are kept" in ended.out
    assert f"Next: p2pnet replay demo-{run}.tar.gz" in ended.err


def test_a_bundle_is_read_as_a_kept_run_by_report_trace_and_compare(
    p2pnet: Call, simulated: Callable[..., str], state: State
) -> None:
    simulated("--count", "20", "--rate", "10/s", "--size", "1KiB", "--label", "base")
    kept = [p2pnet(verb, "demo", "-o", "json").out for verb in ("report", "trace")]
    p2pnet("collect", "-O", "b.tar.gz")
    shutil.rmtree(state.runs)
    for name in ("b.tar.gz", "./b.tar.gz"):
        assert [p2pnet(verb, name, "-o", "json").out for verb in ("report", "trace")] == kept
    assert "Next: p2pnet trace b.tar.gz " in p2pnet("report", "b.tar.gz", "--html", "page.html").err
    assert "<html" in Path("page.html").read_text()
    assert "Next: p2pnet replay b.tar.gz" in p2pnet("trace", "b.tar.gz").err
    ended = p2pnet("compare", "b.tar.gz", "b.tar.gz", "-o", "json")
    assert (ended.code, json.loads(ended.out)["verdict"]) == (0, "pass")
    assert p2pnet("report", "b.tar.gz", "--expect", "p95 <= 1ms").code == 1
    assert p2pnet("report", "b.tar.gz", "base").code == 0


def test_what_is_no_bundle_is_refused_by_those_verbs_too(p2pnet: Call, simulated: Callable[..., str]) -> None:
    simulated()
    Path("text.tar.gz").write_text("hello")
    for verb in ("report", "trace"):
        for name, why in (("text.tar.gz", "cannot be read: it is damaged"), ("none.tar.gz", "there is no file")):
            ended = p2pnet(verb, name)
            assert (ended.code, ended.err.count("\n"), why in ended.err) == (2, 3, True), ended.err


def test_a_bundle_goes_through_a_pipe_whole(simulated: Callable[..., str], state: State, tmp_path: Path) -> None:
    run = simulated()
    words = [sys.executable, "-m", "p2pnet.cli", "collect", run, "-O", "-"]
    environ = {**os.environ, "P2PNET_STATE": str(state.root)}
    done = subprocess.run(words, env=environ, capture_output=True, check=True, timeout=PATIENCE_S)
    (tmp_path / "x.tar.gz").write_bytes(done.stdout)
    opened = open_bundle(tmp_path / "x.tar.gz")
    assert opened.manifest.runs == [run]
    opened.close()
