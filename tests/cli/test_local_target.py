"""The local target by its files: absent, starting, dead, damaged; and what is kept when something fails."""

import asyncio
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.patience import PATIENCE_S

from p2pnet.cli.progress import NoProgress
from p2pnet.cli.targets import lab_process, local
from p2pnet.cli.targets.local import LocalTarget
from p2pnet.cli.verbs import up
from p2pnet.model.cgroup import Cgroups, OomCounter
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import Problem, RunFile, RunRequest
from p2pnet.store import State, archive, processes
from p2pnet.store.state import LabRecord
from p2pnet.subnet.document import default_subnet, to_document


@pytest.fixture
def place(state: State) -> LocalTarget:
    return LocalTarget(state)


def made(place: LocalTarget, name: str = "demo", *, pid: int | None = None) -> None:
    paths = place.state.subnet(name).make()
    paths.document.write_bytes(msgspec.json.encode(to_document(default_subnet(name, 3))))
    if pid is not None:
        record = LabRecord(pid, processes.start_time(pid) or "1", str(paths.root / "lab.sock"), "0", 1.0)
        paths.record.write_bytes(msgspec.json.encode(record))


def open_run(place: LocalTarget, run: str = "r-1") -> None:
    folder = place.state.run(run)
    folder.mkdir(parents=True)
    file = RunFile(
        run=run, subnet="demo", target="local", seed=1, request=RunRequest(payloads=[]), created_at=1.0,
        nodes=["node-0"], version="0", state="running",
    )  # fmt: skip
    (folder / "run.json").write_bytes(msgspec.json.encode(file))


def test_what_is_seen_follows_the_files_and_the_process(place: LocalTarget) -> None:
    assert place.presence("demo") == "absent"
    made(place)
    assert place.presence("demo") == "dead"
    made(place, pid=os.getpid())
    assert place.presence("demo") == "up"
    made(place, pid=2**22 + 1)
    assert place.presence("demo") == "dead"
    place.state.subnet("demo").document.write_text("{")
    assert place.presence("demo") == "damaged"


def test_a_subnet_whose_lock_is_held_is_being_started(place: LocalTarget) -> None:
    made(place)

    with place.state.subnet("demo").lock():
        assert place.presence("demo") == "starting"


@pytest.mark.parametrize("record", [None, "garbage"], ids=["lost", "damaged"])
async def test_a_lab_without_a_record_that_still_dies_is_waited_for_and_called_dead(
    place: LocalTarget, record: str | None
) -> None:
    made(place)
    paths = place.state.subnet("demo")
    if record is not None:
        paths.record.write_text(record)
    with paths.lab_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asyncio.get_running_loop().call_later(4 * local.POLL_S, lock.close)

        with pytest.raises(TargetError, match="the lab of demo is dead"):
            async with place.lab("demo"):
                pass


