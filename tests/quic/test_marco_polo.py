"""examples/marco_polo.py: processes that find each other, serve many at once, and end cleanly."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.quic import Settings, StreamLost, Trust

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

EXAMPLE = Path(__file__).parents[2] / "examples" / "marco_polo.py"


class Peer:
    """One running example."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""

    async def says(self, pattern: str) -> str:
        """The next line, which must match."""
        line = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)).decode().rstrip()
        found = re.fullmatch(pattern, line)
        assert found, f"{line!r} is not {pattern!r}; {self.process.returncode=}"
        return found[1] if found.groups() else line

    async def end(self) -> None:
        """As Ctrl-C does: it says goodbye and nothing else."""
        self.process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        assert out.decode().splitlines()[-1] == "goodbye"
        assert "Traceback" not in err.decode()
        assert self.process.returncode == 0


class Peers:
    """Starts examples; what is left of them at the end of the test is killed."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []

    async def start(self, *arguments: str) -> Peer:
        process = await asyncio.create_subprocess_exec(
            sys.executable, EXAMPLE, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.processes.append(process)
        peer = Peer(process)
        peer.address = await peer.says(r"listening on (\S+)")
        return peer


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    peers = Peers()
    yield peers
    for process in peers.processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_one_says_marco_and_the_other_polo(peers: Peers) -> None:
    one = await peers.start()
    other = await peers.start(one.address)
    assert await other.says(r"(\S+) said polo") == one.address
    assert await one.says(r"(\S+) said marco") == other.address
    await other.end()
    await one.end()


async def test_a_peer_that_stays_keeps_nobody_waiting(peers: Peers) -> None:
    one = await peers.start()
    two = await peers.start(one.address)
    await two.says(r"\S+ said polo")
    three = await peers.start(one.address, two.address)
    answered = {await three.says(r"(\S+) said polo") for _ in range(2)}
    assert answered == {one.address, two.address}
    await one.says(r"\S+ said marco")
    assert await one.says(r"(\S+) said marco") == three.address


async def test_many_connections_are_served_at_once(peers: Peers, world: World) -> None:
    peer = await peers.start()
    host, port = peer.address.split(":")
    client = await world.endpoint(trust=Trust.anyone())
    connections = [await client.connect((host, int(port)), new=True) for _ in range(20)]
    replies = await asyncio.gather(*(one.request(b"", b"marco") for one in connections))
    assert [reply.payload for reply in replies] == [b"polo"] * 20
    with pytest.raises(StreamLost):
        await connections[0].request(b"", b"columbus")


async def test_a_peer_that_cannot_be_reached_is_said_and_the_others_are_asked(peers: Peers) -> None:
    one = await peers.start()
    two = await peers.start("127.0.0.1:0", one.address)
    assert "no peer listens on port 0" in await two.says(r"127.0.0.1:0: .*")
    assert await two.says(r"(\S+) said polo") == one.address
    await two.end()


async def test_it_ends_cleanly_while_it_dials(peers: Peers) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        peer = await peers.start("{}:{}".format(*silent.getsockname()))
        await peer.end()


async def test_a_stopped_process_is_given_up_after_the_idle_time(peers: Peers, world: World, until: Until) -> None:
    peer = await peers.start()
    host, port = peer.address.split(":")
    client = await world.endpoint(trust=Trust.anyone(), settings=Settings(idle_s=0.5))
    connection: Any = await client.connect((host, int(port)))
    peer.process.send_signal(signal.SIGSTOP)
    await until(lambda: connection.closed)
    assert connection.close_reason.kind == "idle"


def test_the_example_takes_only_the_quic_library() -> None:
    imported = set(re.findall(r"^(?:from|import) (p2pnet\S*)", EXAMPLE.read_text(), re.MULTILINE))
    assert imported == {"p2pnet.quic"}
