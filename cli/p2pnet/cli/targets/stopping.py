"""A lab's process brought to its end: by its own route, else by signals."""

import asyncio
import contextlib
import os
import signal
import time

from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.store.state import LabRecord

STOP_WAIT_S = 20.0  # nodes drain up to 10 s, the lab waits for them
TERM_WAIT_S = 12.0
POLL_S = 0.05


async def stop(record: LabRecord) -> None:
    """Ask it, then tell it, then force it; returns when it is gone or nothing more can be done."""
    _signal(record, signal.SIGCONT)  # a stopped process hears nothing else
    try:
        async with LabClient.unix(record.socket) as desk:
            await asyncio.wait_for(desk.stop(), STOP_WAIT_S)
    except (TargetError, ProblemError, TimeoutError):
        if record.foreign:
            return  # no signal of ours reaches it
    for stop_signal, patience in ((None, STOP_WAIT_S), (signal.SIGTERM, TERM_WAIT_S), (signal.SIGKILL, TERM_WAIT_S)):
        if stop_signal is not None:
            _signal(record, stop_signal)
        if await gone(record, patience):
            return


def _signal(record: LabRecord, number: signal.Signals) -> None:
    if record.alive and not record.foreign:  # pid and start time: never a stranger's process
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


async def gone(record: LabRecord, patience_s: float) -> bool:
    """Whether it ends within so many seconds."""
    deadline = time.monotonic() + patience_s
    while record.alive:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True