async def test_a_lab_that_stays_without_a_record_is_called_starting_in_the_end(
    place: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(place)
    monkeypatch.setattr(local, "DEATH_WAIT_S", 2 * local.POLL_S)
    with place.state.subnet("demo").lab_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(TargetError, match="starting or removing demo"):
            async with place.lab("demo"):
                pass


async def test_up_starts_again_what_dies_while_it_looks_at_it(place: LocalTarget) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as lab:
        made(place, pid=lab.pid)
        assert place.presence("demo") == "up"
        lab.kill()
    async with place.lock("demo", NoProgress()):
        assert await up.current_document("demo", place) == (None, False)


async def test_a_dead_lab_ends_its_open_runs_as_invalid_and_names_up(place: LocalTarget) -> None:
    made(place)
    open_run(place)

    with pytest.raises(TargetError, match="the lab of demo is dead") as caught:
        async with place.lab("demo"):
            pass

    assert caught.value.exit_code == 3
    assert caught.value.hint == "p2pnet up demo"
    assert "r-1" in str(caught.value)
    report = archive.read_run(place.state, "r-1")[1]
    assert report is not None
    assert report.verdict == "invalid"


def test_status_of_a_dead_subnet_is_3_and_of_a_damaged_one_2(place: LocalTarget, p2pnet: Callable[..., Any]) -> None:
    made(place)
    dead = p2pnet("status", "demo")
    place.state.subnet("demo").document.write_text("{")
    damaged = p2pnet("status", "demo")

    assert (dead.code, damaged.code) == (3, 2)
    assert "next: p2pnet up demo" in dead.err
    assert "next: p2pnet down demo, then p2pnet up demo" in damaged.err
    assert p2pnet("up", "demo").code == 2
    assert p2pnet("down", "demo", "--yes").code == 0
    assert place.presence("demo") == "absent"


async def test_down_keeps_runs_and_removes_the_rest(place: LocalTarget) -> None:
    made(place)
    open_run(place)

    assert await place.remove("demo", NoProgress()) is True
    assert await place.remove("demo", NoProgress()) is False
    assert place.names() == []
    assert archive.read_run(place.state, "r-1")[0].state == "finished"


async def test_the_lock_is_waited_for_and_then_refused_with_2(
    place: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(place)
    monkeypatch.setattr(local, "LOCK_WAIT_S", 0.1)
    async with place.lock("demo", NoProgress()):
        with pytest.raises(TargetError, match="another p2pnet command") as caught:
            async with place.lock("demo", NoProgress()):
                pass
    assert caught.value.exit_code == 2
    async with place.lock("demo", NoProgress()):
        pass


async def test_waiting_for_the_lock_can_be_interrupted(place: LocalTarget) -> None:
    made(place)

    async def wait() -> None:
        async with place.lock("demo", NoProgress()):
            pass

    async with place.lock("demo", NoProgress()):
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A lab that does what `code` does; it finds its subnet's directory in sys.argv[1]."""
    plain = lab_process.spawn

    def spawn(root: Path, paths: Any, python_path: Any = ()) -> Any:
        with paths.lab_log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", code, str(paths.root)], stdout=log, stderr=log)
        lab_process.spawned.append(process)
        return process

    assert callable(plain)
    monkeypatch.setattr(local, "spawn", spawn)


async def test_a_lab_that_ends_at_once_is_quoted(place: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "print('cannot breathe'); raise SystemExit(2)")

    with pytest.raises(TargetError, match="cannot breathe") as caught:
        await place.start(default_subnet("demo", 3), NoProgress(), timeout_s=PATIENCE_S)
    assert caught.value.exit_code == 2
    assert caught.value.where.endswith("lab.log")


@pytest.mark.parametrize(
    ("number", "kills", "said"),
    [
        (9, True, "for want of memory"),
        (9, False, "(SIGKILL)"),
        (15, True, "(SIGTERM)"),
        (40, False, "(signal 40)"),
    ],
)
async def test_a_lab_that_was_killed_is_said_to_be_and_by_what(
    place: LocalTarget, monkeypatch: pytest.MonkeyPatch, number: int, kills: bool, said: str
) -> None:
    stand_in(monkeypatch, f"import os; os.kill(os.getpid(), {number})")
    monkeypatch.setattr(OomCounter, "grew", lambda _: kills)

    with pytest.raises(TargetError) as caught:
        await place.start(default_subnet("demo", 3), NoProgress(), timeout_s=PATIENCE_S)
    assert said in str(caught.value)
    assert ("memory" in caught.value.hint) == (number == 9 and kills)
    assert caught.value.exit_code == 3


async def test_a_dead_lab_is_brought_together_with_kills_for_want_of_memory_since_it_began(
    place: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(place, pid=2**22 + 1)
    paths = place.state.subnet("demo")
    record = paths.read_record()
    assert record is not None
    paths.record.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, oom_kills=2)))
    monkeypatch.setattr(Cgroups, "oom_kills", lambda _: 5)

    with pytest.raises(TargetError, match="since it began the kernel killed 3 for want of memory"):
        async with place.lab("demo"):
            pass


