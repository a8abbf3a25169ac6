"""How peers answer: a handshake each, then echoes, and what path and certificate are like. Says nothing, judges nothing."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from statistics import median
from typing import Any, TypeAlias

from p2pnet.cli.documents import Certificate, Ping, RoundTrip
from p2pnet.model.errors import P2pnetError
from p2pnet.model.text import address_text
from p2pnet.quic import Address, BadAddress, CloseCode, Connection, ConnectionLost, Endpoint, Reachability, Trust

DIALS_AT_ONCE = 16
IN_TURN_S = (
    1.0  # echoes side by side measure each other: where it takes no longer than this, one peer follows the other
)
MTU_QUIET_S = 0.25  # a search for the path's MTU that has found nothing more for so long, or for 4 round trips, is over
MTU_S = 1.0  # the longest it is waited for, or 12 round trips
POLL_S = 0.02

_ANY: dict[int, Address] = {socket.AF_INET: ("0.0.0.0", 0), socket.AF_INET6: ("::", 0)}

Answer: TypeAlias = tuple[Ping, Exception | None]
"""What was seen of a peer, and why it did not answer."""


@dataclass(frozen=True, slots=True)
class ProbedPeer:
    """Whom to ask: the address as it was given, what it stands for, and the URI to be proved where that is known."""

    asked: str
    host: str
    port: int
    node: str = ""
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class _Dialled:
    connection: Connection
    reach: Reachability
    took_s: float


class Prober:
    """`async with Prober(...) as prober: await prober.probe(peers)`. Its sockets close with it."""

    def __init__(self, trust: Trust, *, count: int, timeout_s: float) -> None:
        """`count` echoes of each peer; `timeout_s` for its handshake and for every echo."""
        self._trust = trust
        self._count = count
        self._timeout_s = timeout_s
        self._reaches: dict[int, tuple[Endpoint, Reachability]] = {}

    async def __aenter__(self) -> "Prober":
        return self

    async def __aexit__(self, *_: object) -> None:
        for endpoint, _reach in self._reaches.values():
            endpoint.close(CloseCode.DONE, "pinged")
            await endpoint.wait_closed()

    async def probe(
        self, peers: Sequence[ProbedPeer], dialled: Callable[[int], None] = lambda _done: None
    ) -> list[Answer]:
        """All of them, in their order; `dialled` hears how many handshakes have ended. Raises EndpointError."""
        done = 0

        async def dial(peer: ProbedPeer) -> _Dialled | Exception:
            nonlocal done
            async with at_once:
                try:
                    return await self._dial(peer)
                except (P2pnetError, OSError) as error:
                    return error
                finally:
                    done += 1
                    dialled(done)

        at_once = asyncio.Semaphore(DIALS_AT_ONCE)
        connected = await asyncio.gather(*map(dial, peers))
        echoes_s = self._count * sum(one.connection.rtt_s for one in connected if isinstance(one, _Dialled))
        at_once = asyncio.Semaphore(1 if echoes_s < IN_TURN_S else DIALS_AT_ONCE)
        asking = (self._ask(peer, one, at_once) for peer, one in zip(peers, connected, strict=True))
        return await asyncio.gather(*asking)

    async def _dial(self, peer: ProbedPeer) -> _Dialled:
        try:
            async with asyncio.timeout(self._timeout_s):
                family, address = await _resolve(peer.host, peer.port)
        except TimeoutError as error:
            raise BadAddress(f"{peer.host}: its name server does not answer in {self._timeout_s:g} s") from error
        endpoint, reach = await self._bound(family)
        began = time.perf_counter()
        connection = await endpoint.connect(address, expect=peer.uri, new=True, timeout_s=self._timeout_s)
        return _Dialled(connection, reach, time.perf_counter() - began)

    async def _bound(self, family: int) -> tuple[Endpoint, Reachability]:
        if family not in self._reaches:
            endpoint = await Endpoint.bind(_ANY[family], trust=self._trust, listens=False)
            self._reaches[family] = (endpoint, Reachability(endpoint))
        return self._reaches[family]

    async def _ask(self, peer: ProbedPeer, one: _Dialled | Exception, at_once: asyncio.Semaphore) -> Answer:
        if isinstance(one, Exception):
            return Ping(address=peer.asked, node=peer.node, answered=False, error=str(one) or type(one).__name__), one
        connection = one.connection
        try:
            async with at_once:
                trips, seen_as = await self._echoes(one)
        except ConnectionLost as error:
            return Ping(address=peer.asked, node=peer.node, answered=False, error=str(error)), error
        ping = Ping(
            address=peer.asked,
            node=peer.node,
            answered=True,
            peer=address_text(*connection.address),
            handshake_ms=one.took_s * 1e3,
            echo=bool(trips),
            rtt_ms=RoundTrip(
                min=min(trips, default=None),
                median=median(trips) if trips else None,
                smoothed=connection.rtt_s * 1e3,
                echoes=len(trips),
            ),
            mtu_bytes=await _mtu(connection),
            seen_as=None if seen_as is None else address_text(*seen_as),
            certificate=_certificate(connection),
        )
        connection.close(CloseCode.DONE, "pinged")
        return ping, None

    async def _echoes(self, one: _Dialled) -> tuple[list[float], Address | None]:
        """Milliseconds of every echo, and our address in the last one; none of a peer that serves none. Raises ConnectionLost."""
        trips: list[float] = []
        seen_as: Address | None = None
        try:
            for _ in range(self._count):
                began = time.perf_counter()
                async with asyncio.timeout(self._timeout_s):
                    seen_as = await one.reach.seen_address(one.connection)
                trips.append((time.perf_counter() - began) * 1e3)
        except ConnectionLost:
            raise
        except (P2pnetError, TimeoutError):  # refused, answered with something else, or not at all
            pass
        return trips, seen_as


def _certificate(connection: Connection) -> Certificate | None:
    """What the peer proved; None where trust proves nothing."""
    seen = connection.peer
    if not seen.fingerprint:
        return None
    until = seen.not_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seen.not_after else ""
    return Certificate(uri=seen.uri, not_after=until, sha256=seen.fingerprint)


async def _mtu(connection: Connection) -> int:
    """Bytes of UDP payload that the path was found to carry, once the search for it is over."""
    began = quiet_since = time.perf_counter()
    found = connection.counters()["mtu_bytes"]
    while not connection.closed:
        now = time.perf_counter()
        rtt_s = connection.rtt_s
        if now - quiet_since > max(MTU_QUIET_S, 4 * rtt_s) or now - began > max(MTU_S, 12 * rtt_s):
            break
        await asyncio.sleep(POLL_S)
        if (larger := connection.counters()["mtu_bytes"]) != found:
            found, quiet_since = larger, time.perf_counter()
    return int(found)


async def _resolve(host: str, port: int) -> tuple[int, Address]:
    """Family and numeric address. Raises BadAddress.

    In a thread nobody waits for: the executor's would keep the whole program until a dead name server is given up.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def give(result: Any) -> None:
        if not answer.done():
            answer.set_result(result)

    def look_up() -> None:
        result: Any
        try:
            result = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(give, result)

    threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    found = await answer
    if isinstance(found, Exception):
        raise BadAddress(f"{host}: {getattr(found, 'strerror', None) or found}") from found
    family, *_, address = found[0]
    return int(family), (address[0], address[1])
