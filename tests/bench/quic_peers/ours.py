"""A peer on p2pnet.quic, through its public face, with the trust and the loop that a node has."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop
from tests.bench.quic_peers.load import WAIT_S, Options, cpu_s, drive, main, resident_bytes, say, shake_hands

from p2pnet.quic import Connection, Endpoint, FixedIdentity, Message, Settings, Trust
from p2pnet.trust import Authority, Identity

SUBNET = "spiffe://p2pnet.test/ns/default/subnet/demo/node/"


class CountingLoop(uvloop.Loop):
    """uvloop's, and how many of the timers set on it went off."""

    rings = 0

    def call_later(self, delay: float, callback: Any, *arguments: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return super().call_later(delay, self._ring, callback, *arguments, context=context)

    def _ring(self, callback: Callable[..., Any], *arguments: Any) -> None:
        self.rings += 1
        callback(*arguments)


def settings(options: Options) -> Settings:
    """Defaults, but for the size of datagrams and of messages."""
    given: dict[str, Any] = {"message_bytes_max": 64 << 20}
    if (size := options.get("datagram_bytes")) is not None:
        given["max_datagram_bytes"] = size
    return Settings(**given)


def identities() -> tuple[Identity, Identity]:
    """A server's and a client's, of one new authority."""
    now = datetime.now(UTC)
    authority = Authority.create("demo", now=now)
    leaves = (authority.issue(SUBNET + name, now=now, ttl=timedelta(hours=9)) for name in ("node-0", "node-1"))
    mine, theirs = (Identity.of(leaf, authority.certificate_pem) for leaf in leaves)
    return mine, theirs


def trust_of(options: Options) -> Trust:
    """What the client was given by the bench."""
    if options.get("anyone"):
        return Trust.anyone()
    chain, key, bundle = (options[part].encode() for part in ("chain", "key", "bundle"))
    return Trust.subnet(FixedIdentity(Identity(chain, key, bundle)))


async def server(options: Options) -> None:
    """Answers every request."""

    def on_message(_connection: Connection, message: Message) -> None:
        if message.header == COLLECT:
            gc.collect()
        if message.wants_reply:
            message.reply(b"ok")

    mine, theirs = identities()
    trust = Trust.anyone() if options.get("anyone") else Trust.subnet(FixedIdentity(mine))
    endpoint = options["held"] = await Endpoint.bind(trust=trust, settings=settings(options), on_message=on_message)
    say(
        port=endpoint.address[1],
        chain=theirs.chain_pem.decode(),
        key=theirs.key_pem.decode(),
        bundle=theirs.bundle_pem.decode(),
    )


async def client(options: Options) -> dict[str, Any]:
    """Drive the load; or with `handshakes`, dial so often; or with `idle_connections`, hold so many for `rest_s`."""
    async with await Endpoint.bind(trust=trust_of(options), settings=settings(options)) as endpoint:
        to = ("127.0.0.1", options["port"])
        if "idle_connections" in options:
            return await rest(options, endpoint, to)
        if "handshakes" in options:

            async def dial() -> None:
                (await endpoint.connect(to, new=True)).close()

            return await shake_hands(options, dial)
        connection = await endpoint.connect(to)

        async def ask(payload: bytes) -> None:
            await connection.request(b"", payload, timeout_s=WAIT_S)

        async def send(payload: bytes) -> None:
            await connection.send(b"", b"", payload)

        loop = asyncio.get_running_loop()
        before = loop.rings if isinstance(loop, CountingLoop) else 0
        found = await drive(options, send if options.get("uni") else ask)
        if isinstance(loop, CountingLoop):
            found["rings"] = loop.rings - before
        return found


async def rest(options: Options, endpoint: Endpoint, to: tuple[str, int]) -> dict[str, Any]:
    """Memory per connection and CPU per second of either end, while nothing happens."""
    server = options["server_pid"]
    held = [await endpoint.connect(to, new=True) for _ in range(20)]

    async def settled() -> tuple[int, int]:
        await held[0].request(COLLECT, b"x")
        gc.collect()
        await asyncio.sleep(0.5)
        return resident_bytes(os.getpid()), resident_bytes(server)

    before = await settled()
    count = options["idle_connections"]
    held += [await endpoint.connect(to, new=True) for _ in range(count)]
    after = await settled()
    cpu, server_cpu = time.process_time(), cpu_s(server)
    await asyncio.sleep(options["rest_s"])
    return {
        "client_bytes": (after[0] - before[0]) / count,
        "server_bytes": (after[1] - before[1]) / count,
        "client_cpu_share": (time.process_time() - cpu) / options["rest_s"],
        "server_cpu_share": (cpu_s(server) - server_cpu) / options["rest_s"],
        "alive": sum(not one.closed for one in held[-count:]),
    }


def loop_of(options: Options) -> asyncio.AbstractEventLoop:
    """A node's, or one that counts."""
    return CountingLoop() if options.get("count_timers") else uvloop.new_event_loop()


COLLECT = b"/collect"

if __name__ == "__main__":
    main(server, client, loop_of)
