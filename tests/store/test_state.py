"""The state directory: paths, lock, record, socket."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.cgroup import Cgroups
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.store import processes
from p2pnet.store.files import write_atomic
from p2pnet.store.state import SOCKET_PATH_BYTES_MAX, LabRecord, State, make_socket_directory


@pytest.mark.parametrize(
    ("env", "root"),
    [
        ({"P2PNET_STATE": "/a/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/a/b"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/p2pnet"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/p2pnet"),
        ({"HOME": "/h"}, "/h/.local/state/p2pnet"),
        ({"P2PNET_STATE": "", "HOME": "/h"}, "/h/.local/state/p2pnet"),
    ],
)
def test_the_state_directory_is_found_in_this_order(env, root):
    assert State.default(env).root == Path(root)


@given(st.text("abc/é", min_size=1, max_size=300), st.text("abc/", max_size=120))
def test_a_socket_path_always_fits_and_says_which_subnet(root, runtime):
    env = {"XDG_RUNTIME_DIR": "/" + runtime}
    one, other = (State(Path("/") / root).subnet(name).socket(env) for name in ("demo", "other"))
    assert len(os.fsencode(one)) <= SOCKET_PATH_BYTES_MAX
    assert one != other
    assert one == State(Path("/") / root).subnet("demo").socket(env)


def test_a_runtime_directory_is_used_when_it_can_be(tmp_path):
    with tempfile.TemporaryDirectory(prefix="r") as short:
        assert State(tmp_path).subnet("demo").socket({"XDG_RUNTIME_DIR": short}).parent == Path(short) / "p2pnet"
    gone = State(tmp_path).subnet("demo").socket({"XDG_RUNTIME_DIR": short})
    assert gone.parent == Path(f"/tmp/p2pnet-{os.getuid()}")


@given(st.text(max_size=50))
def test_a_name_never_leads_out_of_the_state_directory(name):
    try:
        paths = State(Path("/state")).subnet(name)
    except SpecError:
        return
    assert paths.root.parent == Path("/state/subnets")


def test_directories_of_a_subnet_are_private(tmp_path):
    paths = State(tmp_path).subnet("demo").make()
    assert paths.root.stat().st_mode & 0o777 == 0o700
    assert State(tmp_path).names() == ["demo"]
    assert not paths.exists


def test_a_record_is_alive_only_with_its_pid_and_start_time(tmp_path):
    paths = State(tmp_path).subnet("demo").make()
    assert paths.read_record() is None
    paths.write_record(Path("/s.sock"), "1", now=1.0)
    record = paths.live_lab()
    assert record == LabRecord(
        os.getpid(), processes.start_time(os.getpid()), "/s.sock", "1", 1.0, Cgroups().oom_kills(),
        processes.pid_namespace(), str(paths.lab_lock),
    )  # fmt: skip
    assert not LabRecord(os.getpid(), record.start_time + "1", "", "", 0).alive
    paths.record.write_text("{half")
    assert paths.live_lab() is None


def test_a_lab_of_another_pid_namespace_lives_while_it_holds_its_lock(tmp_path):
    paths = State(tmp_path).subnet("demo").make()
    paths.write_record(Path("/s.sock"), "1", now=1.0)
    record = paths.read_record()
    assert record is not None
    theirs = msgspec.structs.replace(record, pid_namespace="pid:[1]", lock="")
    paths.record.write_bytes(msgspec.json.encode(theirs))  # with a pid that is ours, by accident
    assert paths.live_lab() is None
    with paths.lab_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        alive = paths.live_lab()
        assert alive == msgspec.structs.replace(theirs, lock=str(paths.lab_lock))
        assert alive.foreign


def test_looking_whether_a_subnet_is_locked_makes_nothing_and_hinders_nobody(tmp_path):
    paths = State(tmp_path / "state").subnet("demo")
    assert not paths.is_locked()
    assert not (tmp_path / "state").exists()
    with paths.lock():
        assert paths.is_locked()
    assert not paths.is_locked()


def test_who_holds_a_lock_is_named_to_whom_it_is_refused(tmp_path):
    paths = State(tmp_path).subnet("demo")
    with (
        paths.lock(),
        pytest.raises(TargetError, match=f"process {os.getpid()} on {os.uname().nodename}"),
        paths.lock(wait_s=0.0),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_where_no_lock_file_can_be_made_the_directory_is_locked(tmp_path, monkeypatch, number):
    paths = State(tmp_path).subnet("demo").make()
    plain = os.open

    def full(path, flags, *mode):
        if flags & os.O_CREAT and Path(path).name == ".demo.lock":
            raise OSError(number, os.strerror(number), str(path))
        return plain(path, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    with paths.lock():
        assert paths.is_locked()
        with pytest.raises(TargetError, match="another p2pnet command"), paths.lock(wait_s=0.0):
            pass
    assert not paths.is_locked()


def test_a_zombie_and_a_dead_process_are_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = processes.start_time(child.pid)
    assert processes.is_alive(child.pid, started)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.is_alive(child.pid, started)
    child.communicate()
    assert processes.start_time(child.pid) is None
    assert processes.start_time(-1) is None


THREADED = """
import fcntl, sys, threading
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
pages = b"x" * (64 << 20)  # what the kernel takes back before it closes files
for _ in range(8):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
input()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_killed_process_is_alive_until_its_last_thread_has_closed_its_files(tmp_path):
    paths = State(tmp_path).subnet("demo").make()
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", THREADED, paths.lab_lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            child.stdout.readline()
            started = processes.start_time(child.pid)
            child.kill()
            alive = True
            while paths.lab_exists():
                assert alive  # it was called dead, and its lock is held still
                alive = processes.is_alive(child.pid, started)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert not processes.is_alive(child.pid, started)


