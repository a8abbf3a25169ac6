"""A peer that is killed and comes back: who spoke with it learns that in a round trip, not after the idle time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.ports import free_port

from p2pnet.quic import Address, ConnectionLost, Settings

if TYPE_CHECKING:
    from tests.quic.conftest import World

IDLE_S = 60.0
ROUND_TRIPS_S = IDLE_S / 6
"""Far more than two round trips take on a busy machine, far less than any timer of the connection."""

Start = Callable[[], "Peer"]


class Peer:
    """An echo in a process of its own."""

    def __init__(self, file: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("peer.py")), str(file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, "the peer did not start"
        host, port = json.loads(line)
        self.address: Address = (host, port)

    def kill(self) -> None:
        """SIGKILL: it sends no close."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Start]:
    """Starts a peer that is the same each time: identity, address and reset key."""
    identity = world.identity("node-1")
    bound = {
        "host": "127.0.0.1",
        "port": str(free_port()),
        "idle_s": str(IDLE_S),
        "reset_key": os.urandom(32).hex(),
        "chain": identity.chain_pem.decode(),
        "key": identity.key_pem.decode(),
        "bundle": identity.bundle_pem.decode(),
    }
    file = tmp_path / "peer.json"
    file.write_text(json.dumps(bound))
    with contextlib.ExitStack() as stack:

        def started() -> Peer:
            peer = Peer(file)
            stack.callback(peer.kill)
            return peer

        yield started


async def test_the_next_request_to_a_peer_that_came_back_fails_at_once_and_the_one_after_succeeds(
    world: World, start: Start
) -> None:
    peer = start()
    client = await world.endpoint("node-0", settings=Settings(idle_s=IDLE_S))
    connection = await client.connect(peer.address)
    assert (await connection.request(b"/x", b"before")).payload == b"before"
    peer.kill()
    assert start().address == peer.address
    async with asyncio.timeout(ROUND_TRIPS_S):
        with pytest.raises(ConnectionLost) as lost:
            await connection.request(b"/x", b"lost")
        again = await client.connect(peer.address)
        assert (await again.request(b"/x", b"after")).payload == b"after"
    assert lost.value.reason.kind == "reset"
    assert connection.close_reason.kind == "reset"
    assert again is not connection


async def test_whoever_waits_for_a_peer_that_came_back_learns_of_it_by_the_first_ping(
    world: World, start: Start
) -> None:
    peer = start()
    client = await world.endpoint("node-0", settings=Settings(idle_s=3.0))
    connection = await client.connect(peer.address)
    waiting = asyncio.ensure_future(connection.request(b"/wait", b"for ever"))
    assert (await connection.request(b"/x", b"before")).payload == b"before"
    peer.kill()
    start()
    with pytest.raises(ConnectionLost) as lost:
        await waiting
    assert lost.value.reason.kind == "reset"


async def test_without_the_key_of_its_former_life_a_peer_that_came_back_ends_nothing_early(
    world: World, start: Start, tmp_path: Path
) -> None:
    peer = start()
    client = await world.endpoint("node-0", settings=Settings(idle_s=1.5))
    connection = await client.connect(peer.address)
    peer.kill()
    file = tmp_path / "peer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"reset_key": os.urandom(32).hex()}))
    start()
    with pytest.raises(ConnectionLost) as lost:
        await connection.request(b"/x", b"lost")
    assert lost.value.reason.kind == "idle"
