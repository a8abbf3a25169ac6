"""Which shipped scenario finds which planted fault: `python -m tests.bench.mutants [--seeds N] [--faults A,B] [--stories A,B]`.

Plays the stories of `examples/scenarios` in the simulator, in a core that has one of the faults of `tests.sim.mutants`, with
seeds from 1 on, until one does not hold. A story counts only with a seed with which it holds in the sound core. Prints a table
in Markdown, which stands in docs/method.md.
"""

import argparse
import asyncio
import time
from contextlib import nullcontext
from pathlib import Path

from tests.sim.mutants import PLANTED, planted

from p2pnet.cli.stages.simulated import SimulatedStage
from p2pnet.scenario.document import checked_plan, inline_subnet, read_scenario
from p2pnet.scenario.runner import ScenarioRunner

FOLDER = Path(__file__).parents[2] / "examples" / "scenarios"
SEEDS = 3


def broken_sentence(story: Path, seed: int, fault: str | None) -> str:
    """What did not hold; empty when all did."""
    written = read_scenario(story.read_bytes())
    plan = checked_plan(written.scenario, inline_subnet(written))
    with planted(fault) if fault else nullcontext():
        try:
            stage = SimulatedStage(plan, seed=seed, state=None, folder=story.parent)
            trial = asyncio.run(ScenarioRunner(plan, stage, seed=seed, tell=lambda _: None, clock=time.monotonic).run())
        except Exception as error:  # whatever a faulty core does tells that it is faulty
            return f"{type(error).__name__}: {error}"
    if trial.verdict == "pass":
        return ""
    return next((one.expr for one in trial.expectations if not one.ok), "; ".join(trial.invalid) or trial.verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--faults", default=",".join(PLANTED))
    parser.add_argument("--stories", default=",".join(sorted(path.stem for path in FOLDER.glob("*.yaml"))))
    parser.add_argument("--all", action="store_true", help="every story that finds a fault, not only the first")
    given = parser.parse_args()
    stories = [FOLDER / f"{name}.yaml" for name in given.stories.split(",")]
    holds: dict[tuple[str, int], bool] = {}
    print(
        "| fault | scenario | seed | seconds of CPU | what did not hold |\n| --- | --- | --- | --- | --- |", flush=True
    )
    for fault in given.faults.split(","):
        found = False
        for seed in range(1, given.seeds + 1):
            for story in stories:
                key = (story.stem, seed)
                if key not in holds:
                    holds[key] = not broken_sentence(story, seed, None)
                if not holds[key]:
                    continue
                began = time.process_time()
                sentence = broken_sentence(story, seed, fault)
                if sentence:
                    found = True
                    seconds = time.process_time() - began
                    print(f"| {fault} | {story.stem} | {seed} | {seconds:.1f} | `{sentence[:90]}` |", flush=True)
                    if not given.all:
                        break
            if found:
                break
        if not found:
            print(f"| {fault} | none | | | |", flush=True)


if __name__ == "__main__":
    main()
