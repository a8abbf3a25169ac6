"""What a pack promises, with real processes under a real supervisor."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.node.kit import Bench, SupervisorProcess, until, until_gone
from tests.running import is_running

NAMES = ["node-0", "node-1", "node-2"]


async def packed(bench: Bench, names: Sequence[str] = NAMES, *options: str, pack: str = "node-0") -> SupervisorProcess:
    """A supervisor with these nodes in one pack, ready and connected."""
    supervisor = await bench.supervisor(*options)
    await bench.bind(supervisor, names)
    bench.subnet.write_members(bench.subnet.membership(1, names))
    for name in names:
        start(bench, supervisor, name, pack=pack)
    for name in names:
        await supervisor.event("ready", name)
    for name in names:
        await bench.until_connected(name)
    return supervisor


def start(bench: Bench, supervisor: SupervisorProcess, name: str, *, pack: str = "node-0", **settings: Any) -> None:
    supervisor.ask(op="start", name=name, config=str(bench.subnet.write_node(name, **settings)), pack=pack)


@pytest.mark.parametrize("how", ["fork", "spawn"])
async def test_a_pack_is_one_process_that_dies_as_one_and_comes_back_on_the_same_ports(bench: Bench, how: str) -> None:
    supervisor = await packed(bench, NAMES, "--start", how)
    [pid] = {supervisor.pid(name) for name in NAMES}
    assert {(await bench.peers(name)).pid for name in NAMES} == {pid}
    first = [(await bench.peers(name)).incarnation for name in NAMES]
    assert len(set(first)) == 3
    supervisor.ask(op="kill", name="node-1")
    for name in NAMES:
        dead = await supervisor.event("exited", name)
        assert (dead["pid"], dead["code"], dead["restarts"]) == (pid, -signal.SIGKILL, 1)
        bench.forget(name)
    for name in NAMES:
        assert (await supervisor.event("ready", name))["pid"] not in (None, pid)
    for name in NAMES:
        state = await bench.until_connected(name)
        assert state.address == f"127.0.0.1:{bench.subnet.ports[name]}"
        assert state.incarnation not in first
    supervisor.ask(op="quit")
    assert await supervisor.process.wait() == 0
    await until_gone([supervisor.pid("node-0")])


async def test_a_node_that_cannot_start_keeps_nobody_of_its_pack_from_it(bench: Bench) -> None:
    supervisor = await bench.supervisor()
    await bench.bind(supervisor, NAMES)
    bench.subnet.write_members(bench.subnet.membership(1, NAMES))
    bad = bench.subnet.write_node("node-1")
    good = bad.read_bytes()
    bad.write_text("{}")
    for name in NAMES:
        config = bad if name == "node-1" else bench.subnet.write_node(name)
        supervisor.ask(op="start", name=name, config=str(config), pack="p")
    for pause in (0.2, 0.4):
        ended = await supervisor.event("exited", "node-1")
        assert (ended["code"], ended["restart_in_s"]) == (2, pause)
    ready = {name: (await supervisor.event("ready", name))["pid"] for name in ("node-0", "node-2")}
    assert "not a node config" in bad.with_name("node.log").read_text()
    bad.write_bytes(good)  # read at every start
    assert (await supervisor.event("ready", "node-1"))["pid"] == ready["node-0"] == ready["node-2"]
    for name in NAMES:
        await bench.until_connected(name)


async def test_nodes_join_leave_and_restart_without_their_siblings(bench: Bench) -> None:
    supervisor = await packed(bench, ["node-0", "node-1"])
    keeper = await bench.peers("node-0")
    await bench.bind(supervisor, ["node-2"])
    bench.subnet.write_members(bench.subnet.membership(2, NAMES))
    start(bench, supervisor, "node-2")
    assert (await supervisor.event("ready", "node-2"))["pid"] == keeper.pid
    await bench.until_connected("node-2")

    before = (await bench.peers("node-1")).incarnation
    supervisor.ask(op="restart", name="node-1")
    assert (await supervisor.event("exited", "node-1"))["code"] == 0
    bench.forget("node-1")
    assert (await supervisor.event("ready", "node-1"))["pid"] == keeper.pid
    assert (await bench.until_connected("node-1")).incarnation != before

    supervisor.ask(op="stop", name="node-2")
    assert (await supervisor.event("exited", "node-2"))["code"] == 0
    await supervisor.event("stopped", "node-2")
    assert (await bench.peers("node-0")).incarnation == keeper.incarnation
    assert open_sockets(keeper.pid, bench.subnet.ports.values()) == 2
    for name in ("node-0", "node-1"):
        supervisor.ask(op="stop", name=name)
        await supervisor.event("stopped", name)
    await until_gone([keeper.pid])  # nobody wants an empty pack


def open_sockets(pid: int, ports: Any) -> int:
    """How many UDP sockets of these ports a process has open."""
    inodes = {line.split()[9]: int(line.split()[1].split(":")[1], 16) for line in udp_table(pid)}
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(inodes.get(link[8:-1]) in set(ports) for link in links if link.startswith("socket:"))


def udp_table(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]


async def test_each_node_of_a_pack_writes_its_own_log(bench: Bench) -> None:
    await packed(bench)
    for name in NAMES:
        log = (bench.subnet.folder / name / "node.log").read_text()
        assert f"{name} serves on" in log
        assert all(f"{other} serves on" not in log for other in NAMES if other != name)


async def test_a_paused_pack_can_be_stopped_and_takes_nobody_else_along(bench: Bench) -> None:
    supervisor = await packed(bench, NAMES[:2])
    pid = supervisor.pid("node-0")
    supervisor.ask(op="pause", name="node-0")

    async def stopped() -> bool:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    await until(stopped, "the pack is paused")
    supervisor.ask(op="stop", name="node-1")
    await supervisor.event("stopped", "node-1")
    assert is_running(pid)
    supervisor.process.send_signal(signal.SIGTERM)
    assert (await supervisor.event("exited", "node-0"))["code"] == 0
    assert await supervisor.process.wait() == 0
    await until_gone([pid])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the parent-death signal is Linux's")
async def test_a_pack_ends_with_its_supervisor_and_in_good_order_by_a_signal(bench: Bench) -> None:
    supervisor = await packed(bench)
    pid = supervisor.pid("node-0")
    os.kill(pid, signal.SIGTERM)
    for name in NAMES:
        assert (await supervisor.event("exited", name))["code"] == 0
        await supervisor.event("ready", name)
    again = supervisor.pid("node-0")
    os.kill(again, signal.SIGSTOP)
    supervisor.process.kill()
    await until_gone([pid, again])


async def test_a_pack_of_which_one_node_is_held_is_dead_as_a_whole_until_one_is_released(bench: Bench) -> None:
    supervisor = await packed(bench, NAMES)
    pid = supervisor.pid("node-0")
    supervisor.ask(op="hold", name="node-1", why="fault x")
    for name in NAMES:
        dead = await supervisor.event("exited", name)
        assert (dead["pid"], dead["restart_in_s"], dead["how"]) == (pid, None, "killed as ordered (fault x)")
        bench.forget(name)
    supervisor.ask(op="release", name="node-2")
    for name in NAMES:
        await supervisor.event("ready", name)
    assert len({supervisor.pid(name) for name in NAMES} - {pid}) == 1
    for name in NAMES:
        await bench.until_connected(name)
