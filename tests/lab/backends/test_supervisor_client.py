"""The lab's client of a real supervisor."""

import asyncio
import os
import signal
import socket

from tests.patience import PATIENCE_S

from p2pnet.lab.backends.backend import Process
from p2pnet.lab.backends.supervisor_client import SupervisorClient, SupervisorEvent, process_after


async def test_a_supervisor_binds_and_takes_another_port_when_one_is_in_use():
    changed: list[str] = []
    lost: list[str] = []
    supervisor = SupervisorClient(changed.append, lost.append)
    await supervisor.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = await supervisor.bind("node-0", "127.0.0.1", taken.getsockname()[1])
        assert port not in (0, taken.getsockname()[1])
    assert supervisor.process("node-9") == Process()
    await supervisor.stop("node-0")
    await supervisor.close()
    assert lost == []


async def test_a_supervisor_that_dies_is_noticed():
    lost: asyncio.Queue[str] = asyncio.Queue()
    supervisor = SupervisorClient(lambda _node: None, lost.put_nowait)
    await supervisor.open()
    await supervisor.bind("node-0", "127.0.0.1", 0)
    os.kill(supervisor.pid, signal.SIGKILL)
    assert "supervisor ended" in await asyncio.wait_for(lost.get(), PATIENCE_S)
    await supervisor.close()


def test_what_is_told_of_a_node_that_is_held_and_of_a_pause_that_lapsed():
    running = Process("running", 7, 1)
    held = process_after(
        SupervisorEvent("exited", pid=7, restarts=1, how="killed as ordered (fault x)", order="x"), running
    )
    assert held == Process("stopped", None, 1, "killed as ordered (fault x)")
    waiting = Process("restarting", None, 1, "starts again in 3 s")
    assert process_after(SupervisorEvent("held", how="killed as ordered (fault x)"), waiting) == held
    assert process_after(SupervisorEvent("started", pid=8, restarts=2), held) == Process("starting", 8, 2)
    paused = Process("paused", 7, 1, "paused by fault x")
    assert process_after(SupervisorEvent("lapsed", pid=7), paused) == running
    assert process_after(SupervisorEvent("lapsed", pid=7), Process("starting", 8, 2)) is None
