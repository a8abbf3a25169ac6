"""Many seeds: the same simulated run, or scenario, once with each, in processes beside each other."""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from p2pnet.cli import load
from p2pnet.cli.session import Session
from p2pnet.cli.targets.lab_process import environment
from p2pnet.cli.trial_worker import ANSWER_BYTES_MAX, ScenarioJob, TrialAnswer, TrialJob
from p2pnet.measure.pace import asked_rate
from p2pnet.model.errors import SpecError
from p2pnet.model.report import Report
from p2pnet.model.text import signal_name
from p2pnet.model.trials import TrialFailure
from p2pnet.scenario.trial import TrialResult

if TYPE_CHECKING:
    from p2pnet.subnet.spec import Subnet

REDRAW_S = 0.2
WORDS_MAX = 2_000  # characters of what a process said before it ended
_answers = msgspec.json.Decoder(TrialAnswer)


@dataclass(slots=True)
class TrialResults:
    """What trials gave."""

    reports: list[Report] = field(default_factory=list)
    trials: list[TrialResult] = field(default_factory=list)
    """What trials of a scenario gave."""
    failed: list[TrialFailure] = field(default_factory=list)
    interrupted: bool = False


def job_of(
    options: load.LoadOptions,
    subnet: "Subnet",
    client: str,
    spools: Mapping[Path, Path],
    *,
    honest: int,
    until_s: float | None = None,
) -> TrialJob:
    """The load for processes of their own, which read the files themselves.

    `honest`: how many nodes are no adversaries; `spools`: where streams were read to.
    """
    from p2pnet.subnet.document import to_document

    files = [(load.artifact_name(path), 0, str(spools.get(path, path).absolute())) for path in options.files or ()]
    generated = load.generated_payload(options)
    return TrialJob(
        document=to_document(subnet), payloads=files or [(generated.name, generated.size, "")], count=load.count(options, honest),
        rate_per_s=asked_rate(options.rate), sender=options.publisher, within_s=options.within_s or load.WITHIN_S,
        expectations=list(options.expect or ()), client=client, until_s=until_s,
        stop_early=options.stop_early,
    )  # fmt: skip


async def run_trials(
    job: TrialJob | ScenarioJob,
    seeds: Sequence[int],
    jobs: int,
    session: Session,
    *,
    python_path: Sequence[Path] = (),
    what: str = "trials",
) -> TrialResults:
    """Simulate a trial with each seed, at most `jobs` at a time. Ctrl-C ends those under way; the others count.

    `python_path`: folders whose modules go before those of this program; `what`: how progress calls them.

    When this returns no process is left. The results do not depend on `jobs`. Raises SpecError for what no trial can take.
    """
    results, waiting, under_way = TrialResults(), deque(seeds), dict[int, TrialAnswer]()
    workers = [
        asyncio.create_task(_Worker(job, results, waiting, under_way, python_path).work(), name=f"trials {number}")
        for number in range(min(jobs, len(seeds)))
    ]
    try:
        left = set(workers)
        while left:
            _, left = await asyncio.wait(left, timeout=REDRAW_S)
            _tell(what, len(seeds), results, under_way, session)
            for worker in workers:
                if worker.done():
                    worker.result()
    except asyncio.CancelledError:  # Ctrl-C
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        results.interrupted = True
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return results


def _tell(what: str, asked: int, results: TrialResults, under_way: dict[int, TrialAnswer], session: Session) -> None:
    done = len(results.reports) + len(results.trials) + len(results.failed)
    shares = [one.receipts / one.expected for one in under_way.values() if one.expected]
    beside = f"under way {len(under_way)}, {sum(shares) / len(shares):.0%} of them done" if shares else ""
    session.listener.progress(what, done, asked, beside=beside)


class _Worker:
    """One process that simulates, while there are seeds. It is killed when the task that runs `work` ends."""

    def __init__(
        self, job: TrialJob | ScenarioJob, results: TrialResults, waiting: deque[int], under_way: dict[int, TrialAnswer],
        python_path: Sequence[Path],
    ) -> None:  # fmt: skip
        self._job = job
        self._results = results
        self._waiting = waiting
        self._under_way = under_way
        self._environment = environment(python_path)

    async def work(self) -> None:
        """Until no seed is left. A process that dies costs the trial it was at, and is followed by another."""
        while self._waiting:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "p2pnet.cli.trial_worker", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=ANSWER_BYTES_MAX,
                start_new_session=True, cwd="/", env=self._environment,
            )  # fmt: skip
            said = asyncio.create_task(_last_words(process.stderr))
            try:
                await self._ask(process, said)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
                said.cancel()

    async def _ask(self, process: asyncio.subprocess.Process, said: "asyncio.Task[str]") -> None:
        assert process.stdin is not None  # noqa: S101 - it is a pipe, as asked for
        assert process.stdout is not None  # noqa: S101 - the same
        first = msgspec.json.encode(self._job) + b"\n"
        while self._waiting:
            seed = self._waiting.popleft()
            self._under_way[seed] = TrialAnswer(seed=seed)
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is told by what it answers
                    process.stdin.write(first + f"{seed}\n".encode())
                    await process.stdin.drain()
                first = b""
                answered = await self._answered(process.stdout, seed)
            finally:
                del self._under_way[seed]
            if not answered:
                self._results.failed.append(TrialFailure(seed, await _death(process, said)))
                return

    async def _answered(self, stream: asyncio.StreamReader, seed: int) -> bool:
        """Wait for the end of a trial; whether it was told."""
        while line := await stream.readline():
            answer = _answers.decode(line)
            if answer.report is not None:
                self._results.reports.append(answer.report)
            elif answer.trial is not None:
                self._results.trials.append(answer.trial)
            elif answer.is_spec:
                raise SpecError(answer.error)
            elif answer.error:
                self._results.failed.append(TrialFailure(seed, answer.error))
            else:
                self._under_way[seed] = answer
                continue
            return True
        return False


async def _last_words(stream: asyncio.StreamReader | None) -> str:
    """The end of what a process says on stderr, which must be read for it not to stop."""
    said = ""
    while stream is not None and (block := await stream.read(WORDS_MAX)):
        said = (said + block.decode("utf-8", "replace"))[-WORDS_MAX:]
    return said


async def _death(process: asyncio.subprocess.Process, said: "asyncio.Task[str]") -> str:
    """Why a process ended that should not have."""
    code = await process.wait()
    how = f"was killed ({signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
    words = (await said).strip().splitlines()
    return f"its process {how}" + (f": {words[-1]}" if words else "")
