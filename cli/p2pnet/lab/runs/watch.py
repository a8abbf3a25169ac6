"""One run and its network: measured before the first injection, throughout, and at the end; and the run's time series."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from p2pnet.lab.network.canary import Canary
from p2pnet.lab.network.sampler import RunSampler
from p2pnet.lab.runs.run import Run
from p2pnet.measure.canary import STARVED, LinkSeen, Selectors, problems_of, rows_of, unmeasured_rules
from p2pnet.model.report import NetworkRow, Report

LOOK_S = 10.0  # between two looks while a run goes on
RECENT_S = 60.0  # also judged by itself: what holds no more would long be hidden by what was measured before
PAST_MAX = 100  # changes of the network between two looks
LAST_S = 3.0  # at the end, for probes that are on their way
AGAIN_S = 2.0  # before a machine that was too busy is tried again
SHORT_S = 2.0  # a run that took no longer since its network was measured waits for none
WAITING_FOR = "measuring the network"


class RunWatch:
    """Watches the network of one run. A rule that is not in force makes the run invalid; before the injection it ends it."""

    def __init__(self, canary: Canary, sampler: RunSampler, run: Run) -> None:
        self._canary = canary
        self._sampler = sampler
        self._run = run
        self._since_ns = self._measured_ns = 0
        self._rows: dict[tuple[str, bool], NetworkRow] = {}
        """By rule, and whether of its worst link; of rules that were out of tolerance as they were then."""
        self._past: list[tuple[list[LinkSeen], Mapping[str, Selectors]]] = []
        """What was seen of the network before it changed, not judged yet."""
        self._sampling: asyncio.Task[None] | None = None
        self._watching = False

    async def before(self) -> None:
        """Measure the network, as far as there is one, and judge it."""
        self._sampling = asyncio.create_task(self._sampler.poll_forever(), name=f"samples of {self._run.id}")
        self._watching = True
        self._canary.watch(self._changing)
        if self._canary.shapes:
            self._run.waiting_for = WAITING_FOR
            self._run.touch()
        self._since_ns = await self._canary.measure()
        await self._sampler.poll()
        if await self._is_starved():
            # For now the machine is too busy to tell; a network that is not in force is not when it is idle again either.
            await asyncio.sleep(AGAIN_S)
            self._since_ns = await self._canary.measure(fresh_s=0.0)
            await self._sampler.poll()
        await self._look(stop=True)
        self._measured_ns = self._canary.now_ns

    async def throughout(self) -> None:
        """Judge again and again. A run that is found to be invalid goes on: what it does may tell why."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look(stop=False)

    async def after(self) -> None:
        """Judge what was measured to the end, and end the time series."""
        if not self._watching:
            return
        try:
            if self._canary.shapes and self._canary.now_ns > self._measured_ns + int(SHORT_S * 1e9):
                await self._canary.come_in(LAST_S)
            await self._look(stop=False)
            self._say_unmeasured()
            await self._sampler.poll()
        finally:
            self.close()

    def close(self) -> None:
        """Watch no more. Idempotent."""
        if self._watching:
            self._watching = False
            self._canary.unwatch(self._changing)
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
            self._sampler.close()
            self._run.notes += self._sampler.notes

    def completed(self, report: Report) -> Report:
        """The report with what was seen of the network, and with what stands out in the time series."""
        return msgspec.structs.replace(
            report, network=list(self._rows.values()), findings=self._sampler.series.findings(report.per_node)
        )

    async def _is_starved(self) -> bool:
        """Whether rules are not as asked, and starved processes explain all of it."""
        problems = problems_of(await self._canary.look(self._since_ns, self._sampler.longest_lag_s()))
        return bool(problems) and all(STARVED in problem for problem in problems)

    async def _look(self, *, stop: bool) -> None:
        lag_s = self._sampler.longest_lag_s()
        past, self._past = self._past, []
        for seen, rules in past:
            self._take(await asyncio.to_thread(rows_of, seen, rules, lag_s), stop=stop)
        rows = await self._canary.look(self._since_ns, lag_s)
        self._canary.told(rows)
        self._take(rows, stop=stop)
        recent_ns = max(self._since_ns, self._canary.now_ns - int(RECENT_S * 1e9))
        self._take(await self._canary.look(recent_ns, lag_s, failed_only=True), stop=stop)

    def _take(self, rows: Iterable[NetworkRow], *, stop: bool) -> None:
        """Note these rows; what failed once stays failed, and what was measured is not replaced by what was not."""
        for row in rows:
            key = (row.rule, row.worst)
            known = self._rows.get(key)
            if known is not None and (not known.ok or (row.ok and row.links == 0 < known.links)):
                continue
            self._rows[key] = row
            for problem in problems_of([row]):
                self._run.invalidate(problem, stop=stop)

    def _changing(self, seen: list[LinkSeen], rules: Mapping[str, Selectors]) -> None:
        """The network changes: what was seen of it until now is judged at the next look."""
        since = [replace(one, trains=[train for train in one.trains if train.at_ns >= self._since_ns]) for one in seen]
        if self._since_ns and len(self._past) < PAST_MAX:
            self._past.append((since, rules))

    def _say_unmeasured(self) -> None:
        """A rule of which nothing was seen makes the run invalid if there was a link to see it on."""
        for rule in unmeasured_rules(self._rows.values()):
            why = self._canary.why_unmeasured(rule)
            if why is None:
                self._run.invalidate(f"network rule {rule} was not measured: no probe came back in time", stop=False)
            else:
                self._run.notes.append(f"network rule {rule} was not measured: {why}")
