"""A scenario whose command or lab is killed at any of its steps: nothing is left, and nothing is still broken."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.patience import PATIENCE_S

STEPS: list[dict[str, Any]] = [
    {"name": "split", "fault": {"partition": {"groups": ["node-2"]}}},
    {"name": "dark", "inject": {"size": "2KiB", "from": "node-0", "within": "1s", "expect": "reach < 100%"}},
    {"heal": "split"},
    {"name": "thin", "fault": {"from": "node-1", "pause": True}},
    {"heal": "thin"},
    {"restart": "node-1"},
    {"upgrade": "node-0,node-1"},
    {"rotate": {}},
    {"scale": {"nodes": 4}},
    {"wait": {"holds": "dark", "within": "60s"}},
    {"name": "after", "inject": {"size": "2KiB", "count": 5000, "rate": "50/s"}},  # there is always something to kill
]
MOMENTS = [(victim, step) for victim in ("command", "lab") for step in range(-1, len(STEPS))]
"""Who is killed, and during which step; -1: while the subnet starts."""
SEED = int(os.environ.get("P2PNET_KILLED_SEED", str(time.time_ns() % 100_000)))
DRAWN = 4
"""So many of them in every run of the tests; what is drawn is no part of a test's name, for workers must agree on those."""


def write(folder: Path) -> Path:
    path = folder / "story.yaml"
    path.write_text(yaml.safe_dump({
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario", "metadata": {"name": "story"},
        "spec": {"subnet": {"nodes": 3}, "steps": STEPS},
    }))  # fmt: skip
    return path


def lines_of(story: Any) -> Iterator[str]:
    """What it has said of its steps so far, line by line."""
    for line in story.stderr:
        number = line.split(" ", 1)[0]
        if number.isdigit():
            yield line


def kill_during(person: Any, victim: str, step: int) -> Any:
    """The scenario's command, from a moment of that step on without its lab, or dead itself."""
    story = person.start("run", str(write(person.folder)), "-o", "json")
    chance = random.Random(f"{SEED} {victim} {step}")
    if step < 0:
        while victim == "lab" and not (person.subnet("story") / "lab.json").exists() and story.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.5) if victim == "command" else 0)
    else:
        said = lines_of(story)
        for _ in range(step):
            next(said)
        if step == 0:
            next(iter(story.stderr))  # up
        time.sleep(chance.uniform(0, 0.3))
    os.kill(story.pid if victim == "command" else person.lab("story"), signal.SIGKILL)
    return story


def check(person: Any, until: Any, victim: str, step: int) -> None:
    print(f"{victim} killed in step {step}: P2PNET_KILLED_SEED={SEED}")
    story = kill_during(person, victim, step)
    _, err = story.communicate(timeout=PATIENCE_S)
    if victim == "lab":
        assert story.returncode in (3, 5), err
        assert "Traceback" not in err
        until(lambda: not person.processes())
    else:
        faults = person.document("status", "story")["faults"] if person.document("ls")["subnets"] else []
        assert {fault["origin"] for fault in faults if fault["state"] != "ended"} <= {"lease"}
        person.run("down", "story", "--yes", inside=True)
    assert person.processes() == []
    assert person.document("ls")["subnets"] == []
    assert list((person.state / "subnets").glob("[!.]*")) == []


@pytest.mark.parametrize("number", range(DRAWN))
def test_nothing_is_left_of_a_scenario_that_is_killed(person: Any, until: Any, number: int) -> None:
    check(person, until, *random.Random(f"{SEED} {number}").choice(MOMENTS))


@pytest.mark.soak
@pytest.mark.parametrize(("victim", "step"), MOMENTS)
def test_nothing_is_left_of_a_scenario_that_is_killed_at_any_step(
    person: Any, until: Any, victim: str, step: int
) -> None:
    check(person, until, victim, step)
