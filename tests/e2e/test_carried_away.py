"""A run of real nodes, carried away and replayed: what missed behind a partition misses again."""

from pathlib import Path
from typing import Any

import yaml

SPEC = {"nodes": 6, "seed": 3, "network": {"default": {"latency": "600ms"}}}
"""A busy machine is late by some milliseconds; more than 5 % of the latency, and the run is invalid, as it should be."""


def write(path: Path, kind: str, name: str, **spec: Any) -> str:
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_a_live_run_under_a_partition_is_replayed_with_its_misses(person: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "subnet.yaml", "Subnet", "away", **SPEC)
    person.run("up", "away", "-f", file)
    person.run("fault", "away", "add", "partition", "30%", "--for", "60s")
    words = ["--size", "16KiB", "--count", "6", "--rate", "4/s", "--within", "6s"]
    recorded = person.document("inject", "away", *words, code=1)
    person.run("down", "away", "-y")
    manifest = person.document("collect", "latest", "-O", "away.tar.gz")
    assert {f"logs/{name}.log" for name in ("lab", "node-0", "node-5")} <= {one["name"] for one in manifest["files"]}
    found = person.document("replay", "away.tar.gz")

    assert (found["verdict"], found["recorded_verdict"], found["target"]) == ("reproduced", "fail", "local")
    [run] = found["runs"]
    missed = recorded["reach"]["expected"] - recorded["reach"]["delivered"]
    assert missed > 0
    assert run["misses"] == {
        "recorded": missed,
        "replayed": missed,
        "both": missed,
        "only_recorded": [],
        "only_replayed": [],
    }
    assert run["republished"] == run["artifacts"] == 6
    assert any("QUIC itself" in one for one in found["not_reproduced"])


def test_a_live_scenario_is_replayed_step_by_step(person: Any, tmp_path: Path) -> None:
    steps = [
        {"name": "before", "inject": {"size": "4KiB", "count": 3, "rate": "10/s"}},
        {"name": "cut", "fault": {"partition": {"minority": "30%"}}},
        {"name": "dark", "inject": {"size": "4KiB", "count": 3, "rate": "4/s", "within": "5s"}},
        {"heal": "cut"},
        {"expect": ["dark.reach < 100%"]},
    ]
    file = write(tmp_path / "story.yaml", "Scenario", "carried", subnet=SPEC, steps=steps)
    recorded = person.document("run", file)
    person.run("collect", "carried/dark", "-O", "story.tar.gz")
    found = person.document("replay", "story.tar.gz")

    assert (found["verdict"], found["recorded_verdict"], found["scenario"]) == ("reproduced", "pass", "carried")
    before, dark = found["runs"]
    assert (before["step"], before["misses"]["recorded"], before["misses"]["replayed"]) == ("before", 0, 0)
    assert dark["misses"]["recorded"] == dark["misses"]["both"] > 0
    assert [run["run"] for run in found["runs"]] == recorded["trials"][0]["runs"]
