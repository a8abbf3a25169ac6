"""Two versions as live subnets beside each other: started once each, measured in turn, taken down at the end whatever happens."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from p2pnet.cli.busy import BusyWatch
from p2pnet.cli.capacity import this_machine, too_much
from p2pnet.cli.comparing import Paired, pair_up, starved, windows_overlap
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.session import Session
from p2pnet.cli.stages.live import LiveStage
from p2pnet.cli.targets.target import Target
from p2pnet.cli.trials import TrialResults
from p2pnet.measure import comparison
from p2pnet.measure.comparison import SideName
from p2pnet.measure.gates import ChangeGate
from p2pnet.model.comparison import PairLost
from p2pnet.model.errors import P2pnetError
from p2pnet.model.report import Report
from p2pnet.scenario.document import renamed
from p2pnet.scenario.stage import ProgressSink, RunAsk
from p2pnet.subnet.document import nodes_max_of
from p2pnet.subnet.members import edge_count, process_count
from p2pnet.subnet.spec import Subnet

NAME_CHARS_MAX = 40  # of a subnet
TAG_BYTES = 2
SIDES: tuple[SideName, ...] = get_args(SideName)
NO_FILES = Path()
WARNED_MAX = 4  # processes that waited for a core


@dataclass(frozen=True, slots=True)
class LiveContender:
    """One side: a subnet under a name of its own, where it is started, and what is published in it."""

    subnet: Subnet
    target: Target
    ask: RunAsk
    """The run of each trial, without its seed."""


def own_names(names: Sequence[str]) -> list[str]:
    """Names for the subnets of both sides that no other subnet has, and that tell whose they are: `demo-base-3f2a`."""
    tag = secrets.token_hex(TAG_BYTES)
    ends = [f"-{side}-{tag}" for side in SIDES]
    return [name[: NAME_CHARS_MAX - len(end)].rstrip("-") + end for name, end in zip(names, ends, strict=True)]


def check_room(subnets: Sequence[Subnet]) -> None:
    """CommandError (exit 2) for two subnets that this machine cannot bear beside each other."""
    nodes, edges = (sum(map(of, subnets)) for of in (lambda one: one.node_count, edge_count))
    within_s = min(subnet.spec.ready.within.seconds for subnet in subnets)
    why = too_much(nodes, edges, within_s, this_machine(), processes=sum(map(process_count, subnets)))
    if why:
        raise CommandError(
            f"both together: {why}", where=", ".join(subnet.name for subnet in subnets),
            next_step="fewer nodes, a sparser topology, or --on sim",
        )  # fmt: skip


def under_name(subnet: Subnet, name: str, target: str) -> Subnet:
    """The same document under another name."""
    return renamed(subnet, name, nodes_max=nodes_max_of(target))


class LiveTrials:
    """Paired trials of two live subnets. Only one of them is measured at a time, in the order A B B A."""

    def __init__(self, base: LiveContender, head: LiveContender, gates: Sequence[ChangeGate], session: Session) -> None:
        self._sides: dict[SideName, LiveContender] = {"base": base, "head": head}
        self._stages = {side: LiveStage(one.subnet, one.target, folder=NO_FILES) for side, one in self._sides.items()}
        self._gates = gates
        self._session = session
        self._busy = BusyWatch()
        self._warnings: dict[str, None] = {}

    async def run(self, *, seed: int, most: int) -> Paired:
        """From the start of both to their end. Raises what keeps them from starting; when it returns, or raises, both are gone.

        Cancelled once, it ends with what there is. While both are taken down one more order to end changes nothing: a CI that
        cancels a job sends two signals, some seconds apart.
        """
        done = Paired(warnings=self._others_up())
        try:
            for side in SIDES:
                await self._up(side)
            for (
                side
            ) in SIDES:  # what is cold, and connections that have carried nothing yet, would count for who is first
                await self._stages[side].inject(
                    replace(self._sides[side].ask, count=1, seed=seed), self._progress(f"{side.upper()} warms up")
                )
            await self._pairs(done, seed=seed, most=most)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            done.interrupted = True
            done.gates = comparison.judge(done.pairs, self._gates, most=most)
        finally:
            await self._surely_down()
        done.machine = self._busy.seen() if self._sides["base"].target.kind == "local" else None
        done.warnings += self._warnings
        return done

    async def _up(self, side: SideName) -> None:
        """CommandError with the target's own exit code where it does not start."""
        name = self._sides[side].subnet.name
        try:
            await self._stages[side].up(self._progress(f"{side.upper()} {name}"))
        except P2pnetError as error:
            raise CommandError(
                f"{side.upper()} did not start: {error}", where=f"Subnet {name}",
                next_step=getattr(error, "hint", "") or "start it by itself with p2pnet up, and see what it lacks",
                exit_code=getattr(error, "exit_code", ExitCode.NOT_READY),
            ) from error  # fmt: skip

    async def _pairs(self, done: Paired, *, seed: int, most: int) -> None:
        measured = 0
        for look in comparison.looks(most):
            for number in range(measured, look):
                await self._pair(done, number, seed + number, most)
                if done.lost:
                    break
            measured = look
            done.gates = comparison.judge(done.pairs, self._gates, most=most)
            if done.lost or comparison.is_decided(done.gates):
                return

    async def _pair(self, done: Paired, number: int, seed: int, most: int) -> None:
        """One trial of each, the one after the other: who is first takes turns, so that a drift hits both alike."""
        results = {side: TrialResults() for side in SIDES}
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            what = f"{side.upper()} trial {number + 1} of {most} at most"
            try:
                with self._busy.trial():
                    report = await self._stages[side].inject(
                        replace(self._sides[side].ask, seed=seed), self._progress(what)
                    )
            except P2pnetError as error:
                done.lost.append(PairLost(side, seed, str(error)))
                return
            results[side].reports.append(report)
            self._look_at(report)
        pair_up(results["base"], results["head"], done)
        base, head = (results[side].reports[0] for side in SIDES)
        if windows_overlap(base, head):
            self._warnings["two trials went on at the same time: each took the machine from the other"] = None

    def _look_at(self, report: Report) -> None:
        for one in starved(report):
            if len(self._warnings) < WARNED_MAX:
                self._warnings[f"the machine was busy during {report.run}: {one}"] = None

    def _others_up(self) -> list[str]:
        """Other subnets on this machine take it from both."""
        target = self._sides["base"].target
        if target.kind != "local":
            return []
        names = [name for name in target.names() if target.presence(name) == "up"]
        return [f"other subnets are up on this machine: {', '.join(names)}"] if names else []

    async def _surely_down(self) -> None:
        down = asyncio.create_task(self._down(), name="both subnets down")
        try:
            await asyncio.shield(down)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            await down

    async def _down(self) -> None:
        for side, stage in self._stages.items():
            self._session.listener.waiting(f"{self._sides[side].subnet.name} to be taken down")
            try:
                await stage.down()
                if self._sides[side].target.kind == "local":
                    self._sides[side].target.state.subnet(self._sides[side].subnet.name).forget()
            except P2pnetError as error:  # the other one, and what was measured, are not lost for that
                self._session.note(f"{self._sides[side].subnet.name} may be left: {error}")

    def _progress(self, what: str) -> ProgressSink:
        def tell(text: str, done: int, total: int) -> None:
            if total:
                self._session.listener.progress(f"{what}: {text}", done, total)
            else:
                self._session.listener.waiting(f"{what}: {text}")

        return tell
