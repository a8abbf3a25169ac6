"""Probes and scrapes of a real node in this process."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.node.kit import Bench
from tests.patience import PATIENCE_S
from tests.ports import free_port

from p2pnet.model.config import read_node_config
from p2pnet.node import health
from p2pnet.node.service import Service
from p2pnet.peering.clock import mono_ns


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
        service.peers.last_linked_ns = mono_ns() - 29_000_000_000
        assert service.unready() == ""
        service.peers.last_linked_ns = mono_ns() - 31_000_000_000
        assert service.unready() == "no peer for 30 s"
    finally:
        await service.stop()


async def say(url: str, text: bytes) -> bytes:
    """All that the page answers to these bytes until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(text)
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE_S)
    finally:
        writer.close()


@pytest.fixture
async def page(bench: Bench) -> AsyncIterator[str]:
    service, url = await start(bench, ["node-0"])
    yield url
    await service.stop()


async def test_one_connection_asks_again_and_again_until_it_has_enough(page: str) -> None:
    asked = b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n"
    last = b"HEAD /readyz?verbose HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"

    said = await say(page, asked + asked + last)

    assert said.count(b"HTTP/1.1 200") == 3
    assert said.count(b"ok\n") == 2  # an answer to HEAD has no body


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b"\x16\x03\x01 is no HTTP\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /healthz HTTP/1.1\r\nHost: node\r\nX: " + b"x" * 9000, b"HTTP/1.1 431"),
        (b"POST /healthz HTTP/1.1\r\nHost: node\r\nContent-Length: 1\r\n\r\nx", b"HTTP/1.1 413"),
        (b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n", b"HTTP/1.1 404"),
    ],
)
async def test_what_is_no_request_for_a_page_is_answered_and_ended(page: str, text: bytes, answer: bytes) -> None:
    assert (await say(page, text)).startswith(answer)


async def test_who_asks_nothing_is_hung_up_on(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "IDLE_S", 0.05)

    assert await say(page, b"GET /healthz HTT") == b""


async def test_no_more_than_so_many_are_heard_at_once(page: str, http: aiohttp.ClientSession) -> None:
    port = int(page.rpartition(":")[2])
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(health.CONNECTIONS_MAX)]
    try:
        with contextlib.suppress(ConnectionResetError):
            assert await say(page, b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n") == b""
    finally:
        for _, writer in silent:
            writer.close()

    async with asyncio.timeout(PATIENCE_S):
        while True:  # until those have been seen to be gone
            with contextlib.suppress(aiohttp.ClientError):
                assert (await http.get(f"{page}/healthz")).status == 200
                break


async def test_a_health_port_in_use_keeps_the_node_from_starting(bench: Bench) -> None:
    service, url = await start(bench, ["node-0"])
    try:
        taken = int(url.rpartition(":")[2])
        with pytest.raises(OSError, match="ddress already in use"):
            await bench.serve("node-0", health_port=taken)
    finally:
        await service.stop()


def test_what_nodes_are_forked_from_has_imported_no_web_server() -> None:
    code = (
        "import sys, p2pnet.node.__main__; from p2pnet.supervisor import child; child.warm_up();"
        "sys.exit(' '.join({'aiohttp', 'prometheus_client'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
