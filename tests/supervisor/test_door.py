"""The port of a pod is open before the pod is: who asks early waits, and gets an answer when there is one."""

import asyncio
import socket
from pathlib import Path

import pytest
from tests.node.kit import Bench
from tests.patience import PATIENCE_S
from tests.supervisor.podkit import PodProcess

from p2pnet.supervisor.door import address_in, open_door


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ([], ("::", 8080)), (["--listen", "9"], ("::", 9)), (["x", "--listen=127.0.0.1:10", "y"], ("127.0.0.1", 10)),
        (["--listen", "[::1]:11"], ("::1", 11)), (["--listen"], ("::", 8080)), (["--listen", "many"], ("::", 8080)),
    ],
)  # fmt: skip
def test_the_address_is_the_one_that_is_asked_for(arguments: list[str], address: tuple[str, int]) -> None:
    assert address_in(arguments, "--listen", ("::", 8080)) == address


def test_a_door_is_open_to_both_families_and_one_that_cannot_be_opened_is_left_to_the_page() -> None:
    door = open_door("::", 0)
    assert door is not None
    port = door.getsockname()[1]
    with door, socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S):
        assert open_door("::", port) is None
    for host, wrong in (("no address", 0), ("127.0.0.1", 1 << 16)):
        assert open_door(host, wrong) is None


async def test_a_probe_that_comes_before_the_pod_has_started_is_answered_when_it_has(
    bench: Bench, tmp_path: Path
) -> None:
    pod = PodProcess(bench, tmp_path, ["node-0"])
    pod.write()
    await pod.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await first_connection(pod.page)
            said = b""
            while b" 200 " not in said:  # a busy machine may take longer than a page waits
                writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                said = await reader.readuntil(b"\r\n")
                assert said in (b"HTTP/1.1 200 \r\n", b"HTTP/1.1 503 \r\n"), "over the same connection"
                await reader.read(1 << 16)
            writer.close()
    finally:
        pod.process.kill()
        await pod.process.communicate()


async def first_connection(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
