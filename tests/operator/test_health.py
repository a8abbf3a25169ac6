"""What the liveness probe hears of a replica, whether it acts or waits."""

import aiohttp
import pytest
from tests.ports import free_port

from p2pnet.model.errors import TargetError
from p2pnet.operator.__main__ import STUCK_S, _alive
from p2pnet.operator.health import Health
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.queue import Key, Workers

KEY = Key("default", "demo")


async def answer(port: int) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as said:
        return said.status, await said.text()


async def test_a_replica_that_waits_for_the_lease_is_alive_and_one_that_acts_only_with_its_workers() -> None:
    health, port = Health(), free_port()
    metrics = Metrics()
    workers = Workers(lambda _key: metrics.watched(KEY, look))
    async with health.serving(port, "127.0.0.1"):
        assert await answer(port) == (200, "ok\n"), "it waits: the loop turns"
        health.check = lambda: _alive(workers, metrics)
        assert await answer(port) == (503, "the workers are stuck\n"), "they have not started"
        workers.start()
        assert await answer(port) == (200, "ok\n")
        await workers.stop()
        assert (await answer(port))[0] == 503
    with pytest.raises(aiohttp.ClientConnectorError):
        await answer(port)


async def look(_key: Key) -> float | None:
    return None


def test_a_look_that_never_ends_is_no_life(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Metrics):
        longest_look_s = STUCK_S + 1

    monkeypatch.setattr(Workers, "alive", True)
    with pytest.raises(TargetError, match="stuck"):
        _alive(Workers(look), Stuck())


async def test_without_a_port_nothing_is_served_and_a_port_in_use_is_an_error() -> None:
    async with Health().serving(0):
        pass
    port = free_port()
    async with Health().serving(port, "127.0.0.1"):
        with pytest.raises(OSError, match="in use"):
            async with Health().serving(port, "127.0.0.1"):
                pass
