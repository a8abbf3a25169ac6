"""What has no end of its own ends when nobody reads it any more."""

import asyncio
import os
import select
from pathlib import Path
from typing import TextIO

import pytest
from tests.patience import PATIENCE_S

from p2pnet.cli.interaction import is_gone, while_read


async def _wait(stream: TextIO) -> None:
    async with asyncio.timeout(PATIENCE_S), while_read(stream):
        await asyncio.Event().wait()


async def test_a_wait_ends_when_the_last_reader_of_a_pipe_goes() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            await _wait(stream)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_wait_goes_on_while_somebody_reads() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader):
        async with while_read(stream):
            await asyncio.sleep(0)
        assert not is_gone(stream)


async def test_a_cancelled_wait_stays_cancelled() -> None:
    with Path(os.devnull).open("w") as stream:
        task = asyncio.create_task(_wait(stream))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_a_file_always_has_a_reader(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        assert not is_gone(stream)


def test_a_terminal_is_not_asked_for_macos_calls_it_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poll:
        def register(self, *_: int) -> None: ...

        def poll(self, _timeout: int) -> list[tuple[int, int]]:
            return [(1, select.POLLNVAL)]

    monkeypatch.setattr(select, "poll", Poll)
    leader, terminal = os.openpty()
    with os.fdopen(leader), os.fdopen(terminal, "w") as stream:
        assert not is_gone(stream)
