"""Virtual time passes only while every branch waits, and gives the same history for the same branches."""

import asyncio

import pytest

from p2pnet.cli.stages.turns import VirtualTurns


class Clock:
    """Time that passes in steps of at most 10, and remembers them."""

    def __init__(self) -> None:
        self.now = 0
        self.limits: list[int | None] = []
        self.error: Exception | None = None

    def advance(self, limit: int | None) -> None:
        if self.error is not None:
            raise self.error
        self.limits.append(limit)
        self.now = self.now + 10 if limit is None else min(limit, self.now + 10)


def turns_of(clock: Clock) -> VirtualTurns:
    return VirtualTurns(clock.advance, lambda: clock.now, lambda: None)


async def test_a_wait_ends_at_its_time_to_the_point():
    clock = Clock()
    turns = turns_of(clock)
    await turns.until(25)
    assert (clock.now, clock.limits) == (25, [25, 25, 25])
    await turns.until(25)
    assert clock.now == 25


async def test_a_condition_is_asked_whenever_time_has_passed():
    clock = Clock()
    turns = turns_of(clock)
    await turns.until(None, lambda: clock.now >= 35)
    assert clock.now == 40


async def test_branches_wait_beside_each_other_and_go_on_in_the_order_of_their_times():
    clock, said = Clock(), list[tuple[str, int]]()
    turns = turns_of(clock)

    async def branch(name: str, *times: int) -> None:
        for at in times:
            await turns.until(at)
            said.append((name, clock.now))

    await turns.together([branch("a", 5, 30), branch("b", 7, 8, 30), branch("c")])
    assert said == [("a", 5), ("b", 7), ("b", 8), ("a", 30), ("b", 30)]
    await turns.until(31)
    assert clock.now == 31


async def test_time_stands_while_a_branch_does_something_else():
    clock = Clock()
    turns = turns_of(clock)
    seen: list[int] = []

    async def busy() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            seen.append(clock.now)

    await turns.together([turns.until(10), busy()])
    assert seen == [0] * 5
    assert clock.now == 10


async def test_groups_may_stand_in_groups():
    clock = Clock()
    turns = turns_of(clock)

    async def inner() -> None:
        await turns.together([turns.until(3), turns.until(12)])
        await turns.until(15)

    await turns.together([inner(), turns.until(40)])
    assert clock.now == 40


async def test_what_goes_wrong_with_time_is_raised_where_somebody_waits():
    clock = Clock()
    turns = turns_of(clock)
    clock.error = ValueError("no more")
    with pytest.raises(ValueError, match="no more"):
        await turns.together([turns.until(10), turns.until(20)])


async def test_a_branch_that_raises_ends_the_others():
    clock, ended = Clock(), list[str]()
    turns = turns_of(clock)

    async def waits() -> None:
        try:
            await turns.until(1000)
        finally:
            ended.append("waits")

    async def raises() -> None:
        await turns.until(5)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await turns.together([waits(), raises()])
    assert ended == ["waits"]
    await turns.until(clock.now + 5)


async def test_who_is_cancelled_waits_no_more_and_time_stands():
    clock = Clock()
    turns = turns_of(clock)
    task = asyncio.ensure_future(turns.until(10_000_000))
    while clock.now < 100:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    now = clock.now
    for _ in range(5):
        await asyncio.sleep(0)
    assert clock.now == now
    await turns.until(now + 3)
    assert clock.now == now + 3
