"""Two versions on nodes of this machine, beside each other; and what is left of a comparison that is interrupted."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.patience import PATIENCE_S

LOAD = ("--on", "local", "--size", "1KiB", "--count", "5", "--rate", "20/s", "--gate", "p50:+50%")


def write(person: Any, name: str, latency: str) -> str:
    spec = {"nodes": 3, "network": {"default": {"latency": latency}}}
    document = {
        "apiVersion": "p2pnet.io/v1alpha1",
        "kind": "Subnet",
        "metadata": {"name": "demo"},
        "spec": spec,
    }
    path: Path = person.folder / name
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_a_planted_latency_is_found_and_nothing_is_left_but_runs(person: Any) -> None:
    files = write(person, "base.yaml", "200ms"), write(person, "head.yaml", "800ms")
    ended = person.run("compare", *files, *LOAD, "--trials", "3", "-o", "json", code=6)
    found = json.loads(ended.out)
    assert found["gates"][0]["effect"] > 1
    assert person.processes() == []
    assert person.document("ls", code=0)["subnets"] == []
    assert not list((person.state / "subnets").iterdir())
    runs = person.document("runs", found["head"]["subnet"])["runs"]
    assert [run["label"] for run in runs] == [""] * 4  # the trials, and what warmed it up


def test_a_comparison_that_is_told_to_stop_takes_both_down(person: Any, until: Callable[..., Any]) -> None:
    files = write(person, "base.yaml", "400ms"), write(person, "head.yaml", "400ms")
    process = person.start("compare", *files, *LOAD, "--trials", "500", "--gate", "max:+0ms")
    until(lambda: len(list((person.state / "runs").glob("r-*"))) > 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert person.processes() == []
    assert person.document("ls", code=0)["subnets"] == []
