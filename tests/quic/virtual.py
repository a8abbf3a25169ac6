"""Endpoints on a network in memory, in virtual time: every run is the same, and no test waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.quic.conftest import World

from p2pnet.quic import Address, Endpoint
from p2pnet.quic.memory import MemoryNetwork, MemoryTransport, run_virtual

LIMIT_S = 300.0
"""Virtual seconds after which a scenario counts as stuck, whatever its endpoints still ping."""
DEAD: Address = ("10.0.9.9", 9)
"""Nobody is there."""


class VirtualWorld(World):
    """As World, without sockets; each endpoint has an address of its own."""

    def __init__(self, **network: Any) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.network = MemoryNetwork(**network)
        self.reported: list[Any] = []
        """What callbacks raised."""
        self.loop.set_exception_handler(lambda _loop, context: self.reported.append(context.get("exception", context)))

    def transport(self) -> MemoryTransport:
        """One more, at an address of its own."""
        return self.network.transport((f"10.0.0.{len(self.endpoints) + 1}", 0))

    async def endpoint(self, name: str = "node-0", *, trust: Any = None, **options: Any) -> Endpoint:
        options.setdefault("transport", self.transport())
        return await super().endpoint(name, trust=trust, clock=self.loop.time, **options)

    async def servers(self, count: int, **options: Any) -> list[Endpoint]:
        """So many echoes."""
        options.setdefault("on_message", self.echo)
        return [await self.endpoint(f"node-{number + 1}", **options) for number in range(count)]


class Roaming:
    """A transport that can be given another address, as behind a translator that has rebooted."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.current = transport
        self.address = transport.address
        self.family = transport.family
        self.congested = False
        self.dropped = self.sent_bytes = self.received_bytes = 0
        self._started: tuple[Any, Any] | None = None

    def start(self, on_datagrams: Any, on_too_big: Any) -> None:
        """Begin."""
        self._started = (on_datagrams, on_too_big)
        self.current.start(on_datagrams, on_too_big)

    def move(self, transport: MemoryTransport) -> None:
        """Send and receive there from now on."""
        self.current.close()
        self.current = transport
        if self._started is not None:
            transport.start(*self._started)

    def send(self, datagrams: Any) -> None:
        """Send from the present address."""
        self.current.send(datagrams)

    def forget(self) -> None:
        """Nothing ever waits."""

    def close(self) -> None:
        """Stop."""
        self.current.close()


Scenario = Callable[[VirtualWorld], Awaitable[None]]


def play(scenario: Scenario, *, limit_s: float = LIMIT_S, **network: Any) -> VirtualWorld:
    """Run a scenario to its end; its endpoints are closed afterwards, and no task may be left then."""

    async def main() -> VirtualWorld:
        world = VirtualWorld(**network)
        try:
            await scenario(world)
        finally:
            for endpoint in world.endpoints:
                endpoint.close()
                await endpoint.wait_closed()
        await turns(5)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks outlive the scenario: {left}"
        return world

    return run_virtual(main(), limit_s=limit_s)


async def turns(count: int) -> None:
    """Let the loop turn so often; its clock stands meanwhile if anything is ready."""
    for _ in range(count):
        await asyncio.sleep(0)
