"""A simulated run as a command: simulated in a thread while progress is shown, kept as live runs are, ended by Ctrl-C."""

import asyncio
import random
import threading
import time
from dataclasses import dataclass
from functools import partial

from p2pnet.cli.session import Session
from p2pnet.cli.simulated_runs import keep
from p2pnet.cli.threads import in_daemon
from p2pnet.model.report import Report
from p2pnet.model.units import format_duration
from p2pnet.sim.recorded import Recording, simulate_recorded
from p2pnet.sim.simulate import SimLoad, SimOutcome, SimProgress, simulate
from p2pnet.store import State
from p2pnet.store.simulated import SimulatedRun
from p2pnet.subnet.spec import Subnet

REDRAW_S = 0.1


@dataclass(frozen=True, slots=True)
class Simulated:
    """How a simulated run ended."""

    report: Report
    interrupted: bool
    virtual_s: float
    wall_s: float
    not_kept: str = ""
    """Why the run could not be kept; empty: it is."""


async def simulated(
    subnet: Subnet, load: SimLoad, *, seed: int, until_s: float | None, state: State, session: Session,
    recording: Recording | None = None,
) -> Simulated:  # fmt: skip
    """Simulate a run and keep it. Ctrl-C ends it with what there is; a second one leaves nothing behind.

    `recording`: what was recorded of a live run, which happens again in the place of what the load plans.

    Raises as `simulate` does; TargetError (exit 2) when the state directory cannot take a run, before anything is simulated.
    """
    began, began_s = time.time(), time.monotonic()
    kept = SimulatedRun(state, began, random.Random())
    ended = False
    try:
        session.listener.waiting(f"{subnet.node_count} nodes to be made and linked")
        work = partial(simulate, subnet, load, seed=seed, until_s=until_s, on_events=kept.events)
        if recording is not None:
            work = partial(simulate_recorded, subnet, load, recording, seed=seed, on_events=kept.events)
        outcome = await _followed(work, session)
        wall_s = time.monotonic() - began_s
        session.listener.waiting("the run to be kept")
        report = keep(kept, outcome, load, began)
        ended = not kept.failed
        run = outcome.run
        virtual_s = (run.finished_at or 0.0) - (run.started_at or 0.0)
        return Simulated(report, outcome.interrupted, virtual_s, wall_s, kept.failed)
    finally:
        if not ended:
            kept.remove()


# --- following ---


async def _followed(work: "partial[SimOutcome]", session: Session) -> SimOutcome:
    """Show how it goes until it ends; told to stop, it ends with what there is."""
    stop, heard = threading.Event(), list[SimProgress]()

    def hear(progress: SimProgress) -> None:
        heard[:] = [progress]

    thread = asyncio.ensure_future(in_daemon(partial(work, on_progress=hear, is_stopped=stop.is_set)))
    while not thread.done():
        try:
            await asyncio.wait({thread}, timeout=REDRAW_S)
        except asyncio.CancelledError:  # Ctrl-C: the second one ends the process
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            stop.set()
        _tell(heard, session, stopping=stop.is_set())
    return thread.result()


def _tell(heard: list[SimProgress], session: Session, *, stopping: bool) -> None:
    if stopping:
        session.listener.waiting(
            "interrupted: the report of what there is; Ctrl-C again ends at once and keeps nothing"
        )
        return
    for one in heard:
        beside = f"virtual {format_duration(one.virtual_s)}"  # the seconds of the wall stand at the end of the line
        session.listener.progress("delivered", one.receipts, one.expected, beside=beside)
