"""A process that stood still, or a machine that did, does not take its peers for dead; and still gives up those that are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.quic.virtual import VirtualWorld, play

from p2pnet.quic import Connection, Settings
from p2pnet.quic.memory import VirtualLoop

IDLE_S = 15.0


async def linked(world: VirtualWorld) -> tuple[Connection, Connection, Any]:
    """Both ends of a connection that nothing is in flight on, and what stands still with them for so many seconds."""
    settings = Settings(idle_s=IDLE_S)
    server = await world.endpoint("node-1", on_message=world.echo, settings=settings)
    client = await world.endpoint("node-0", settings=settings)
    connection = await client.connect(server.address)
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    [other] = server.connections
    return connection, other, loop.advance


@pytest.mark.parametrize("stalled_s", [5.0, 16.0, 40.0, 600.0])
def test_a_machine_that_stood_still_loses_no_link(stalled_s: float) -> None:
    async def scenario(world: VirtualWorld) -> None:
        here, there, stand_still = await linked(world)
        stand_still(stalled_s)
        await asyncio.sleep(2 * IDLE_S)
        assert (here.close_reason, there.close_reason) == (None, None)
        assert (await asyncio.wait_for(here.request(b"/echo", b"x"), 5)).payload == b"x"

    play(scenario, delay_s=0.05, limit_s=1_000)


def test_nor_does_what_was_on_its_way_count_as_never_acknowledged() -> None:
    async def scenario(world: VirtualWorld) -> None:
        here, there, stand_still = await linked(world)
        sending = asyncio.ensure_future(here.send(b"/x", b"", b"x" * 2_000))
        await asyncio.sleep(0.02)  # not yet there
        stand_still(40)
        await sending
        assert (here.close_reason, there.close_reason) == (None, None)

    play(scenario, delay_s=0.05)


def test_a_peer_that_is_gone_is_given_up_all_the_same() -> None:
    async def scenario(world: VirtualWorld) -> None:
        here, _, stand_still = await linked(world)
        world.network.on_send = lambda *_: False
        stand_still(40)
        await asyncio.sleep(IDLE_S + 3)
        assert here.close_reason is not None

    play(scenario, delay_s=0.05)


def test_a_process_that_stands_still_again_and_again_gives_up_a_peer_that_is_gone() -> None:
    async def scenario(world: VirtualWorld) -> None:
        here, _, stand_still = await linked(world)
        world.network.on_send = lambda *_: False
        for _ in range(10):
            await asyncio.sleep(1)
            stand_still(5)
        assert here.close_reason is not None

    play(scenario, delay_s=0.05)
