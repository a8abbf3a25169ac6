"""The stories of `examples/scenarios`, in virtual time."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.sim.mutants import planted

from p2pnet.cli.stages.simulated import SimulatedStage
from p2pnet.scenario.document import checked_plan, inline_subnet, read_scenario
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.runner import ScenarioRunner
from p2pnet.scenario.targets import unsupported_steps
from p2pnet.scenario.trial import TrialResult

FOLDER = Path(__file__).parents[2] / "examples" / "scenarios"
STORIES = sorted(FOLDER.glob("*.yaml"))
TARGETS = ("local", "cluster", "kind", "sim")


def plan_of(path: Path) -> ScenarioPlan:
    written = read_scenario(path.read_bytes())
    return checked_plan(written.scenario, inline_subnet(written))


def told(path: Path, seed: int) -> TrialResult:
    plan = plan_of(path)
    stage = SimulatedStage(plan, seed=seed, state=None, folder=FOLDER)
    return asyncio.run(ScenarioRunner(plan, stage, seed=seed, tell=lambda _: None, clock=time.monotonic).run())


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_every_story_holds(path: Path) -> None:
    result = told(path, 42)
    assert result.invalid == []
    assert [one for one in result.expectations if not one.ok] == []
    assert len(result.expectations) >= 3
    assert {step.state for step in result.steps} == {"done"}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_every_story_holds_whatever_the_seed(path: Path, seed: int) -> None:
    result = told(path, seed)
    assert (result.verdict, [one.expr for one in result.expectations if not one.ok]) == ("pass", [])


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_every_story_is_the_same_again(path: Path) -> None:
    if path.stem in (
        "lossy-subnet",
        "rolling-upgrade",
        "big-files",
        "selective-relays",
    ):  # the longest ones say no more of it
        pytest.skip("a long one")
    assert told(path, 7).digest == told(path, 7).digest


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_every_story_runs_on_every_target_says_what_it_shows_and_stands_in_the_docs(path: Path) -> None:
    plan = plan_of(path)
    assert plan.scenario.name == path.stem
    assert plan.scenario.metadata.description.endswith(".")
    lacking = [line for target in TARGETS for line in unsupported_steps(plan, target).values()]
    assert [line for line in lacking if ".wait.promise: only the simulator" not in line] == []
    assert unsupported_steps(plan, "sim") == {}
    page = (FOLDER.parents[1] / "docs" / "how-to" / "scenarios.md").read_text()
    assert f"| `{path.stem}` |" in page


FOUND_BY = {
    "V1": "misers", "V2": "missing-link", "drop-on-the-second-hop": "selective-relays", "digest-skips-one-id": "missing-link",
    "no-restart-after-re-advertise": "cut-off-publisher", "lazy-for-ever": "selective-relays",
    "waits-for-one-peer-for-ever": "selective-relays", "busy-is-taken-for-have": "selective-relays",
    "stripes-never-missed": "six-clients", "passes-stripes-on-twice": "lying-dealer",
    "V5": "users-clients", "V6": "users-clients", "V8": "many-files", "V10": "gone-again", "V11": "no-slot-left",
    "synced-before-the-answers": "bad-weather", "resurrecting-late-push": "bad-weather",
    "V3": "lost-publisher", "V9": "taken-back", "V12": "never-served", "passes-wrong-stripes-on": "lying-dealer",
}  # fmt: skip
"""Faults planted into the core, and a story that finds each (docs/method.md has them all)."""


@pytest.mark.parametrize(("fault", "story"), FOUND_BY.items())
def test_a_story_finds_a_fault_in_the_broadcast(fault: str, story: str) -> None:
    with planted(fault):
        assert told(FOLDER / f"{story}.yaml", 1).verdict != "pass"


DIGEST = """
import asyncio, sys, time
from pathlib import Path
from p2pnet.cli.stages.simulated import SimulatedStage
from p2pnet.scenario.document import checked_plan, inline_subnet, read_scenario
from p2pnet.scenario.runner import ScenarioRunner

written = read_scenario(Path(sys.argv[1]).read_bytes())
plan = checked_plan(written.scenario, inline_subnet(written))
stage = SimulatedStage(plan, seed=1, state=None, folder=Path())
print(asyncio.run(ScenarioRunner(plan, stage, seed=1, tell=lambda _: None, clock=time.monotonic).run()).digest)
"""


@pytest.mark.parametrize("name", ["late-joiner", "churn", "flooder"])
def test_a_story_is_the_same_in_every_process(name: str) -> None:
    """Whatever order Python gives to sets there."""
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGEST, str(FOLDER / f"{name}.yaml")], check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1
