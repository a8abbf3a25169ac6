"""Probes and scrapes of a real node in this process."""

import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.node.kit import Bench, free_port

from p2pnet.model.config import read_node_config
from p2pnet.node.clock import mono_ns
from p2pnet.node.service import Service


async def start(bench: Bench, members: list[str]) -> tuple[Service, str]:
    subnet, port = bench.subnet, free_port()
    config = subnet.write_node("node-0", health_port=port)
    subnet.ports = dict.fromkeys(members, 9)
    subnet.write_members(subnet.membership(1, members))
    return await Service.start(read_node_config(config), config.parent), f"http://127.0.0.1:{port}"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_node_with_no_peers_to_want_is_ready_and_measured(bench: Bench, http: aiohttp.ClientSession) -> None:
    service, url = await start(bench, ["node-0"])
    try:
        assert (await http.get(f"{url}/healthz")).status == 200
        assert (await http.get(f"{url}/readyz")).status == 200
        page = await (await http.get(f"{url}/metrics")).text()
        assert "p2pnet_node_ready 1.0" in page
        assert 'p2pnet_node_events_total{kind="members"} 1.0' in page
        assert 'p2pnet_node_pool_artifacts{client="blob"} 0.0' in page
        assert (await http.post(f"{url}/healthz")).status == 405
    finally:
        await service.stop()
    assert service.unready() == "stopping"


async def test_a_node_that_wants_peers_is_unready_until_it_has_one(bench: Bench, http: aiohttp.ClientSession) -> None:
    service, url = await start(bench, ["node-0", "node-1"])
    try:
        response = await http.get(f"{url}/readyz")
        assert (response.status, await response.text()) == (503, "no peer yet\n")
        assert "p2pnet_node_ready 0.0" in await (await http.get(f"{url}/metrics")).text()
    finally:
        await service.stop()


async def test_a_node_that_lost_all_peers_is_unready_after_30_s_only(bench: Bench) -> None:
    service, _ = await start(bench, ["node-0", "node-1"])
    try:
        service._peers.last_linked_ns = mono_ns() - 29_000_000_000
        assert service.unready() == ""
        service._peers.last_linked_ns = mono_ns() - 31_000_000_000
        assert service.unready() == "no peer for 30 s"
    finally:
        await service.stop()


async def test_a_health_port_in_use_keeps_the_node_from_starting(bench: Bench) -> None:
    service, url = await start(bench, ["node-0"])
    try:
        taken = int(url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            await bench.serve("node-0", health_port=taken)
    finally:
        await service.stop()


def test_a_node_without_a_health_page_imports_no_web_server() -> None:
    code = (
        "import sys, p2pnet.node.__main__; sys.exit(' '.join({'aiohttp', 'prometheus_client'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
