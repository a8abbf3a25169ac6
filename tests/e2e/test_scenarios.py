"""Scenarios on nodes of this machine: the whole of one, and what is left of one that is interrupted or killed."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from tests.patience import PATIENCE_S

Until = Callable[..., Any]
SPLIT = {"name": "split", "fault": {"partition": {"groups": ["node-3"]}}}


def write(person: Any, *steps: dict[str, Any], nodes: int = 4) -> Path:
    document = {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario", "metadata": {"name": "story"},
        "spec": {"subnet": {"nodes": nodes}, "steps": list(steps)},
    }  # fmt: skip
    path: Path = person.folder / "story.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_story_is_told_whole_and_nothing_of_it_is_left_but_its_runs(person: Any) -> None:
    file = write(
        person,
        {"name": "before", "inject": {"size": "2KiB", "count": 5, "rate": "10/s", "from": "node-0"}},
        SPLIT,
        {"name": "dark", "inject": {"size": "2KiB", "from": "node-0", "within": "5s"}},
        {"expect": ["dark.reach >= 66%", "dark.reach < 67%"]},
        {"parallel": [{"name": "during", "inject": {"size": "2KiB", "from": "node-0"}}, {"at": "500ms", "heal": "split"}]},
        {"wait": {"holds": ["dark", "during"], "within": "60s"}},
        {"parallel": [{"name": "rolled", "inject": {"size": "2KiB", "count": 10, "rate": "5/s", "from": "node-0"}},
                      {"upgrade": "node-1,node-2"}]},
        {"rotate": {}},
        {"scale": {"nodes": 5}},
        {"wait": {"holds": "before", "within": "60s"}},
        {"wait": {"connected": "100%", "within": "60s"}},
        {"name": "after", "inject": {"size": "2KiB", "count": 5, "rate": "10/s", "from": "node-4"}},
        {"expect": "after.p50 <= 100000 * before.p50"},
    )  # fmt: skip
    ended = person.run("run", str(file), "--junit", "junit.xml", "-o", "json")
    found = json.loads(ended.out)
    assert (found["verdict"], found["target"], found["invalid"]) == ("pass", "local", [])
    assert {step["state"] for step in found["steps"]} == {"done"}
    steps = {step["name"]: step for step in found["steps"]}
    assert steps["during"]["begun_s"] < steps["heal-1"]["begun_s"]
    cases = [case.get("name") for case in ET.parse(person.folder / "junit.xml").getroot().iter("testcase")]
    assert "dark.reach < 67%" in cases
    assert len(cases) == len(found["expectations"])

    assert person.processes() == []
    assert person.document("ls", code=0)["subnets"] == []
    report = person.document("report", "story", "story/dark")
    assert (report["run"], report["label"]) == (steps["dark"]["run"], "story/dark")
    assert report["faults"][0]["name"] == "split"
    assert "node-3" in person.run("trace", "story", steps["after"]["run"] and "latest", inside=True).out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_interrupted_takes_its_subnet_down_and_tells_what_there_was(
    person: Any, until: Until, number: int
) -> None:
    file = write(
        person, SPLIT, {"name": "long", "inject": {"count": 1000, "rate": "1/s"}}, {"name": "b", "inject": {}}, nodes=4
    )
    story = person.start("run", str(file), "-o", "json")
    until(lambda: person.subnet("story").exists() and _open_run(person))
    story.send_signal(number)
    out, err = story.communicate(timeout=PATIENCE_S)
    assert story.returncode == 130, err
    found = json.loads(out)
    assert (found["state"], found["verdict"]) == ("cancelled", "invalid")
    assert [step["state"] for step in found["steps"]] == ["done", "failed", "not run"]
    assert person.processes() == []
    [run] = person.document("runs", "story")["runs"]
    assert run["state"] == "cancelled"


def test_one_that_is_killed_leaves_a_subnet_that_is_named_and_can_be_taken_down(person: Any, until: Until) -> None:
    file = write(person, SPLIT, {"name": "long", "inject": {"count": 1000, "rate": "1/s"}}, nodes=4)
    story = person.start("run", str(file))
    until(lambda: person.subnet("story").exists() and _open_run(person))
    os.kill(story.pid, signal.SIGKILL)
    story.communicate(timeout=PATIENCE_S)
    fault = person.document("status", "story")["faults"][0]
    assert (fault["name"], fault["origin"]) == ("split", "lease")  # which nobody renews any more
    again = person.run("run", str(file), "-o", "json", code=2, inside=True)
    assert "there is a subnet story already" in again.out
    assert person.document("status", "story")["nodes"]["running"] == 4
    person.run("down", "story", "--yes", inside=True)
    assert person.processes() == []


def _open_run(person: Any) -> bool:
    try:
        return any(run["state"] == "running" for run in person.document("status", "story")["runs"])
    except AssertionError:  # not up yet
        return False
