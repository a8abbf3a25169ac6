"""Days on which things die, stop, fill up and happen at once: what is said is true, nothing is lost, nothing is left."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S
from tests.terminal import on_terminal

from p2pnet.lab_client import LabClient
from p2pnet.lab_client.http import Wire

Until = Callable[..., Any]


EVENTS_OF_A_WHILE = 20_000
"""Bytes: of more than a second, at 50 artifacts a second to two nodes."""


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)


def interrupted(process: "subprocess.Popen[str]", how: signal.Signals = signal.SIGINT) -> tuple[str, str]:
    """What a command says to Ctrl-C, or another order to end."""
    process.send_signal(how)
    out, err = process.communicate(timeout=PATIENCE_S)
    # As a shell counts: Ctrl-C in the middle of an import ends `python -m` by the signal itself, once all is said.
    code = 128 - process.returncode if process.returncode < 0 else process.returncode
    assert code == 128 + signal.SIGINT, (code, out, err)
    assert "Traceback" not in err, err
    return out, err


def is_up(person: Any, name: str = "demo", nodes: int = 2) -> None:
    """A subnet in order: connected, and it carries an artifact to everyone."""
    status = person.document("up", name, "--nodes", str(nodes))  # it may never have begun
    assert status["nodes"]["connected"] == nodes
    assert person.document("inject", name, "--size", "1KiB")["verdict"] == "pass"


# --- killed at any step ---

STEPS_OF_UP: dict[str, Callable[[Any], Any]] = {
    "the lock is taken": lambda person: person.subnet(".demo.lock").exists(),
    "the document is written": lambda person: (person.subnet("demo") / "subnet.json").exists(),
    "the lab writes its log": lambda person: (person.subnet("demo") / "lab.log").stat().st_size,
    "the authority is made": lambda person: (person.subnet("demo") / "authority" / "ca.crt").exists(),
    "the lab answers": lambda person: (person.subnet("demo") / "lab.json").exists(),
    "a node has its config": lambda person: list((person.subnet("demo") / "nodes").glob("*/node.json")),
    "a node writes its log": lambda person: list((person.subnet("demo") / "nodes").glob("*/node.log")),
}


def reached(step: Callable[[Any], Any], person: Any) -> Any:
    try:
        return step(person)
    except OSError:
        return False


def size_of(path: Path) -> int:
    return path.stat().st_size


def sweep(*always: str) -> list[Any]:
    """All steps; those that are not `always` tried only by the long sweeps."""
    return [step if step in always else pytest.param(step, marks=pytest.mark.soak) for step in STEPS_OF_UP]


@pytest.mark.parametrize("step", sweep("the lab writes its log"))
def test_up_killed_at_any_step_can_be_typed_again(person: Any, until: Until, step: str) -> None:
    with person.start("up", "demo", "--nodes", "2") as process:
        until(lambda: reached(STEPS_OF_UP[step], person))
        process.kill()

    is_up(person)
    person.run("down", "demo", "--yes", inside=True)
    until(lambda: not person.processes())


@pytest.mark.parametrize("step", sweep("the lab writes its log"))
def test_up_killed_at_any_step_can_be_taken_back(person: Any, until: Until, step: str) -> None:
    with person.start("up", "demo", "--nodes", "2") as process:
        until(lambda: reached(STEPS_OF_UP[step], person))
        process.kill()

    person.run("down", "demo", "--yes", inside=True)

    until(lambda: not person.processes())
    assert not person.subnet("demo").exists()


@pytest.mark.parametrize("step", sweep("the lab answers")[2:])
def test_a_lab_killed_at_any_step_of_up_is_told_of_and_started_again(person: Any, until: Until, step: str) -> None:
    with person.start("up", "demo", "--nodes", "2") as process:
        until(lambda: reached(STEPS_OF_UP[step], person))
        labs = [pid for pid in person.processes() if b"p2pnet.lab" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in labs:
            kill(pid)
        _, err = process.communicate(timeout=PATIENCE_S)

    if labs and process.returncode:
        assert process.returncode in (3, 70), err
        assert " next: " in err
        assert "lab.log" in err
    until(lambda: len(person.processes()) == 0 or process.returncode == 0)
    is_up(person)


@pytest.mark.parametrize("victim", ["supervisor", "lab"])
def test_nothing_outlives_a_killed_parent_and_its_run_is_invalid(person: Any, until: Until, victim: str) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    lab = person.lab("demo")
    [supervisor] = person.children(lab)
    with person.start("inject", "demo", "--size", "1KiB", "--count", "2000", "--rate", "50/s") as injecting:
        run = until(lambda: next((person.state / "runs").glob("r-*"), None)).name
        events = person.state / "runs" / run / "events.ndjson"
        until(
            lambda: events.exists() and events.stat().st_size > EVENTS_OF_A_WHILE
        )  # whoever started it has long heard so
        kill(lab if victim == "lab" else supervisor)
        _, err = injecting.communicate(timeout=PATIENCE_S)

    assert injecting.returncode == 5, err
    if victim == "lab":  # it can report no more
        assert f"run {run} is invalid" in err
    until(lambda: not person.processes())
    what, where, advice = person.run("status", "demo", code=3, inside=True).error
    assert "dead" in what
    assert where.endswith("lab.log")
    assert advice == "p2pnet up demo"
    report = person.document("report", "demo", run, code=5)
    assert report["verdict"] == "invalid"
    is_up(person)


@pytest.mark.soak
def test_a_node_killed_in_a_run_comes_back_and_the_run_says_what_it_cannot_know(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "3", inside=True)
    before = person.member("demo", "node-2")
    with person.start("inject", "demo", "--size", "1KiB", "--count", "40", "--rate", "20/s", "--from", "node-0") as run:
        until(lambda: list((person.state / "runs").glob("r-*/events.ndjson")))
        kill(before["pid"])
        out, _ = run.communicate(timeout=PATIENCE_S)

    assert run.returncode in (0, 5), out
    if run.returncode == 5:
        report = person.document("report", "demo", code=5)
        assert any("node-2" in reason for reason in report["invalid"])
    until(lambda: person.member("demo", "node-2")["state"] == "connected")
    assert person.member("demo", "node-2")["restarts"] == before["restarts"] + 1


def test_down_killed_in_the_middle_is_finished_by_the_next_down(person: Any, until: Until) -> None:
    for gone in (lambda: not person.subnet("demo").joinpath("lab.json").exists(), lambda: not person.processes()):
        person.run("up", "demo", "--nodes", "2", inside=True)
        with person.start("down", "demo", "--yes") as process:
            until(lambda gone=gone: gone() or process.poll() is not None)
            process.kill()
        assert person.run("down", "demo", "--yes", inside=True).err.startswith("Next: ")
        until(lambda: not person.processes())
        assert not person.subnet("demo").exists()


def test_an_upload_killed_half_way_leaves_a_subnet_that_takes_the_next(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    file = person.folder / "large.bin"
    file.write_bytes(os.urandom(60 << 20))
    runs, uploads = person.state / "runs", person.subnet("demo") / "uploads"

    def killed_half_way() -> bool:
        """False if it was through before we, on a busy machine, had our turn."""
        before = set(runs.glob("*"))
        with person.start("inject", "demo", str(file)) as process:
            until(
                lambda: set(runs.glob("*")) - before or reached(lambda _: any(map(size_of, uploads.iterdir())), person)
            )
            process.kill()
        return set(runs.glob("*")) == before

    until(killed_half_way)

    small = person.folder / "small.bin"
    small.write_bytes(b"x")
    assert person.document("inject", "demo", str(small))["verdict"] == "pass"


# --- stopped ---


def test_a_lab_that_stands_still_is_told_of_without_waiting_and_goes_on_afterwards(
    person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Wire.patience_s <= 10
    person.run("up", "demo", "--nodes", "2", inside=True)
    monkeypatch.setattr(Wire, "patience_s", 600.0)  # nobody waits for an answer that cannot come
    lab = person.lab("demo")
    kill(lab, signal.SIGSTOP)

    what, _, advice = person.run("status", "demo", code=3, inside=True).error

    assert f"process {lab}" in what
    assert "the process is stopped" in what
    assert advice == f"kill -CONT {lab}, or p2pnet down demo"
    kill(lab, signal.SIGCONT)
    is_up(person)
    kill(lab, signal.SIGSTOP)
    person.run("down", "demo", "--yes", inside=True)
    assert not person.processes()


# --- damaged, full ---


def test_a_lab_whose_record_is_lost_is_found_by_its_socket(person: Any) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    pids = person.processes()
    record = person.subnet("demo") / "lab.json"

    for damage in (lambda: record.write_text("garbage"), record.unlink):
        damage()
        assert person.document("status", "demo")["nodes"]["connected"] == 2
        assert "already" in person.run("up", "demo", inside=True).err
    person.run("down", "demo", "--yes", inside=True)

    assert not set(pids) & set(person.processes())


def test_a_dead_subnet_rises_from_what_is_left_of_its_files(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    root = person.subnet("demo")
    for damage in (
        ["authority/ca.key"], ["authority/ca.crt", "members.json"], ["ports.json", "lab/tls.key", "problem.json"],
        ["nodes/node-0/node.json", "nodes/node-1/identity/tls.crt"],
    ):  # fmt: skip
        kill(person.lab("demo"))
        until(lambda: not person.processes())
        for name in damage:
            (root / name).unlink(missing_ok=True)
        is_up(person)
        assert (root / "authority").stat().st_mode & 0o777 == 0o700
        assert (root / "authority" / "ca.key").stat().st_mode & 0o777 == 0o600
    kill(person.lab("demo"))
    until(lambda: not person.processes())
    (root / "lab.json").write_text(
        json.dumps({"pid": os.getpid(), "start_time": "1", "socket": "/nosuch", "version": "0", "started_at": 1})
    )
    assert "dead" in person.run("status", "demo", code=3, inside=True).error[0]  # that pid is somebody else's now
    for document in ("garbage", "", "{}"):
        (root / "subnet.json").write_text(document)
        for verb in (["status", "demo"], ["up", "demo"], ["inject", "demo"]):
            what, where, advice = person.run(*verb, code=2, inside=True).error
            assert "damaged" in what
            assert where == str(root / "subnet.json")
            assert advice == "p2pnet down demo, then p2pnet up demo"
    person.run("down", "demo", "--yes", inside=True)
    assert not root.exists()


def test_a_damaged_run_is_named_and_hides_no_other(settled: Any, until: Until) -> None:
    good = settled.document("inject", "demo", "--size", "1KiB")["run"]
    bad = settled.document("inject", "demo", "--size", "1KiB")["run"]
    folder = settled.state / "runs" / bad
    report = (folder / "summary.json").read_bytes()
    until(lambda: not (folder / "events.ndjson").exists())  # packed by the lab after its end

    (folder / "summary.json").write_text("garbage")
    what, _, advice = settled.run("report", "demo", bad, code=2, inside=True).error
    assert str(folder / "summary.json") in what
    assert str(folder / "events.ndjson.gz") in advice
    assert settled.document("report", "demo", good)["run"] == good
    (folder / "summary.json").write_bytes(report)
    (folder / "events.ndjson.gz").write_bytes(b"garbage")
    assert settled.document("report", "demo", bad)["verdict"] == "pass"
    (folder / "run.json").write_text("garbage")
    what, where, _ = settled.run("report", "demo", bad, code=2, inside=True).error
    assert "is damaged" in what
    assert where == str(folder / "run.json")
    assert settled.document("report", "demo")["run"] == good
    assert settled.document("status", "demo")["nodes"]["connected"] == 3


def test_a_disk_that_fills_up_makes_the_run_invalid_and_refuses_the_next(person: Any) -> None:
    person.run("up", "demo", "--nodes", "2", file_bytes_max=256 << 10)
    large = person.folder / "large"
    large.write_bytes(bytes(300 << 10))

    report = person.document("inject", "demo", "--size", "100B", "--count", "1500", code=5)
    assert report["verdict"] == "invalid"
    assert any("could not be written" in reason for reason in report["invalid"])
    what, _, advice = person.run("inject", "demo", str(large), code=2, inside=True).error
    assert "cannot be written" in what
    assert "needs 307200 bytes" in advice
    assert person.document("inject", "demo", "--size", "100B")["verdict"] == "pass"


def test_a_disk_without_room_for_a_subnet_is_said_before_the_start(person: Any) -> None:
    ended = person.run("up", "demo", "--nodes", "2", code=2, file_bytes_max=10)

    assert "too large" in ended.error[0]
    assert person.run("up", "demo", "--nodes", "2", code=2, file_bytes_max=700).error
    is_up(person)


# --- at once ---


def stops(person: Any) -> bool:
    """Whether its lab is about to end, or has ended."""
    try:
        return b"stops" in (person.subnet("demo") / "lab.log").read_bytes()
    except FileNotFoundError:
        return True


def test_down_twice_at_once_and_up_while_down_end_in_one_of_two_orders(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    with person.start("down", "demo", "-y") as one, person.start("down", "demo", "-y") as two:
        said = [process.communicate(timeout=PATIENCE_S) for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), said
    assert sorted("removed" in out for out, _ in said) == [False, True]

    person.run("up", "demo", "--nodes", "2", inside=True)
    with person.start("down", "demo", "-y") as down:
        until(lambda: stops(person))
        with person.start("up", "demo", "--nodes", "2") as up:
            said = [process.communicate(timeout=PATIENCE_S) for process in (down, up)]
    assert (down.returncode, up.returncode) == (0, 0), said
    assert person.document("status", "demo")["nodes"]["connected"] == 2


# --- interrupted ---


def test_ctrl_c_in_up_leaves_a_subnet_that_goes_on_or_none(person: Any, until: Until) -> None:
    for step in ("the lock is taken", "the lab answers"):
        with person.start("up", "demo", "--nodes", "2") as process:
            until(lambda step=step: reached(STEPS_OF_UP[step], person))
            _, err = interrupted(process)
        assert "interrupted: demo" in err
        assert "p2pnet up demo" in err or "p2pnet status demo" in err
        is_up(person)
        person.run("down", "demo", "--yes", inside=True)  # or the next one would find the lab that this one is to start


def test_up_while_the_lab_ends_without_anybody_waiting_for_it_starts_another(person: Any) -> None:
    async def tell_to_end() -> None:
        async with client_of(person) as client:
            await client.stop()

    person.run("up", "demo", "--nodes", "2", inside=True)
    before = person.lab("demo")
    asyncio.run(tell_to_end())

    is_up(person)

    assert person.lab("demo") != before


@pytest.mark.parametrize("words", [["status", "demo", "-w"], ["logs", "demo", "-f", "-o", "ndjson"]])
def test_ctrl_c_ends_what_has_no_end_without_a_word_too_many(settled: Any, words: list[str]) -> None:
    with settled.start(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        _, err = interrupted(process)
    assert err.strip() == ""


def test_a_detached_run_goes_on_is_followed_by_report_and_left_again(settled: Any, until: Until) -> None:
    # It is cancelled in the end: a busy machine may take a minute for what is done beside it.
    flow = ["inject", "demo", "--size", "1KiB", "--count", "6000", "--rate", "12/s"]
    said = left(settled, flow, signal.SIGINT)
    run = said.split("p2pnet report demo ")[1].split()[0]
    assert f"detached: run {run} goes on" in said
    assert f"detached: run {run} goes on" in left(settled, ["report", "demo", run], signal.SIGINT)
    queued = settled.document("inject", "demo", "--size", "1KiB", "--no-wait")
    assert queued["state"] == "queued"
    assert queued["progress"]["queue_position"] == 1
    assert run in queued["progress"]["waiting_for"]
    shared = settled.document("inject", "demo", "--size", "1KiB", "--shared")
    assert (shared["shared"], shared["verdict"]) == (True, "pass")
    assert {one["state"] for one in settled.document("status", "demo")["runs"]} >= {"queued", "running"}

    published = asyncio.run(progress(settled, run)).published
    until(lambda: asyncio.run(progress(settled, run)).published > published)
    asyncio.run(cancel(settled, run))
    assert settled.document("report", "demo", run, code=5)["state"] == "cancelled"
    assert settled.document("report", "demo", queued["run"])["verdict"] == "pass"


def left(person: Any, words: list[str], how: signal.Signals) -> str:
    """What a command says that is told to end while it follows a run."""
    with on_terminal(person.start, *words) as terminal:
        terminal.until("published ")
        terminal.process.send_signal(how)
        said = terminal.end()
    assert terminal.process.returncode == 128 + signal.SIGINT, said
    return said


async def progress(person: Any, run: str) -> Any:
    async with client_of(person) as client:
        return (await client.run(run)).progress


async def cancel(person: Any, run: str) -> None:
    async with client_of(person) as client:
        await client.cancel(run)


def client_of(person: Any, name: str = "demo") -> LabClient:
    """What only the lab's own interface offers."""
    return LabClient.unix(json.loads((person.subnet(name) / "lab.json").read_bytes())["socket"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_cancel_on_interrupt_ends_the_run_and_keeps_what_it_measured(
    settled: Any, until: Until, how: signal.Signals
) -> None:
    before = set((settled.state / "runs").iterdir())
    words = ["inject", "demo", "--size", "1KiB", "--count", "6000", "--rate", "12/s", "--cancel-on-interrupt"]
    said = left(settled, words, how)
    [folder] = set((settled.state / "runs").iterdir()) - before
    assert f"run {folder.name} is cancelled, what it measured is kept" in said
    report = settled.document("report", "demo", folder.name, code=5)
    assert report["state"] == "cancelled"
    assert 0 < report["artifacts"] < 6000


def test_ctrl_c_in_get_leaves_no_half_file(settled: Any, until: Until) -> None:
    file = settled.folder / "huge.bin"
    file.write_bytes(os.urandom(48 << 20))
    [artifact] = settled.document("inject", "demo", str(file))["artifact_ids"]
    target = settled.folder / "target"
    target.mkdir()

    def interrupted_half_way() -> bool:
        """False if it was through before we, on a busy machine, had our turn."""
        with settled.start("get", "demo", artifact, "-O", str(target / "copy")) as process:
            until(lambda: list(target.iterdir()))
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
        if process.returncode == 0:
            (target / "copy").unlink()
        return process.returncode != 0

    until(interrupted_half_way)
    assert list(target.iterdir()) == []


def test_ctrl_c_at_the_question_of_down_removes_nothing(settled: Any) -> None:
    ours, theirs = pty.openpty()
    with settled.start("down", "demo", stdin=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        said += os.read(ours, 1000)
    os.close(ours)
    assert b"interrupted: nothing was removed" in said
    assert settled.document("status", "demo")["nodes"]["connected"] == 3


def test_ctrl_c_in_down_can_be_followed_by_down(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    with person.start("down", "demo", "-y") as process:
        until(lambda: stops(person))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (0, 130), err
    person.run("down", "demo", "-y", inside=True)
    until(lambda: not person.processes())


# --- changed while it works ---


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A subnet whose document stands in a file."""
    settled = request.getfixturevalue("settled")
    person = type(settled)(tmp_path_factory.mktemp("edited"))
    write(person, nodes=2, ttl="1h")
    person.run("up", "-f", "subnet.yaml", inside=True)
    yield person
    person.run("down", "live", "--yes", inside=True)
    assert not person.processes()


def write(person: Any, **spec: Any) -> None:
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "live"}, "spec": spec}
    (person.folder / "subnet.yaml").write_text(json.dumps(document))


async def rotate(person: Any) -> list[str]:
    async with client_of(person, "live") as client:
        return await client.rotate()


def test_leaves_are_replaced_and_documents_edited_under_an_injection_without_a_restart(edited: Any) -> None:
    before = edited.document("status", "live")
    report: dict[str, Any] = {}
    words = ["inject", "live", "--size", "1KiB", "--count", "40", "--rate", "10/s", "--from", "node-0"]
    with edited.start(*words, "-o", "json") as process:
        write(edited, nodes=2, ttl="2h", identity={"ttl": "20m", "renewBefore": "15m"}, ready={"within": "90s"})
        said = edited.run("up", "-f", "subnet.yaml", inside=True).err
        rotated = asyncio.run(rotate(edited))
        out, err = process.communicate(timeout=PATIENCE_S)
        report = json.loads(out)

    assert "took the edit of spec.identity.ttl, spec.identity.renewBefore, spec.ready, spec.ttl" in said
    assert rotated == ["node-0", "node-1"]
    assert (process.returncode, report["verdict"]) == (0, "pass"), err
    after = edited.document("status", "live")
    assert [one["pid"] for one in after["members"]] == [one["pid"] for one in before["members"]]
    assert [one["restarts"] for one in after["members"]] == [0, 0]
    assert all(
        now["cert_not_after"] < then["cert_not_after"]
        for now, then in zip(after["members"], before["members"], strict=True)
    )
    assert after["expires_at"] not in (None, before["expires_at"])
    assert (edited.subnet("live") / "authority").stat().st_mode & 0o777 == 0o700


def test_nodes_and_groups_come_and_go_live_and_what_is_frozen_is_named(edited: Any, until: Until) -> None:
    write(edited, nodes=1, groups=[{"name": "late", "nodes": 2}])
    assert "took the edit of" in edited.run("up", "-f", "subnet.yaml", inside=True).err
    status = edited.document("status", "live")
    assert [one["name"] for one in status["members"]] == ["late-0", "late-1", "node-0"]
    assert status["nodes"]["connected"] == 3

    write(edited, nodes=2, groups=[{"name": "late", "nodes": 1}], seed=7, broadcast={"pushBelow": 1})
    what, _, advice = edited.run("up", "-f", "subnet.yaml", code=2, inside=True).error
    assert "spec.broadcast" in what
    assert "spec.seed" in what
    assert "p2pnet down live" in advice

    write(edited, nodes=2)
    edited.run("up", "-f", "subnet.yaml", inside=True)
    until(lambda: edited.document("status", "live")["nodes"]["connected"] == 2)
    assert [one["name"] for one in edited.document("status", "live")["members"]] == ["node-0", "node-1"]


@pytest.mark.soak
def test_a_node_that_stands_still_for_half_a_minute_is_missed_and_comes_back(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "3", inside=True)
    victim = person.member("demo", "node-2")["pid"]
    waker = threading.Timer(30.0, kill, (victim, signal.SIGCONT))
    kill(victim, signal.SIGSTOP)
    waker.start()
    report = person.document(
        "inject", "demo", "--size", "8KiB", "--count", "5", "--from", "node-0", "--within", "10s", code=5
    )
    assert any("node-2" in reason for reason in report["invalid"])
    assert report["reach"]["delivered"] == 5
    waker.join()
    until(lambda: person.document("status", "demo")["nodes"]["connected"] == 3)
    assert person.document("inject", "demo", "--size", "8KiB")["verdict"] == "pass"


@pytest.mark.soak
def test_a_subnet_ends_with_its_ttl_as_down_would_end_it(person: Any, until: Until) -> None:
    write(person, nodes=2, ttl="1m")
    person.run("up", "-f", "subnet.yaml", inside=True)
    status = person.document("status", "live")
    assert "Expiring" in {one["type"] for one in status["conditions"]}
    run = person.document("inject", "live", "--size", "1KiB")["run"]

    until(lambda: not person.processes())

    assert not person.subnet("live").exists()
    what, _, advice = person.run("status", "live", code=3, inside=True).error
    assert what == "there is no subnet live any more: its ttl of 1m is over"
    assert advice == "p2pnet up live"
    assert person.document("report", "live", run)["verdict"] == "pass"
    person.run("down", "live", "--yes", inside=True)
