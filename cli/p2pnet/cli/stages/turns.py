"""Who goes on when, in virtual time: branches of a scenario that wait, and the world, which goes on once all of them do."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any


class _Waiter:
    """A branch that waits until `due` (nanoseconds; None: however long), or until `ready` says yes."""

    __slots__ = ("due", "ready", "woken")

    def __init__(self, due: int | None, ready: Callable[[], bool] | None) -> None:
        self.due = due
        self.ready = ready
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class VirtualTurns:
    """Virtual time for coroutines of one event loop: it passes only while every branch waits in `until` or `together`.

    `advance`: lets a little time pass, to the given nanosecond at most. `now`: nanoseconds. `on_turn`: called after each
    `advance`. The order of everything depends on virtual time alone, so the same branches give the same history.
    """

    def __init__(
        self, advance: Callable[[int | None], None], now: Callable[[], int], on_turn: Callable[[], None]
    ) -> None:
        self._advance = advance
        self._now = now
        self._on_turn = on_turn
        self._awake = 1
        """Branches that do not wait."""
        self._waiting: list[_Waiter] = []
        self._passing: asyncio.Task[None] | None = None
        """What lets time pass while every branch waits."""

    async def until(self, due: int | None, ready: Callable[[], bool] | None = None) -> None:
        """Wait until this time has come, or `ready` says yes; it is asked whenever some time has passed.

        Raises what `advance` raises.
        """
        if self._is_over(due, ready):
            return
        waiter = _Waiter(due, ready)
        self._waiting.append(waiter)
        self._awake -= 1
        self._go_on()
        try:
            await waiter.woken
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._awake += 1
            raise

    async def together(self, branches: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Do these at the same time; the first that raises ends the others."""
        left = len(branches)
        self._awake += left - 1  # whoever calls this waits for them, and goes on when the last one ends

        async def work(branch: Coroutine[Any, Any, None]) -> None:
            nonlocal left
            try:
                await branch
            finally:
                left -= 1
                if left:
                    self._awake -= 1
                    self._go_on()

        tasks = [asyncio.create_task(work(branch)) for branch in branches]
        await all_or_none(tasks)

    def _go_on(self) -> None:
        """Let time pass, if everybody waits."""
        if self._awake == 0 and self._passing is None:
            self._passing = asyncio.create_task(self._pass_time())

    async def _pass_time(self) -> None:
        try:
            while self._awake == 0 and self._waiting:
                self._advance(min((one.due for one in self._waiting if one.due is not None), default=None))
                self._on_turn()
                for one in [one for one in self._waiting if self._is_over(one.due, one.ready)]:
                    self._wake(one)
                await asyncio.sleep(0)  # others may go on, and a signal be heard
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            for one in list(self._waiting):
                self._wake(one, error)
        finally:
            self._passing = None

    def _wake(self, one: _Waiter, error: Exception | None = None) -> None:
        self._waiting.remove(one)
        self._awake += 1
        if one.woken.cancelled():
            return
        if error is None:
            one.woken.set_result(None)
        else:
            one.woken.set_exception(error)

    def _is_over(self, due: int | None, ready: Callable[[], bool] | None) -> bool:
        return (due is not None and self._now() >= due) or (ready is not None and ready())


async def all_or_none(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Wait for these; the first that raises ends the others."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
