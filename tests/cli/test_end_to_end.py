"""The whole local stack, driven as a person would: real labs, supervisors and nodes in a state directory of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.patience import PATIENCE_S
from tests.running import is_running
from tests.terminal import on_terminal

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Bench:
    """p2pnet as a program, with a state directory that is emptied afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "P2PNET_STATE": str(folder / "state"), "NO_COLOR": "1"}
        self.environment.pop("COLUMNS", None)

    def start(self, *words: str, **how: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "p2pnet.cli", *words],
            env=self.environment, cwd=self.folder, text=True, stdin=subprocess.DEVNULL,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        with self.start(*words) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, f"p2pnet {' '.join(words)}\n{out}\n{err}"
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def document(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "-o", "json", code=code).stdout)

    def lab_pid(self, name: str) -> int:
        record = json.loads((self.folder / "state" / "subnets" / name / "lab.json").read_bytes())
        return int(record["pid"])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.run("down", "--all", "--yes")


def gone(pids: list[int], within_s: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(is_running, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_an_artifact_goes_in_is_traced_fetched_and_withdrawn_and_down_leaves_nothing(bench: Bench) -> None:
    photo = bench.folder / "photo.bin"
    photo.write_bytes(os.urandom(100_000))

    status = bench.document("up", "demo", "--nodes", "3")
    assert status["nodes"] == {"desired": 3, "running": 3, "ready": 3, "connected": 3}
    jsonschema.validate(status, bench.document("schema", "status"))
    pids = [member["pid"] for member in status["members"]] + [bench.lab_pid("demo")]

    again = bench.run("up", "demo", "--nodes", "3")
    assert "demo is up already, nothing to change" in again.stderr

    report = bench.document("inject", "demo", str(photo), "--from", "node-1", "--expect", "reach >= 99%")
    jsonschema.validate(report, bench.document("schema", "report"))
    assert report["reach"] == {"expected": 2, "delivered": 2, "ratio": 1.0}
    assert report["verdict"] == "pass"
    [artifact] = report["artifact_ids"]

    trace = bench.document("trace", "demo", artifact[:10])
    jsonschema.validate(trace, bench.document("schema", "trace"))
    assert trace["schema"] == "p2pnet.io/trace/v1"
    assert trace["publisher"] == "node-1"
    assert {receipt["node"] for receipt in trace["receipts"]} == {"node-0", "node-2"}
    assert trace["critical_path"][0] == "node-1"

    fetched = bench.document("get", "demo", artifact, "-O", "copy.bin")
    assert fetched["node"] != "node-1"
    assert (bench.folder / "copy.bin").read_bytes() == photo.read_bytes()

    assert bench.document("withdraw", "demo", artifact)["held"] == 3
    bench.run("get", "demo", artifact, "-O", "gone.bin", code=1)
    assert not (bench.folder / "gone.bin").exists()

    bench.run("inject", "demo", "--size", "1KiB", "--expect", "p50 <= 1us", code=1)

    bench.run("down", "demo", "--yes")
    assert gone(pids)
    assert list((bench.folder / "state" / "subnets").glob("[!.]*")) == []
    assert bench.document("report", "demo", report["run"]) == report
    bench.run("down", "demo", "--yes")


def test_nodes_answer_a_ping_by_name_and_by_address_and_nobody_does_after_down(bench: Bench) -> None:
    bench.run("up", "demo", "--nodes", "3")
    [one, *_] = everyone = bench.document("ping", "--subnet", "demo")["pings"]
    assert [ping["node"] for ping in everyone] == ["node-0", "node-1", "node-2"]
    assert all(ping["echo"] and ping["rtt_ms"]["echoes"] == 3 for ping in everyone)
    assert one["certificate"]["uri"].endswith("/subnet/demo/node/node-0")

    by_address = bench.document("ping", one["peer"], "--count", "1")
    jsonschema.validate(by_address, bench.document("schema", "ping"))
    assert by_address["subnet"] == "demo"
    assert by_address["pings"][0]["node"] == "node-0"

    told = bench.run("ping", one["peer"], "--anyone", "--timeout", "5s", code=3)
    assert "it asks for an identity" in told.stderr

    bench.run("down", "demo", "--yes")
    bench.run("ping", "node-0", "--subnet", "demo", code=3)


def test_a_killed_lab_takes_its_nodes_along_and_leaves_an_invalid_run(bench: Bench) -> None:
    status = bench.document("up", "demo", "--nodes", "3")
    pids = [member["pid"] for member in status["members"]]
    ticket = bench.document("inject", "demo", "--size", "1KiB", "--count", "6000", "--rate", "20/s", "--no-wait")
    with on_terminal(bench.start, "report", "demo", ticket["run"]) as terminal:
        terminal.until("published ")
        os.kill(bench.lab_pid("demo"), signal.SIGKILL)
        said = terminal.end()
    assert terminal.process.returncode == 5, said
    assert f"run {ticket['run']} is invalid: the lab of demo is dead" in said
    assert gone(pids)

    dead = bench.run("status", "demo", code=3)
    assert "next: p2pnet up demo" in dead.stderr
    report = bench.document("report", "demo", ticket["run"], code=5)
    assert report["verdict"] == "invalid"

    revived = bench.document("up", "demo")
    assert revived["nodes"]["connected"] == 3


def test_two_at_once_start_one_subnet_and_ctrl_c_detaches_from_a_run(bench: Bench) -> None:
    with bench.start("up", "twin", "--nodes", "2") as one, bench.start("up", "twin", "--nodes", "2") as two:
        said = [process.communicate(timeout=PATIENCE_S)[1] for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), said
    assert sum("already" in text for text in said) == 1, said

    with on_terminal(bench.start, "inject", "twin", "--size", "1KiB", "--count", "100", "--rate", "20/s") as terminal:
        terminal.until("published ")
        terminal.process.send_signal(signal.SIGINT)
        words = terminal.end()
    assert terminal.process.returncode == 130
    assert "Next: p2pnet report twin r-" in words
    run = words.split("p2pnet report twin ")[1].split()[0]

    report = bench.document("report", "twin", run)
    assert (report["artifacts"], report["verdict"]) == (100, "pass")


def test_faults_are_held_lasting_kept_and_cleared_and_nodes_die_as_ordered(bench: Bench) -> None:
    bench.run("up", "demo", "--nodes", "3")

    def standing() -> dict[str, str]:
        faults = bench.document("fault", "demo", "list")["faults"]
        return {fault["name"]: fault["origin"] for fault in faults if fault["state"] != "ended"}

    done = bench.document("fault", "demo", "add", "kill", "--node", "node-2")["faults"]
    assert [(fault["nodes"], fault["state"]) for fault in done] == [(["node-2"], "ended")]

    for end in (signal.SIGINT, signal.SIGTERM):
        with bench.start("fault", "demo", "add", "loss", "20%", "--node", "node-1", "-o", "ndjson") as holding:
            assert holding.stdout is not None
            held = json.loads(holding.stdout.readline())
            assert standing() == {held["name"]: "lease"}
            holding.send_signal(end)
            _, err = holding.communicate(timeout=PATIENCE_S)
        assert holding.returncode == 0, err
        assert f"{held['name']} is healed" in err
        assert standing() == {}

    bench.run("fault", "demo", "add", "latency", "5ms", "--for", "1h", "--name", "slow")
    bench.run("fault", "demo", "add", "bandwidth", "50Mbit", "--keep")
    assert standing() == {"slow": "lease", "bandwidth-1": "spec"}
    listed = bench.document("status", "demo")["faults"]
    assert {"slow", "bandwidth-1"} <= {fault["name"] for fault in listed}
    jsonschema.validate(bench.document("fault", "demo", "list"), bench.document("schema", "faults"))

    assert sorted(bench.document("fault", "demo", "clear", "--all")["cleared"]) == ["bandwidth-1", "slow"]
    assert standing() == {}
    bench.run("fault", "demo", "clear", "slow-eu", code=2)
    bench.run("fault", "demo", "add", "loss", "5%", "--node", "node-9", code=2)
    bench.run("fault", "demo", "add", "kill", "10%", code=2)


def test_help_is_quick_for_it_imports_little(bench: Bench) -> None:
    code = (
        "import sys; from p2pnet.cli.app import main; main(['--help']);"
        "print([m for m in ('rich', 'aiohttp', 'pydantic', 'asyncio', 'yaml') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=bench.environment
    )

    assert done.stderr.strip() == "[]"
