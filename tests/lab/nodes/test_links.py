"""The lab's links with nodes: which address is dialled, and when."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

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


async def test_a_node_whose_name_leads_to_another_address_meanwhile_is_dialled_there(
    authority: Authority, node: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that was made again keeps its name alone, and nobody answers at its former address."""
    monkeypatch.setattr(links, "DIAL_S", 3600.0)
    monkeypatch.setattr(links, "LOOK_S", 0.01)
    found = "127.0.0.2"

    async def lead(_host: str, port: int, **_more: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (found, port))]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", lead)
    lab = Links(identity(authority, lab_uri("p2pnet", "default", "demo")), lambda _node: True)
    up = asyncio.Event()
    lab.on_up = lambda _node: up.set()
    await lab.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.setblocking(False)
        silent.bind((found, node.address[1]))
        lab.follow([Member("node-0", URI, [f"node-0.nodes:{node.address[1]}"])])
        await loop.sock_recv(silent, 2048)  # it is dialled
        found = "127.0.0.1"
        await up.wait()
    await lab.close()


async def test_only_a_node_that_misbehaves_so_may_show_the_lab_a_leaf_that_has_ended(authority: Authority) -> None:
    now = datetime.now(UTC)
    ended = authority.issue(URI, now=now - timedelta(minutes=4), ttl=timedelta(minutes=2))
    old = FixedIdentity(Identity.of(ended, authority.certificate_pem))
    endpoint = await Endpoint.bind(trust=Trust.subnet(old, lambda _uri: None))
    for stale, is_up in ((["node-0"], True), ([], False)):
        lab = Links(
            identity(authority, lab_uri("p2pnet", "default", "demo")),
            lambda _node: True,
            stale=stale.copy,
        )
        up = asyncio.Event()
        lab.on_up = partial(_set, up)
        await lab.open()
        lab.follow([Member("node-0", URI, [f"127.0.0.1:{endpoint.address[1]}"])])
        if is_up:
            await up.wait()
        else:
            while "expired" not in lab.problems.get("node-0", ""):
                await asyncio.sleep(0.01)
        assert lab.connected("node-0") is is_up
        await lab.close()
    endpoint.close()
    await endpoint.wait_closed()


def _set(event: asyncio.Event, _node: str) -> None:
    event.set()


async def test_a_dial_begun_before_anybody_could_answer_makes_way_for_another(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its packets ever longer pauses pass, for which a node that serves now would wait."""
    monkeypatch.setattr(links, "DIAL_S", 3600.0)
    lab = Links(identity(authority, lab_uri("p2pnet", "default", "demo")), lambda _node: True)
    await lab.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.setblocking(False)
        silent.bind(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        lab.follow([Member("node-0", URI, [f"127.0.0.1:{silent.getsockname()[1]}"])])
        first = destination_of(await asyncio.wait_for(loop.sock_recv(silent, 2048), 30))
        lab.dial_anew("node-0")
        while destination_of(await asyncio.wait_for(loop.sock_recv(silent, 2048), 30)) == first:
            pass
        await lab.close()


def destination_of(initial: bytes) -> bytes:
    """The connection ID that a dial chose for the other side."""
    return initial[6 : 6 + initial[5]]
