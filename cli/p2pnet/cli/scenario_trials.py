"""A scenario with several seeds: one after the other on live nodes, in processes beside each other in the simulator."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from p2pnet.cli.capacity import check_simulated, this_machine, too_much
from p2pnet.cli.load import held_at_once
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.scenario_file import CheckedScenario
from p2pnet.cli.scenario_progress import ScenarioProgress
from p2pnet.cli.session import Session
from p2pnet.cli.stages.live import LiveStage
from p2pnet.cli.targets.target import Target
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import artifacts_asked
from p2pnet.scenario.events import TrialBegan
from p2pnet.scenario.plan import SIZE_DEFAULT, ScenarioPlan, inject_count
from p2pnet.scenario.runner import ScenarioRunner
from p2pnet.scenario.stage import Stage
from p2pnet.scenario.targets import honest_nodes
from p2pnet.scenario.trial import TrialLost, TrialResult
from p2pnet.subnet.members import edge_count, process_count
from p2pnet.subnet.spec import Subnet


@dataclass(frozen=True, slots=True)
class ScenarioTrials:
    """A scenario, and the seeds with which it is run."""

    checked: CheckedScenario
    seeds: Sequence[int]
    jobs: int
    keep: bool
    stop_early: bool = False

    async def run(self, target: Target, session: Session) -> tuple[list[TrialResult], list[TrialLost]]:
        """Run them all, until one is interrupted; those that gave nothing apart."""
        if target.kind == "sim" and len(self.seeds) > 1:
            return await self._beside_each_other(session)
        progress = ScenarioProgress(self.checked.plan, session)
        results: list[TrialResult] = []
        for number, seed in enumerate(self.seeds, start=1):
            progress.hear(TrialBegan(seed, number, len(self.seeds)))
            runner = ScenarioRunner(
                self.checked.plan, self._stage(target, seed), seed=seed, tell=progress.hear, clock=time.monotonic,
                keep=self.keep, skipped=self.checked.skipped, stop_early=self.stop_early,
            )  # fmt: skip
            results.append(await runner.run())
            if results[-1].interrupted:
                break
        return results, []

    async def _beside_each_other(self, session: Session) -> tuple[list[TrialResult], list[TrialLost]]:
        from p2pnet.cli.trial_worker import ScenarioJob
        from p2pnet.cli.trials import run_trials
        from p2pnet.subnet.document import to_document

        plan = self.checked.plan
        job = ScenarioJob(
            scenario=plan.scenario.model_dump(mode="json", by_alias=True, exclude_unset=True),
            document=to_document(plan.subnet), folder=str(self.checked.folder), skipped=self.checked.skipped,
            stop_early=self.stop_early,
        )  # fmt: skip
        found = await run_trials(job, self.seeds, self.jobs, session)
        if found.interrupted:
            session.note("interrupted: this is what there was")
        return found.trials, [TrialLost(one.seed, one.error) for one in found.failed]

    def _stage(self, target: Target, seed: int) -> Stage:
        """CommandError (exit 2) for a subnet that cannot be made."""
        if target.kind != "sim":
            return LiveStage(self.checked.plan.subnet, target, folder=self.checked.folder)
        from p2pnet.cli.stages.simulated import SimulatedStage

        try:
            return SimulatedStage(self.checked.plan, seed=seed, state=target.state, folder=self.checked.folder)
        except SpecError as error:  # a client that cannot be loaded, a graph that cannot be
            raise CommandError(
                str(error), where=f"Subnet {self.checked.plan.subnet.name}", next_step="correct it and try again"
            ) from None


def check_room(plan: ScenarioPlan, target: Target, *, jobs: int) -> None:
    """CommandError (exit 2) for more nodes, at the largest size of the scenario, than this machine can bear."""
    for subnet in _sizes(plan):
        if target.kind == "sim":
            check_simulated(subnet, jobs=jobs, payload_bytes=_held(plan, subnet))
        elif target.kind == "local":  # what a cluster's machines can hold, its scheduler knows
            within_s, processes = subnet.spec.ready.within.seconds, process_count(subnet)
            why = too_much(subnet.node_count, edge_count(subnet), within_s, this_machine(), processes=processes)
            if why:
                raise CommandError(
                    why,
                    where=f"Subnet {subnet.name}",
                    next_step="fewer nodes, a sparser topology, or a longer ready.within",
                )


def _held(plan: ScenarioPlan, subnet: Subnet) -> int:
    """Bytes of generated artifacts that live at a time, at least: those of the largest injection."""
    honest, most = len(honest_nodes(subnet)), 0
    for step in plan.all():
        inject = step.spec.inject
        if inject is None or inject.files:
            continue
        artifacts = artifacts_asked(
            count=inject_count(inject, honest), payloads=1, publisher=inject.from_, nodes=honest
        )
        pace = inject.rate.pace if inject.rate else None
        size = inject.size.bytes if inject.size else SIZE_DEFAULT
        with contextlib.suppress(SpecError):  # a pace that holds not so many, at the size that is not this step's
            held = held_at_once(subnet, inject.client or "", size=size, artifacts=artifacts, pace=pace)
            most = max(most, held)
    return most


def _sizes(plan: ScenarioPlan) -> list[Subnet]:
    """The document at the begin, and after each change of its size."""
    from p2pnet.scenario.targets import sized
    from p2pnet.subnet.spec import SIMULATED_NODES_MAX

    found = [plan.subnet]
    for step in plan.all():
        if step.spec.scale is not None:
            found.append(sized(found[-1], step.spec.scale.group, step.spec.scale.nodes, SIMULATED_NODES_MAX))
    return found
