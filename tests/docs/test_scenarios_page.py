"""The scenario on the page about scenarios is one, and holds."""

import asyncio
import re
import time
from pathlib import Path

from p2pnet.cli.stages.simulated import SimulatedStage
from p2pnet.scenario.document import checked_plan, inline_subnet, read_scenario
from p2pnet.scenario.runner import ScenarioRunner
from p2pnet.scenario.spec import STEP_KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "scenarios.md").read_text()


def test_the_scenario_on_the_page_holds_whatever_the_seed():
    [text] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    written = read_scenario(text)
    plan = checked_plan(written.scenario, inline_subnet(written))
    for seed in range(5):
        stage = SimulatedStage(plan, seed=seed, state=None, folder=Path())
        result = asyncio.run(ScenarioRunner(plan, stage, seed=seed, tell=lambda _: None, clock=time.monotonic).run())
        assert (result.verdict, [one for one in result.expectations if not one.ok]) == ("pass", [])


def test_every_step_stands_on_the_page():
    table = PAGE.partition("## Steps")[2].partition("## What must hold")[0]
    assert [kind for kind in STEP_KINDS if f"`{kind}:" not in table] == []
