"""Artifacts from stdin, pipes and devices: read to their end, within the limit, without deafness."""

import asyncio
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.session import Session
from p2pnet.cli.spooling import STDIN, STREAMS_MAX, check_sources, spooled
from p2pnet.cli.verbs import inject
from p2pnet.subnet.document import load_subnet


class Stdin(io.StringIO):
    """The standard input, with a descriptor of its own."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Puts bytes into a pipe that is our stdin, and ends it."""
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdin", Stdin(read))

    def put(data: bytes) -> None:
        def run() -> None:
            with os.fdopen(write, "wb") as file:
                file.write(data)

        threading.Thread(target=run, daemon=True).start()

    yield put
    os.close(read)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "photo.fifo")
    return tmp_path / "photo.fifo"


async def read(paths: list[Path], session: Session, bytes_max: int = 1 << 20) -> list[bytes]:
    async with spooled(check_sources(paths), bytes_max, session) as spools:
        return [spools[path].read_bytes() for path in paths]


async def test_stdin_is_published_under_the_name_stdin(
    target: Any, session: Session, piped: Callable[[bytes], None]
) -> None:
    piped(b"x" * 100_000)

    await inject.run(inject.InjectOptions(name="demo", files=(Path("-"),)), session)

    uploads, (_, request) = target.fake.asked
    assert uploads == ("upload", "stdin")
    assert [payload.name for payload in request.payloads] == ["stdin"]


async def test_a_pipe_is_published_under_its_own_name_between_files_in_their_order(
    target: Any, session: Session, fifo: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    threading.Thread(target=fifo.write_bytes, args=(b"late",), daemon=True).start()

    await inject.run(inject.InjectOptions(name="demo", files=(tmp_path / "a.bin", fifo, tmp_path / "a.bin")), session)

    assert [name for kind, name in target.fake.asked if kind == "upload"] == ["a.bin", "photo.fifo", "a.bin"]


async def test_all_bytes_are_read_and_the_spool_is_gone_afterwards(
    session: Session, fifo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = os.urandom(1_000_000)
    threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True).start()

    assert await read([fifo], session) == [data]
    assert [one.name for one in tmp_path.iterdir() if one.name != "state"] == ["photo.fifo"]


async def test_a_pipe_that_nobody_writes_to_is_waited_for_and_can_be_interrupted(session: Session, fifo: Path) -> None:
    reading = asyncio.create_task(read([fifo], session))
    await asyncio.sleep(0.05)
    assert not reading.done()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_what_is_larger_than_an_artifact_may_be_is_refused_before_it_is_read_whole(session: Session) -> None:
    with pytest.raises(CommandError, match=r"/dev/zero is more than 1024 bytes \(1 KiB\)") as caught:
        await read([Path("/dev/zero")], session, 1024)
    assert caught.value.exit_code == 2


async def test_the_limit_is_that_of_the_subnet(target: Any, session: Session, piped: Callable[[bytes], None]) -> None:
    target.fake.subnet = load_subnet(
        {
            "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"},
            "spec": {"broadcast": {"artifactBytesMax": "1KiB"}},
        }
    )  # fmt: skip
    piped(b"x" * 1025)
    with pytest.raises(CommandError, match=r"stdin is more than 1024 bytes .* spec\.broadcast\.artifactBytesMax"):
        await inject.run(inject.InjectOptions(name="demo", files=(STDIN,)), session)
    assert target.fake.asked == []


async def test_an_empty_stdin_and_an_empty_device_are_refused(session: Session, piped: Callable[[bytes], None]) -> None:
    piped(b"")
    for path, label in ((STDIN, "stdin"), (Path("/dev/null"), "/dev/null")):
        with pytest.raises(CommandError, match=f"{label} is empty") as caught:
            await read([path], session)
        assert caught.value.exit_code == 2


def test_a_terminal_is_no_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    try:
        stdin = Stdin(theirs)
        stdin.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(CommandError, match="stdin is a terminal") as caught:
            check_sources([STDIN])
        assert caught.value.exit_code == 2
    finally:
        os.close(ours)
        os.close(theirs)


async def test_a_terminal_by_its_name_is_none_either(session: Session) -> None:
    ours, theirs = os.openpty()
    try:
        with pytest.raises(CommandError, match="is a terminal"):
            await read([Path(os.ttyname(theirs))], session)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_stream_can_be_named_once_and_there_is_an_end_to_them(
    fifo: Path, tmp_path: Path, piped: Callable[[bytes], None]
) -> None:
    piped(b"")
    with pytest.raises(CommandError, match="named twice"):
        check_sources([STDIN, fifo, STDIN])
    many = [tmp_path / f"{index}.fifo" for index in range(STREAMS_MAX + 1)]
    for path in many:
        os.mkfifo(path)
    with pytest.raises(CommandError, match="more than a run takes"):
        check_sources(many)


async def test_a_file_that_hides_its_size_is_read_all_the_same(session: Session) -> None:
    [text] = await read([Path("/proc/self/status")], session)
    assert text.startswith(b"Name:")


async def test_stdin_from_a_file_is_read_too(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(descriptor: int, *_: Any) -> None:
        raise AssertionError(f"{descriptor} is waited for: kqueue tells nothing of a file at its end")

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", never)
    (tmp_path / "a.bin").write_bytes(b"abc")
    descriptor = os.open(tmp_path / "a.bin", os.O_RDONLY)
    try:
        monkeypatch.setattr(sys, "stdin", Stdin(descriptor))
        assert await read([STDIN], session) == [b"abc"]
    finally:
        os.close(descriptor)


async def test_a_full_disk_names_the_place_and_the_setting(
    session: Session, fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", *more: Any, **known: Any) -> Any:
        if mode == "wb":
            raise OSError(28, "No space left on device", str(path))
        return real(path, mode, *more, **known)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CommandError, match="No space left on device") as caught:
        await read([fifo], session)
    assert "TMPDIR" in caught.value.next_step