async def test_a_lab_of_another_pid_namespace_is_up_and_left_alone_where_it_cannot_be_reached(
    place: LocalTarget,
) -> None:
    made(place, pid=os.getpid())
    open_run(place)
    paths = place.state.subnet("demo")
    record = paths.read_record()
    assert record is not None
    paths.record.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, pid_namespace="pid:[1]", lock="")))
    with paths.lab_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.presence("demo") == "up"
        with pytest.raises(TargetError, match="runs in another PID namespace") as caught:
            async with place.lab("demo") as client:
                await client.summary()
        assert caught.value.exit_code == 3
        with pytest.raises(TargetError, match="runs in another PID namespace"):
            await place.remove("demo", NoProgress())
        assert archive.list_heads(place.state)[0].state == "running"
        assert paths.document.exists()


def test_a_full_disk_keeps_no_dead_subnet_from_being_seen_and_removed(
    place: LocalTarget, p2pnet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(place, pid=2**22 + 1)
    open_run(place)

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    for module in ("p2pnet.store.archive", "p2pnet.store.heads"):
        monkeypatch.setattr(f"{module}.write_atomic", full)
    assert p2pnet("status", "demo").code == 3
    assert p2pnet("status", "-o", "json").code == 0
    assert p2pnet("doctor").code == 0
    reported = p2pnet("report", "demo", "-o", "json")
    assert (reported.code, json.loads(reported.out)["verdict"]) == (5, "invalid")
    assert p2pnet("down", "demo", "-y").code == 0
    assert place.presence("demo") == "absent"


def test_doctor_shows_a_state_directory_that_is_somebody_elses_in_its_table(
    p2pnet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(State, "names", lambda self: closed(self.root))
    ended = p2pnet("doctor", "-o", "json")

    checks = {check["name"]: check["result"] for check in json.loads(ended.out)["checks"]}
    assert ended.code == 3
    assert checks["subnets"] == "failed"
    assert checks["python"] in ("ok", "warning")


async def test_a_lab_that_says_why_is_believed(place: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = msgspec.json.encode(Problem("port 4100 is in use", "stop who uses it", 2)).decode()
    stand_in(monkeypatch, f"import sys; open(sys.argv[1] + '/problem.json', 'w').write({problem!r}); sys.exit(2)")

    with pytest.raises(TargetError) as caught:
        await place.start(default_subnet("demo", 3), NoProgress(), timeout_s=PATIENCE_S)
    assert (str(caught.value), caught.value.hint, caught.value.exit_code) == (
        "port 4100 is in use",
        "stop who uses it",
        2,
    )


async def test_a_lab_that_never_answers_is_4(place: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "import time; time.sleep(3)")

    with pytest.raises(TargetError, match="does not answer") as caught:
        await place.start(default_subnet("demo", 3), NoProgress(), timeout_s=0.2)
    assert caught.value.exit_code == 4


async def test_a_lab_that_is_silent_is_stopped_by_its_pid_alone(
    place: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(place)
    monkeypatch.setattr(lab_process, "STOP_WAIT_S", 0.2)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    paths = place.state.subnet("demo")
    with socket.socket(socket.AF_UNIX) as mute:
        path = Path(f"/tmp/p2pnet-test-{os.getpid()}.sock")
        mute.bind(str(path))
        record = LabRecord(process.pid, processes.start_time(process.pid) or "", str(path), "0", 1.0)
        paths.record.write_bytes(msgspec.json.encode(record))

        assert await place.remove("demo", NoProgress()) is True

    assert await asyncio.wait_for(process.wait(), PATIENCE_S) < 0
    assert not path.exists()


def test_a_fresh_start_with_another_document_keeps_nothing_of_the_old(
    place: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "raise SystemExit(2)")
    made(place)
    ports = place.state.subnet("demo").ports

    for nodes, kept in ((3, True), (4, False)):
        ports.write_text("{}")
        with pytest.raises(TargetError):
            asyncio.run(place.start(default_subnet("demo", nodes), NoProgress(), timeout_s=PATIENCE_S))
        if nodes == 3:
            continue
        assert ports.exists() is kept
