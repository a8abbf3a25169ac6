"""What the supervisor promises, with real processes."""

import os
import signal
import socket
from pathlib import Path

import pytest
from tests.node.kit import Bench, until, until_gone
from tests.running import is_running


async def test_closing_its_stdin_ends_everything(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1"])
    pids = [supervisor.pid("node-0"), supervisor.pid("node-1")]
    supervisor.ask(op="pause", name="node-1")
    await supervisor.kill()
    await until_gone([*pids, supervisor.process.pid])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the parent-death signal is Linux's")
async def test_nothing_outlives_a_killed_supervisor_not_even_a_stopped_node(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1"])
    pids = [supervisor.pid("node-0"), supervisor.pid("node-1")]
    os.kill(pids[1], signal.SIGSTOP)
    supervisor.process.kill()
    await until_gone(pids)


@pytest.mark.parametrize("how", ["fork", "spawn"])
async def test_a_node_lives_dies_and_comes_back_whichever_way_it_is_started(bench: Bench, how: str) -> None:
    supervisor = await bench.supervisor("--start", how)
    await bench.bind(supervisor, ["node-0"])
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0"]))
    supervisor.ask(op="start", name="node-0", config=str(bench.subnet.write_node("node-0")))
    first = await supervisor.event("ready", "node-0")
    assert (await bench.peers("node-0")).pid == first["pid"]
    supervisor.ask(op="restart", name="node-0")
    assert (await supervisor.event("exited", "node-0"))["code"] == 0
    bench.forget("node-0")
    again = await supervisor.event("ready", "node-0")
    assert again["pid"] != first["pid"]
    assert (await bench.peers("node-0")).pid == again["pid"]
    supervisor.ask(op="kill", name="node-0", revive=False)
    dead = await supervisor.event("exited", "node-0")
    assert (dead["code"], dead["restart_in_s"]) == (-signal.SIGKILL, None)
    supervisor.ask(op="quit")
    await supervisor.event("stopped", "node-0")
    assert await supervisor.process.wait() == 0


async def test_a_node_that_cannot_start_is_tried_again_with_growing_pauses(bench: Bench) -> None:
    supervisor = await bench.supervisor()
    await bench.bind(supervisor, ["node-0"])
    config = bench.subnet.folder / "node.json"
    config.write_text("{}")
    log = bench.subnet.folder / "some.log"
    supervisor.ask(op="start", name="node-0", config=str(config), log=str(log))
    pauses = [(await supervisor.event("exited", "node-0"))["restart_in_s"] for _ in range(3)]
    assert pauses == [0.2, 0.4, 0.8]
    assert "not a node config" in log.read_text()
    # the config is read at every start
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0"]))
    supervisor.ask(op="stop", name="node-0")
    await supervisor.event("stopped", "node-0")


async def test_a_port_in_use_is_an_error_with_its_number(bench: Bench) -> None:
    supervisor = await bench.supervisor()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        supervisor.ask(op="bind", name="node-0", host="127.0.0.1", port=taken.getsockname()[1])
        error = await supervisor.event("error", "node-0")
    assert error["errno"] == 98
    supervisor.ask(op="start", name="node-0", config="/nowhere")
    assert "bind it first" in (await supervisor.event("refused", "node-0"))["message"]


async def test_bad_requests_are_refused_and_do_no_harm(bench: Bench) -> None:
    supervisor = await bench.supervisor()
    assert supervisor.process.stdin is not None
    supervisor.process.stdin.write(b'nonsense\n{"op":"dance"}\n' + b"x" * (1 << 20) + b"y" * 10)
    for _ in range(3):
        await supervisor.event("refused")
    supervisor.ask(op="quit")
    assert await supervisor.process.wait() == 0


async def test_a_node_inherits_nothing_of_its_siblings(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1", "node-2"])
    for name in ("node-0", "node-2"):
        proc = Path(f"/proc/{supervisor.pid(name)}")
        links = [str(fd.readlink()) for fd in (proc / "fd").iterdir() if fd.name not in ("0", "1", "2")]
        sockets = [link for link in links if link.startswith("socket:")]
        inodes = (proc / "net/udp").read_text()
        assert sum(link[8:-1] in inodes for link in sockets) == 1


async def test_asked_by_a_signal_it_stops_its_nodes_in_good_order(bench: Bench) -> None:
    supervisor = await bench.up(["node-0"])
    pid = supervisor.pid("node-0")
    supervisor.process.send_signal(signal.SIGTERM)
    assert (await supervisor.event("exited", "node-0"))["code"] == 0
    assert await supervisor.process.wait() == 0
    assert not is_running(pid)


async def test_a_node_that_somebody_stops_is_told_of_and_one_paused_by_order_is_another_thing(bench: Bench) -> None:
    supervisor = await bench.up(["node-0"])
    pid = supervisor.pid("node-0")
    os.kill(pid, signal.SIGSTOP)
    halted = await supervisor.event("halted", "node-0")
    assert halted["how"] == f"process {pid} is stopped by SIGSTOP, which nobody here ordered (kill -CONT {pid})"
    os.kill(pid, signal.SIGCONT)
    await supervisor.event("continued", "node-0")
    supervisor.ask(op="pause", name="node-0")
    await supervisor.event("paused", "node-0")
    supervisor.ask(op="resume", name="node-0")
    await supervisor.event("resumed", "node-0")
    os.kill(pid, signal.SIGSTOP)
    await supervisor.event("halted", "node-0")
    assert [event["event"] for event in supervisor.told if event["event"] in ("halted", "continued")] == [
        "halted", "continued", "halted",
    ]  # fmt: skip
    supervisor.ask(op="stop", name="node-0")  # a stopped process hears nothing: it is let run first
    assert (await supervisor.event("exited", "node-0"))["how"] == "ended with code 0, as ordered (stop)"


async def test_an_end_says_by_what_signal_or_code_and_whose_doing_it_was(bench: Bench) -> None:
    supervisor = await bench.up(["node-0"])
    os.kill(supervisor.pid("node-0"), signal.SIGKILL)
    dead = await supervisor.event("exited", "node-0")
    assert dead["how"] == "ended with signal 9 (SIGKILL), which nobody here ordered"
    assert (dead["order"], dead["oom"]) == ("", False)
    await supervisor.event("ready", "node-0")
    supervisor.ask(op="kill", name="node-0")
    assert (await supervisor.event("exited", "node-0"))["how"] == "ended with signal 9 (SIGKILL), as ordered (kill)"
    await supervisor.event("ready", "node-0")
    supervisor.ask(op="restart", name="node-0")
    assert (await supervisor.event("exited", "node-0"))["how"] == "ended with code 0, as ordered (restart)"
    await supervisor.event("ready", "node-0")
    os.kill(supervisor.pid("node-0"), signal.SIGTERM)
    assert (await supervisor.event("exited", "node-0"))["how"] == "ended with code 0: by itself"


async def test_what_a_node_says_about_its_links_stands_in_its_log(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1"])
    await bench.until_connected("node-0")
    log = bench.subnet.folder / "node-0" / "node.log"

    async def says(words: str) -> bool:
        return words in log.read_text()

    await until(lambda: says("all 1 links are up"), "the first links are told of")
    supervisor.ask(op="restart", name="node-1")
    await until(lambda: says("link with node-1 lost: application 0x10"), "the loss is told of, with its reason")
    await until(lambda: says("link with node-1 is back after"), "the link is back")
    assert " INFO p2pnet.node: link with node-1 lost" in log.read_text()
    supervisor.ask(op="kill", name="node-1")
    await until(lambda: says(" WARNING p2pnet.node: link with node-1 lost"), "a death is a warning")


async def test_a_node_that_is_held_stays_dead_until_it_is_released_and_nothing_else_starts_it(bench: Bench) -> None:
    supervisor = await bench.up(["node-0"])
    first = supervisor.pid("node-0")
    supervisor.ask(op="hold", name="node-0", why="fault two-die")
    dead = await supervisor.event("exited", "node-0")
    assert (dead["code"], dead["restart_in_s"], dead["order"]) == (-signal.SIGKILL, None, "fault two-die")
    assert dead["how"] == "killed as ordered (fault two-die)"
    for op in ("restart", "kill", "start"):
        supervisor.ask(op=op, name="node-0", config="/x")
        refused = await supervisor.event("refused", "node-0")
        assert refused["message"] == f"{op}: it is kept dead (fault two-die)"
    assert not is_running(first)
    supervisor.ask(op="release", name="node-0")
    await supervisor.event("started", "node-0")  # its first start, which was told before
    started = await supervisor.event("started", "node-0")
    assert (started["starts"], started["restarts"]) == (2, 1)
    await supervisor.event("ready", "node-0")
    supervisor.ask(op="release", name="node-0")  # once more: there is nothing to do
    supervisor.ask(op="kill", name="node-0", why="fault once")
    assert (await supervisor.event("exited", "node-0"))["how"].endswith("as ordered (fault once)")
    assert (await supervisor.event("ready", "node-0"))["pid"] != started["pid"]


async def test_holds_and_pauses_that_nobody_renews_end_with_their_lease(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1"])
    for _ in range(2):  # the second order renews the first
        supervisor.ask(op="hold", name="node-0", lease_s=0.5)
        supervisor.ask(op="pause", name="node-1", lease_s=0.5)
    await supervisor.event("exited", "node-0")
    await supervisor.event("paused", "node-1")
    await supervisor.event("ready", "node-0")
    await supervisor.event("resumed", "node-1")
    supervisor.ask(op="pause", name="node-1", lease_s=1e9)
    assert "0 to 86400 seconds" in (await supervisor.event("refused"))["message"]


async def test_a_node_that_is_waiting_for_its_next_start_can_be_held_and_a_held_one_be_stopped(bench: Bench) -> None:
    supervisor = await bench.supervisor()
    await bench.bind(supervisor, ["node-0"])
    config = bench.subnet.folder / "node.json"
    config.write_text("{}")
    supervisor.ask(op="hold", name="node-0")
    assert "never started" in (await supervisor.event("refused", "node-0"))["message"]
    supervisor.ask(op="start", name="node-0", config=str(config))
    await supervisor.event("exited", "node-0")
    supervisor.ask(op="hold", name="node-0", why="fault x")
    assert (await supervisor.event("held", "node-0"))["how"] == "killed as ordered (fault x)"
    supervisor.ask(op="stop", name="node-0")
    await supervisor.event("stopped", "node-0")
    assert [event["event"] for event in supervisor.told].count("started") == 1
