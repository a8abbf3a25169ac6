"""The lab's links with nodes: which address is dialled, and when."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from p2pnet.lab.nodes import links
from p2pnet.lab.nodes.links import Links
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.registry import Member
from p2pnet.quic import Endpoint, FixedIdentity, Trust
from p2pnet.trust import Authority, Identity

URI = member_uri("p2pnet", "default", "demo", "node-0")


@pytest.fixture
def authority() -> Authority:
    return Authority.create("demo", now=datetime.now(UTC))


def identity(authority: Authority, uri: str) -> FixedIdentity:
    leaf = authority.issue(uri, now=datetime.now(UTC), ttl=timedelta(hours=1))
    return FixedIdentity(Identity.of(leaf, authority.certificate_pem))


@pytest.fixture
async def node(authority: Authority) -> AsyncIterator[Endpoint]:
    """A node, which listens."""
    endpoint = await Endpoint.bind(trust=Trust.subnet(identity(authority, URI), lambda _uri: None))
    yield endpoint
    endpoint.close()
    await endpoint.wait_closed()


async def test_a_node_that_has_another_address_now_is_dialled_there_at_once(
    authority: Authority, node: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that was made again has another address, and nobody answers at the former one."""
    monkeypatch.setattr(links, "DIAL_S", 3600.0)
    lab = Links(identity(authority, lab_uri("p2pnet", "default", "demo")), lambda _node: True)
    up = asyncio.Event()
    lab.on_up = lambda _node: up.set()
    await lab.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.setblocking(False)
        silent.bind(("127.0.0.1", 0))
        lab.follow([Member("node-0", URI, [f"127.0.0.1:{silent.getsockname()[1]}"])])
        await asyncio.get_running_loop().sock_recv(silent, 2048)  # it is dialled
        lab.follow([Member("node-0", URI, [f"127.0.0.1:{node.address[1]}"])])
        await up.wait()
    await lab.close()
