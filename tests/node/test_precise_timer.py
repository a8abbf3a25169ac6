"""A node's timer rings at its time and no earlier, once per setting, and never when it is cleared."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from tests.patience import PATIENCE_S

from p2pnet.node import precise_timer
from p2pnet.node.precise_timer import KernelTimer, LoopTimer, PreciseTimer, make_timer
from p2pnet.peering.clock import mono_ns

MS = 1_000_000
EARLY_NS = {KernelTimer: 0, LoopTimer: 2 * MS}
"""A loop may ring early: uvloop rounds to milliseconds, of a time it read at the start of the turn."""


def kernel(ring: Callable[[], None]) -> PreciseTimer:
    if sys.platform != "linux":
        pytest.skip("a timerfd is Linux's")
    return KernelTimer(asyncio.get_running_loop(), ring)


def of_loop(ring: Callable[[], None]) -> PreciseTimer:
    return LoopTimer(asyncio.get_running_loop(), ring, mono_ns)


@pytest.fixture(params=[kernel, of_loop])
def make(request: pytest.FixtureRequest) -> Callable[[Callable[[], None]], PreciseTimer]:
    return request.param


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def in_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return in_loop


Make = Callable[[Callable[[], None]], PreciseTimer]
Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


def test_it_rings_at_its_time(make: Make, run: Run) -> None:
    async def main() -> None:
        late: list[int] = []
        done = asyncio.Event()
        due = 0

        def ring() -> None:
            nonlocal due
            late.append(mono_ns() - due)
            # The earliest of as many as it takes: whatever else the machine does makes a ring later, never earlier.
            if len(late) >= 40 and (isinstance(timer, LoopTimer) or min(late) < MS / 2):
                timer.clear()
                done.set()
            else:
                due = mono_ns() + 2 * MS
                timer.set(due)

        timer = make(ring)
        due = mono_ns() + 2 * MS
        timer.set(due)
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        assert min(late) >= -EARLY_NS[type(timer)]
        timer.close()

    run(main)


async def so_many(rang: list[int], count: int) -> None:
    """Until it has rung so often, and a moment longer."""
    async with asyncio.timeout(PATIENCE_S):
        while len(rang) < count:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert len(rang) == count


def test_a_time_that_has_passed_rings_at_once(make: Make, run: Run) -> None:
    async def main() -> None:
        rang: list[int] = []

        def ring() -> None:
            rang.append(mono_ns())
            timer.clear()

        timer = make(ring)
        for number, at_ns in enumerate((mono_ns() - MS, 0), 1):
            timer.set(at_ns)
            await so_many(rang, number)
        timer.close()

    run(main)


def test_only_the_last_setting_counts_and_a_cleared_one_never_rings(make: Make, run: Run) -> None:
    async def main() -> None:
        rang: list[int] = []

        def ring() -> None:
            rang.append(mono_ns())
            timer.clear()

        timer = make(ring)
        started = mono_ns()
        timer.set(started + 5 * MS)
        timer.set(started + 60 * MS)
        timer.set(started + 40 * MS)
        await so_many(rang, 1)
        assert rang[0] - started >= 38 * MS
        timer.set(mono_ns() + 5 * MS)
        timer.clear()
        timer.clear()
        await asyncio.sleep(0.03)
        timer.set(mono_ns() + 5 * MS)
        timer.close()
        timer.close()
        timer.clear()
        await asyncio.sleep(0.03)
        assert len(rang) == 1

    run(main)


async def test_without_a_timerfd_the_loop_s_timer_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise OSError("no descriptor left")

    monkeypatch.setattr(precise_timer, "_create", fail)
    rang = asyncio.Event()
    timer = make_timer(rang.set)
    assert isinstance(timer, LoopTimer)
    timer.set(mono_ns() + MS)
    await asyncio.wait_for(rang.wait(), PATIENCE_S)


@pytest.mark.skipif(sys.platform != "linux", reason="a timerfd is Linux's")
async def test_on_linux_a_node_has_the_kernel_s_timer() -> None:
    timer = make_timer(lambda: None)
    assert isinstance(timer, KernelTimer)
    timer.close()
