"""Dials take turns while the loop is late."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.peering import pacing
from p2pnet.peering.clock import NS
from p2pnet.peering.pacing import Pacer, Rate
from p2pnet.quic.memory import run_virtual


async def begun(pacer: Pacer, dials: int) -> tuple[list[int], list[asyncio.Task[None]]]:
    """Ask for so many turns; the list of those that were had grows."""
    had: list[int] = []

    async def dial(number: int) -> None:
        await pacer.turn()
        had.append(number)

    tasks = [asyncio.create_task(dial(number)) for number in range(dials)]
    await asyncio.sleep(0)
    return had, tasks


async def test_a_loop_in_time_begins_a_few_and_more_at_every_probe() -> None:
    had, tasks = await begun(Pacer(), 12)
    assert had == [0, 1]
    await asyncio.gather(*tasks)
    assert had == list(range(12))


def test_a_late_loop_has_one_dial_in_progress_and_begins_the_next_when_that_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(pacing, "LAG_MAX_S", -1.0)
        pacer = Pacer()
        had, tasks = await begun(pacer, 5)
        counts = []
        for _ in range(4):
            await asyncio.sleep(5 * pacing.PROBE_S)
            counts.append(len(had))
            pacer.done()
        assert counts == [2, 2, 3, 4]  # two were begun before the loop was known to be late
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(scenario())


def test_one_that_hangs_does_not_hold_up_the_rest_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(pacing, "LAG_MAX_S", -1.0)
        monkeypatch.setattr(pacing, "STARVED_S", 0.05)
        loop = asyncio.get_running_loop()
        had, tasks = await begun(Pacer(), 6)
        await asyncio.gather(*tasks)
        assert had == list(range(6))
        assert 2 * 0.05 <= loop.time() < 6 * 0.05

    run_virtual(scenario())


def test_more_nodes_on_a_late_loop_have_more_dials_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(pacing, "LAG_MAX_S", -1.0)
        pacer = Pacer()
        for _ in range(5 * pacing.NODES_PER_DIAL):
            pacer.join()
        had, tasks = await begun(pacer, 20)
        await asyncio.sleep(5 * pacing.PROBE_S)
        assert len(had) == 6
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(scenario())


async def test_a_wait_that_is_cancelled_gives_its_turn_to_the_next() -> None:
    pacer = Pacer()
    had, tasks = await begun(pacer, 6)
    for task in tasks[3:5]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert had == [0, 1, 2, 5]


@given(st.lists(st.integers(0, NS // 2), max_size=60), st.integers(1, 50), st.integers(1, 10))
def test_a_rate_gives_its_burst_and_then_its_pace(steps: list[int], per_s: int, burst: int) -> None:
    rate, now, taken = Rate(per_s, burst), 0, 0
    for step in steps:
        now += step
        due = rate.due_ns(now)
        if rate.take(now):
            assert due == now
            taken += 1
        else:
            assert due > now
            assert rate.due_ns(due) == due
    assert taken <= burst + now / NS * per_s + 1