def test_without_proc_the_start_time_comes_from_ps():
    if not Path("/bin/ps").exists():
        pytest.skip("no ps here")
    assert processes.portable_start_time(os.getpid()) == processes.portable_start_time(os.getpid()) is not None
    assert processes.portable_start_time(2**22 + 1) is None


def test_a_lock_keeps_the_second_one_out_and_lets_it_in_after(tmp_path):
    paths = State(tmp_path).subnet("demo")
    with paths.lock():
        with pytest.raises(TargetError) as caught, paths.lock(wait_s=0.1):
            pass
        assert caught.value.exit_code == 2
    with paths.lock(wait_s=0.1):
        pass


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"one", durable=True)
    with pytest.raises(OSError):
        write_atomic(tmp_path / "missing" / "file", b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_socket_directory_of_somebody_else_is_refused(tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(TargetError):
        make_socket_directory(tmp_path / "link")
    make_socket_directory(tmp_path / "mine")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700


def test_a_lab_is_known_by_its_socket_when_its_record_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="p") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        paths = State(Path(short)).subnet("demo").make()
        assert paths.live_lab() is None
        paths.socket().parent.mkdir()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(paths.socket()))
            assert paths.live_lab() is None  # bound by somebody who does not listen
            listening.listen()
            record = paths.live_lab()
            assert record is not None
            assert (record.pid, record.alive, record.socket) == (os.getpid(), True, str(paths.socket()))
        assert paths.live_lab() is None


LISTEN = """
import socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
with socket.socket(socket.AF_UNIX) as heir:
    heir.connect(sys.argv[2])
    socket.send_fds(heir, [b"x"], [listening.fileno()])
"""


def test_a_dead_lab_whose_socket_is_still_held_by_a_child_is_no_live_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="p") as short, socket.socket(socket.AF_UNIX) as heir:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        paths = State(Path(short)).subnet("demo").make()
        paths.socket().parent.mkdir()
        heir.bind(f"{short}/heir")
        heir.listen()
        subprocess.run([sys.executable, "-c", LISTEN, str(paths.socket()), f"{short}/heir"], check=True)
        connection, _ = heir.accept()
        with connection:
            _, [held], *_ = socket.recv_fds(connection, 1, 1)
        try:
            assert processes.listener_pid(paths.socket()) is not None
            assert paths.live_lab() is None
        finally:
            os.close(held)


def test_a_lab_exists_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    paths = State(tmp_path).subnet("demo").make()
    assert not paths.lab_exists()
    with paths.lab_lock.open("a") as held:
        assert not paths.lab_exists()
        fcntl.flock(held, fcntl.LOCK_EX)
        assert paths.lab_exists()
        assert paths.lab_exists()
    assert not paths.lab_exists()


def test_a_directory_without_a_document_or_a_log_is_no_subnet_yet(tmp_path: Path) -> None:
    paths = State(tmp_path).subnet("demo").make()
    assert not paths.begun
    paths.lab_log.touch()
    assert paths.begun
