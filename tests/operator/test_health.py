"""What the liveness probe hears of a replica, whether it acts or waits."""

import socket

import aiohttp
import pytest
from tests.ports import free_port

from p2pnet.model.errors import TargetError
from p2pnet.operator.__main__ import STUCK_S, check_alive
from p2pnet.operator.health import Health
from p2pnet.operator.kube.queue import Controller, Key, Workers
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.subnet.context import CHILDREN, SUBNET, SUBNET_LABEL


async def reconcile(_key: Key) -> float | None:
    return None


CONTROLLER = Controller(SUBNET, CHILDREN, SUBNET_LABEL, reconcile)


async def answer(port: int, host: str = "127.0.0.1", page: str = "healthz") -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/{page}") as said:
        return said.status, await said.text()


async def test_a_replica_that_waits_for_the_lease_is_alive_and_one_that_acts_only_with_its_workers() -> None:
    health, port = Health(), free_port()
    metrics = Metrics()
    workers = Workers([metrics.measured(CONTROLLER)])
    async with health.serving(port, "127.0.0.1"):
        assert await answer(port) == (200, "ok\n"), "it waits: the event loop runs"
        health.check = lambda: check_alive(workers, metrics)
        assert await answer(port) == (503, "the workers are stuck\n"), "they have not started"
        workers.start()
        assert await answer(port) == (200, "ok\n")
        await workers.stop()
        assert (await answer(port))[0] == 503
    with pytest.raises(aiohttp.ClientConnectorError):
        await answer(port)


needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


@needs_ipv6
async def test_health_and_metrics_are_served_on_both_families_of_addresses() -> None:
    health_port, metrics_port = free_port(), free_port()
    Metrics().serve(metrics_port)
    async with Health().serving(health_port):
        for host in ("127.0.0.1", "[::1]"):
            assert await answer(health_port, host) == (200, "ok\n")
            assert (await answer(metrics_port, host, "metrics"))[0] == 200


def test_a_reconciliation_that_never_ends_counts_as_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Metrics):
        longest_running_s = STUCK_S + 1

    monkeypatch.setattr(Workers, "alive", True)
    with pytest.raises(TargetError, match="stuck"):
        check_alive(Workers([CONTROLLER]), Stuck())


async def test_without_a_port_nothing_is_served_and_a_port_in_use_is_an_error() -> None:
    async with Health().serving(0):
        pass
    port = free_port()
    async with Health().serving(port, "127.0.0.1"):
        with pytest.raises(OSError, match="in use"):
            async with Health().serving(port, "127.0.0.1"):
                pass
