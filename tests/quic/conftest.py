"""A small world for real handshakes on loopback: an authority, identities, endpoints that are closed afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.quic import Connection, Endpoint, FixedIdentity, Message, Settings, Trust
from p2pnet.trust import Authority, Identity

SUBNET = "spiffe://p2pnet.test/ns/default/subnet/demo/node/"


class ChangingIdentity:
    """An IdentitySource that can be given a new pair."""

    def __init__(self, identity: Identity) -> None:
        self.current = identity
        self.version = 1

    def change(self, identity: Identity) -> None:
        self.current = identity
        self.version += 1


Until = Callable[..., Awaitable[None]]


class World:
    """What the tests share."""

    def __init__(self) -> None:
        self.authority = Authority.create("demo", now=datetime.now(UTC))
        self.endpoints: list[Endpoint] = []
        self.refused: list[Any] = []
        self.malformed: list[Any] = []
        self.received: list[Message] = []

    def uri(self, name: str) -> str:
        return SUBNET + name

    def identity(
        self, name: str, *, authority: Authority | None = None, ttl_s: float = 3600, bundle: bytes | None = None
    ) -> Identity:
        issuer = authority or self.authority
        leaf = issuer.issue(self.uri(name), now=datetime.now(UTC), ttl=timedelta(seconds=ttl_s))
        return Identity.of(leaf, bundle or self.authority.certificate_pem)

    def changing(self, identity: Identity) -> ChangingIdentity:
        return ChangingIdentity(identity)

    def expired(self, name: str) -> Identity:
        past = datetime.now(UTC) - timedelta(hours=2)
        leaf = self.authority.issue(self.uri(name), now=past, ttl=timedelta(hours=1))
        return Identity.of(leaf, self.authority.certificate_pem)

    def trust(self, identity: Any, admits: Callable[[str], str | None] = lambda _uri: None) -> Trust:
        source = FixedIdentity(identity) if isinstance(identity, Identity) else identity
        return Trust.subnet(source, admits)

    def echo(self, _connection: Connection, message: Message) -> None:
        self.received.append(message)
        if message.wants_reply:
            message.reply(message.payload, message.header)

    async def endpoint(self, name: str = "node-0", *, trust: Trust | None = None, **options: Any) -> Endpoint:
        options.setdefault("on_refused", lambda _address, error: self.refused.append(error))
        options.setdefault("on_malformed", lambda _connection, error: self.malformed.append(error))
        endpoint = await Endpoint.bind(trust=trust or self.trust(self.identity(name)), **options)
        self.endpoints.append(endpoint)
        return endpoint

    async def pair(
        self, settings: Settings | None = None, dialer: Settings | None = None, **options: Any
    ) -> tuple[Any, Any]:
        """The two ends of one connection, dialer's first; the server echoes unless told otherwise."""
        options.setdefault("on_message", self.echo)
        server = await self.endpoint("node-1", settings=settings, **options)
        client = await self.endpoint("node-0", settings=dialer or settings)
        connection = await client.connect(server.address)
        return connection, server.connections[0]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    for endpoint in world.endpoints:
        endpoint.close()
        await endpoint.wait_closed()


@pytest.fixture
def until() -> Until:
    """Await a condition, briefly."""

    async def wait(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            await asyncio.sleep(0.002)

    return wait
