"""A local lab is found by commands whoever removes its files meanwhile, and ends when its directory is gone for good."""

import fcntl
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pnet.lab import serving
from p2pnet.lab import serving as module
from p2pnet.lab.http.server import LabServer
from p2pnet.lab.lab import Lab
from p2pnet.lab.serving import Presence
from p2pnet.lab_client import LabClient
from p2pnet.store import State, SubnetPaths


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory as a login gives it."""
    folder = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
async def kept(lab: Lab, runtime: Path) -> AsyncIterator[tuple[Presence, LabServer, SubnetPaths]]:
    """A lab that listens in that directory, and what keeps it there."""
    server = LabServer(lab, lab.paths.socket())
    await server.open()
    presence = Presence(lab.paths, server, "1")
    presence.announce()
    yield presence, server, lab.paths
    presence.close()
    await server.close()


async def test_a_socket_that_was_removed_comes_back_private_and_answers(kept, runtime):
    presence, server, paths = kept
    async with LabClient.unix(server.path) as before:
        await before.summary()
        for damage in (server.path.unlink, lambda: shutil.rmtree(server.path.parent)):
            damage()
            await presence.check()
            record = paths.read_record()
            assert Path(record.socket) == server.path
            assert server.path.is_relative_to(runtime)
            assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
            assert stat.S_IMODE(server.path.parent.stat().st_mode) == 0o700
            async with LabClient.unix(record.socket) as lab_client:
                assert (await lab_client.summary()).name == "demo"
            assert (await before.summary()).name == "demo"  # who is connected already notices nothing


async def test_a_lab_whose_runtime_directory_ends_with_the_session_moves_and_says_where(kept, runtime, monkeypatch):
    presence, _, paths = kept
    monkeypatch.setattr(module, "SOCKET_FALLBACK", {"XDG_RUNTIME_DIR": str(runtime.parent)})
    shutil.rmtree(runtime)
    runtime.write_text("no directory can be made here")
    await presence.check()
    record = paths.read_record()
    assert not record.socket.startswith(str(runtime) + "/")
    assert len(record.socket.encode()) < 104
    async with LabClient.unix(record.socket) as lab_client:
        await lab_client.summary()


async def test_a_record_and_a_lock_that_were_removed_come_back(kept):
    presence, server, paths = kept
    before = paths.read_record()
    paths.record.unlink()
    await presence.check()
    assert paths.read_record() == before
    assert paths.live_lab().socket == str(server.path)
    assert paths.lab_exists()
    paths.lab_lock.unlink()
    assert not paths.lab_exists()
    await presence.check()
    assert paths.lab_exists()
    with paths.lab_lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


async def test_the_socket_of_another_lab_is_left_alone(kept, lab):
    _, server, _ = kept
    server.path.unlink()
    other = LabServer(lab, server.path)
    await other.open()
    await server.close()
    assert server.path.exists()
    assert other.reachable
    await other.close()
    assert not server.path.exists()


async def test_a_lab_whose_directory_was_removed_ends(kept, monkeypatch):
    presence, _, paths = kept
    monkeypatch.setattr(module, "CHECK_S", 0.0)
    shutil.rmtree(paths.root)
    assert "was removed" in await presence.keep()


def test_a_state_without_a_runtime_directory_listens_below_tmp(tmp_path):
    assert State(tmp_path).subnet("demo").socket({}).is_relative_to("/tmp")


def test_what_ended_by_itself_is_gone_and_remembered_unless_somebody_works_on_it(state):
    paths = state.subnet("demo").make()
    paths.document.write_text("{}")
    with paths.lock():
        serving.take_down(paths, "its ttl of 1h is over")
        assert paths.root.exists()
    serving.take_down(paths, "its ttl of 1h is over")
    assert not paths.root.exists()
    assert paths.read_end_reason() == "its ttl of 1h is over"
    assert state.names() == []
