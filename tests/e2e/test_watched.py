"""What a person is told of nodes that are stopped, killed or cut off, of a lab that dies or loses its socket, and afterwards."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S
from tests.quic.namespaces import Namespace, why_none

from p2pnet.lab_client import LabClient

Until = Callable[..., Any]


def lines(person: Any, *words: str) -> list[dict[str, Any]]:
    """The lines that `logs` prints."""
    out = person.run("logs", "demo", *words, "-o", "ndjson", inside=True).out
    return [json.loads(line) for line in out.splitlines()]


def told(person: Any, *words: str) -> list[tuple[str, str, str]]:
    """Node, level and the end of every line."""
    return [(line["node"], line["level"], line["line"]) for line in lines(person, *words)]


def act(person: Any, node: str, action: Any) -> None:
    """Have the lab act on a node, as a scenario would."""

    async def ask() -> None:
        async with LabClient.unix(json.loads((person.subnet("demo") / "lab.json").read_bytes())["socket"]) as client:
            await client.node_action(node, action)

    asyncio.run(ask())


def has(found: list[tuple[str, str, str]], node: str, level: str, words: str) -> bool:
    return any(line[:2] == (node, level) and words in line[2] for line in found)


def test_a_node_stopped_from_outside_is_shown_as_such_with_since_when_and_alone(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "4", inside=True)
    pid = person.member("demo", "node-3")["pid"]
    os.kill(pid, signal.SIGSTOP)

    stopped = until(lambda: (one := person.member("demo", "node-3"))["state"] == "unknown" and one)
    assert f"process {pid} is stopped by SIGSTOP, which nobody here ordered" in stopped["detail"]
    silent = until(lambda: (one := person.member("demo", "node-3"))["silent_since"] and one)
    assert "silent for" in silent["detail"]
    assert silent["last_heard"] <= silent["silent_since"] < "9"
    until(lambda: has(told(person), "node-3", "WARNING", "silent for"))
    status = person.document("status", "demo")
    assert [member["detail"] for member in status["members"][:3]] == ["", "", ""]
    degraded = next(one for one in status["conditions"] if one["type"] == "Degraded")
    assert degraded["message"].count("node-3") == 1
    os.kill(pid, signal.SIGCONT)
    until(lambda: person.document("status", "demo")["nodes"]["connected"] == 4)

    found = told(person, "--node", "node-3")
    assert has(found, "node-3", "WARNING", "is stopped by SIGSTOP")
    assert has(found, "node-3", "INFO", "answers again after")


def test_nodes_that_start_are_not_called_degraded(person: Any) -> None:
    person.run("up", "demo", "--nodes", "4", "--timeout", "300ms", code=4, inside=True)
    status = person.document("status", "demo")
    assert {one["status"] for one in status["conditions"] if one["type"] == "Degraded"} == {"False"}
    assert {member["state"] for member in status["members"]} <= {"starting", "running", "ready", "connected"}


def test_logs_tell_of_ends_orders_and_restarts_in_a_run_after_the_lab_and_after_the_subnet(
    person: Any, until: Until
) -> None:
    person.run("up", "demo", "--nodes", "3", inside=True)
    victim = person.member("demo", "node-2")["pid"]
    with person.start("inject", "demo", "--size", "1KiB", "--count", "60", "--rate", "20/s", "--from", "node-0") as run:
        until(lambda: list((person.state / "runs").glob("r-*/events.ndjson*")))
        os.kill(victim, signal.SIGKILL)
        run.communicate(timeout=PATIENCE_S)
    [folder] = (person.state / "runs").glob("r-*")
    killed = f"process {victim} ended with signal 9 (SIGKILL), which nobody here ordered; starts again in 0.2 s"
    times = [line["time"] for line in lines(person)]
    assert times == sorted(times)
    assert all(time.endswith("Z") for time in times)
    for words in ((), ("--run", folder.name), ("--node", "node-2"), ("--grep", "SIGKILL")):
        assert has(told(person, *words), "node-2", "WARNING", killed), words
    of_run = told(person, "--run", folder.name)
    assert has(of_run, "node-2", "INFO", "started again as process")
    assert not any("lab is at work" in line for *_, line in of_run)

    os.kill(person.lab("demo"), signal.SIGKILL)
    until(lambda: not person.processes())
    person.run("status", "demo", code=3, inside=True)
    ended = person.run("logs", "demo", inside=True)
    assert "the lab of demo is dead" in ended.err
    assert "SIGKILL" in ended.out
    person.run("down", "demo", "--yes", inside=True)
    assert has(told(person), "node-2", "WARNING", killed)
    assert told(person, "--run", folder.name) == of_run
    assert "there is no subnet demo" in person.run("logs", "demo", inside=True).err
    assert person.run("logs", "other", code=3, inside=True)


def test_a_run_whose_lab_was_killed_has_logs_and_the_next_lab_says_what_happened(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    with person.start(
        "inject", "demo", "--size", "1KiB", "--count", "400", "--rate", "20/s", "--from", "node-0"
    ) as run:
        until(lambda: list((person.state / "runs").glob("r-*/events.ndjson*")))
        os.kill(person.member("demo", "node-1")["pid"], signal.SIGKILL)
        until(lambda: person.member("demo", "node-1")["restarts"] == 1)
        os.kill(person.lab("demo"), signal.SIGKILL)
        run.communicate(timeout=PATIENCE_S)
    assert has(told(person, "--run", "latest"), "node-1", "WARNING", "ended with signal 9")
    until(lambda: not person.processes())
    person.run("up", "demo", inside=True)
    assert has(told(person, "--node", "lab"), "lab", "WARNING", "the lab before this one ended after")
    person.run("down", "demo", "--yes", inside=True)
    assert has(told(person, "--run", "latest"), "node-1", "WARNING", "ended with signal 9")


def test_whoever_follows_logs_hears_that_the_lab_died_and_no_line_twice(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    with person.start("logs", "demo", "--follow", "-o", "ndjson") as following:
        assert following.stdout is not None
        first = following.stdout.readline()
        os.kill(person.lab("demo"), signal.SIGKILL)
        out, err = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 3, err
    assert "the lab of demo is dead" in err
    assert first not in out.splitlines(keepends=True)


def test_a_pause_that_was_ordered_is_told_as_such(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    act(person, "node-1", "pause")
    paused = person.member("demo", "node-1")
    assert (paused["state"], paused["detail"], paused["silent_since"]) == ("paused", "paused by the lab", None)
    act(person, "node-1", "resume")
    act(person, "node-1", "kill")
    until(lambda: person.member("demo", "node-1")["restarts"] == 1)
    found = told(person)
    assert has(found, "node-1", "INFO", "pause ordered")
    assert has(found, "node-1", "INFO", "ended with signal 9 (SIGKILL), as ordered (kill)")
    assert not has(found, "node-1", "WARNING", "SIGKILL")


def test_a_lab_is_found_whoever_removes_its_socket_and_whichever_environment_asks(
    person: Any, until: Until, tmp_path_factory: pytest.TempPathFactory
) -> None:
    session = tmp_path_factory.mktemp("x")
    session.chmod(0o700)
    ordinary = dict(person.environment)
    person.environment["XDG_RUNTIME_DIR"] = str(session)
    person.run("up", "demo", "--nodes", "2")
    first = json.loads((person.subnet("demo") / "lab.json").read_bytes())["socket"]
    assert first.startswith(str(session))
    person.environment = ordinary
    assert json.loads(person.run("status", "demo", "-o", "json").out)["nodes"]["connected"] == 2
    shutil.rmtree(session)  # the session ends

    assert json.loads(person.run("status", "demo", "-o", "json").out)["nodes"]["connected"] == 2
    record = person.subnet("demo") / "lab.json"
    second = json.loads(record.read_bytes())["socket"]
    Path(second).unlink()  # by whoever cleans there
    record.unlink()
    until(record.exists)
    assert json.loads(person.run("status", "demo", "-o", "json").out)["nodes"]["connected"] == 2
    person.run("down", "demo", "--yes")
    assert not Path(second).exists()
    assert not person.processes()


def test_a_lab_whose_state_was_removed_ends(person: Any, until: Until) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    shutil.rmtree(person.state)
    until(lambda: not person.processes())


# --- a disk that is full ---


@pytest.fixture
def small_disk(person: Any) -> Iterator[Path]:
    """The state directory on a file system of its own, of 8 MiB."""
    person.state.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    made = mounted and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", person.state], capture_output=True, check=False
    )  # fmt: skip
    if not made or made.returncode:
        pytest.skip("no file system can be mounted here")
    yield person.state
    person.types("down", "--all", "--yes")
    subprocess.run(["umount", "--lazy", person.state], check=True)


def test_a_full_disk_ends_the_run_not_the_lab_and_the_subnet_can_be_taken_down(
    person: Any, until: Until, small_disk: Path
) -> None:
    person.run("up", "demo", "--nodes", "2", inside=True)
    with person.start("inject", "demo", "--size", "1KiB", "--count", "400", "--rate", "50/s", "-o", "json") as run:
        until(lambda: list((small_disk / "runs").glob("r-*/events.ndjson*")))
        with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(bytes(1 << 12)):
                pass
        out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 5, err
    assert any("No space left" in reason for reason in json.loads(out)["invalid"])
    assert person.document("status", "demo")["nodes"]["connected"] == 2
    person.run("down", "demo", "--yes", inside=True)
    assert not person.processes()


# --- IPv6 alone ---


def test_a_machine_without_ipv4_holds_a_subnet(person: Any) -> None:
    if why := why_none():
        pytest.skip(why)
    network = Namespace()
    try:
        network.ip("address del 127.0.0.1/8 dev lo")
        document = person.folder / "six.yaml"
        document.write_text(
            "{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: demo},"
            " spec: {nodes: 4, discovery: {mode: seeds}}}"
        )
        up = network.inside(lambda: person.types("up", "demo", "-f", str(document), "-o", "json"))
        assert up.code == 0, up.err
        assert {member["address"].rpartition(":")[0] for member in json.loads(up.out)["members"]} == {"[::1]"}
        report = network.inside(lambda: person.types("inject", "demo", "--size", "80KiB", "--count", "3", "-o", "json"))
        assert json.loads(report.out)["verdict"] == "pass"
        ping = network.inside(lambda: person.types("ping", "--subnet", "demo"))
        assert ping.code == 0, ping.err
        assert network.inside(lambda: person.types("doctor")).code == 0
        assert network.inside(lambda: person.types("down", "demo", "--yes")).code == 0
    finally:
        network.close()
