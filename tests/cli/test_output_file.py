"""Files that a person named: whole or not at all where they are files, written through everywhere else."""

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.output_file import OutputFile, descriptor_of, is_replaced


async def write(path: Path, data: bytes = b"new") -> None:
    async with OutputFile(path) as file:
        await file.write(data)


async def _fail_halfway(path: Path) -> None:
    async with OutputFile(path) as file:
        await file.write(b"half")
        raise ZeroDivisionError


async def test_a_new_file_has_the_mode_that_any_program_would_give_it(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        await write(tmp_path / "new")
    finally:
        os.umask(mask)
    assert (tmp_path / "new").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


async def test_a_file_that_stands_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old and longer")
    path.chmod(0o600)
    await write(path)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
async def test_a_file_that_stands_there_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    await write(path)
    assert (path.read_bytes(), path.stat().st_uid, path.stat().st_gid) == (b"new", 1234, 2345)


async def test_a_failure_leaves_what_stood_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        await _fail_halfway(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
async def test_a_link_stays_a_link_and_its_file_gets_the_bytes(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    await write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


async def test_a_device_is_written_to_and_stays_one() -> None:
    before = Path(os.devnull).stat()
    await write(Path(os.devnull))
    after = Path(os.devnull).stat()
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_rdev, after.st_mode) == (before.st_rdev, before.st_mode)


async def test_a_fifo_waits_for_its_reader_and_for_room(tmp_path: Path) -> None:
    path, data = tmp_path / "fifo", os.urandom(300_000)
    os.mkfifo(path)
    writing = asyncio.create_task(write(path, data))
    read = await asyncio.to_thread(path.read_bytes)
    await writing
    assert read == data
    assert path.is_fifo()


async def test_waiting_for_a_reader_that_never_comes_can_be_interrupted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(write(tmp_path / "fifo"), 0.05)


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
async def test_a_descriptor_is_the_one_that_is_open_here(name: str) -> None:
    reader, writer = os.pipe()
    try:
        await write(Path(name.format(writer)))
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_file_in_a_directory_that_takes_no_new_one_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "file"
    path.write_text("old and longer")
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    await write(path)
    assert path.read_bytes() == b"new"
    with pytest.raises(CommandError, match="Permission denied"):
        await write(tmp_path / "other")


async def test_a_file_that_is_mounted_there_gets_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    path = tmp_path / "file"
    path.write_text("old and longer")
    monkeypatch.setattr(Path, "replace", refuse)
    await write(path)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - names


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="it is a directory") as caught:
        await write(tmp_path)
    assert caught.value.exit_code == 2


def test_descriptors_are_known_by_their_names(tmp_path: Path) -> None:
    assert [descriptor_of(Path(name)) for name in ("/dev/stdout", "/dev/stderr", "/dev/fd/7", "out", "/dev/null")] == [
        1, 2, 7, None, None,
    ]  # fmt: skip
    assert [is_replaced(path) for path in (tmp_path / "new", Path("/dev/null"), Path("/dev/stdout"), tmp_path)] == [
        True, False, False, False,
    ]  # fmt: skip
