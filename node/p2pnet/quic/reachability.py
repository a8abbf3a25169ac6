"""Who am I to others, and can they reach me: address echo, a fresh dial, and a dial back from another socket.

Served inside the endpoint, unseen by its `on_message`.
"""

import ipaddress
import logging
from collections.abc import Callable
from typing import Any

from p2pnet.model.text import address_text
from p2pnet.quic.addresses import Address
from p2pnet.quic.connection import Connection
from p2pnet.quic.endpoint import Endpoint
from p2pnet.quic.errors import CloseCode, FrameError, StreamCode
from p2pnet.quic.message import Message

log = logging.getLogger(__name__)

ROUTE_ECHO = b"/reach/echo"
ROUTE_DIAL_BACK = b"/reach/dial-back"
DIAL_BACK_EVERY_S = 5.0  # for one peer: nobody makes us knock at doors at will
ANSWER_S = 30.0

_ADDRESS_BYTES_MAX = 64


class Reachability:
    """Adds the two routes to an endpoint; make it before anything connects. Every bound peer needs one to answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._rest: Callable[[Connection, Message], None] | None = endpoint.on_message
        self._dialled_back: dict[str, float] = {}
        endpoint.on_message = self._on_message

    async def seen_address(self, connection: Connection) -> Address:
        """The address this peer sees us at. Raises QuicError, FrameError for an answer that is no address."""
        return await _ask_echo(connection)

    async def is_reachable(self, address: Address, *, expect: str | None = None, timeout_s: float = ANSWER_S) -> None:
        """Return if a fresh connection to this address works and answers sensibly; raise what failed otherwise."""
        connection = await self._endpoint.connect(address, expect=expect, new=True, timeout_s=timeout_s)
        try:
            await _ask_echo(connection)
        finally:
            connection.close(CloseCode.DONE, "reachable")

    async def dial_back(self, connection: Connection, port: int) -> bool:
        """Whether this peer could reach us at our host, as it sees it, and this port, from a socket of its own.

        A new socket: a hole that our own packets punched would prove nothing.
        """
        reply = await connection.request(ROUTE_DIAL_BACK, b"%d" % port, timeout_s=2 * ANSWER_S)
        return reply.payload == b"yes"

    def public_address(
        self, seen: Address | None, *, external_ip: str | None = None, external_port: int | None = None
    ) -> Address:
        """What to tell others: each part as configured, else as a peer sees it, else the local one.

        Where what is configured differs from what a peer sees, that is said in the log: one of them is wrong, or there
        is a translator of addresses between.
        """
        host, port = seen or self._endpoint.address
        told = (external_ip or host, external_port or port)
        if seen is not None and told != seen:
            log.warning("configured as %s, but a peer sees %s", address_text(*told), address_text(*seen))
        return told

    def _on_message(self, connection: Connection, message: Message) -> None:
        if message.header == ROUTE_ECHO and message.wants_reply:
            host, port = connection.address
            message.reply(f"{host} {port}".encode())
        elif message.header == ROUTE_DIAL_BACK and message.wants_reply:
            self._on_dial_back(connection, message)
        elif self._rest is not None:
            self._rest(connection, message)

    def _on_dial_back(self, connection: Connection, message: Message) -> None:
        """Dial only the host that asks, and not often: else anybody could aim us at anybody."""
        now = self._endpoint.clock()
        host = connection.address[0]
        self._dialled_back = {peer: at for peer, at in self._dialled_back.items() if now - at < DIAL_BACK_EVERY_S}
        digits = message.payload
        if host in self._dialled_back or len(digits) > 5 or not digits.isdigit() or not 0 < int(digits) < 65_536:
            message.refuse(StreamCode.UNWANTED)
            return
        self._dialled_back[host] = now
        task = self._endpoint.loop.create_task(self._knock((host, int(digits)), connection.uri or None))
        task.add_done_callback(lambda done: message.reply(b"yes" if not done.cancelled() and done.result() else b"no"))

    async def _knock(self, address: Address, expect: str | None) -> bool:
        own = self._endpoint
        try:
            probe = await Endpoint.bind((own.address[0], 0), trust=own.trust, settings=own.settings)
            async with probe:
                await _ask_echo(await probe.connect(address, expect=expect, timeout_s=ANSWER_S))
        except Exception:  # noqa: BLE001  # whatever failed, the answer is no
            return False
        return True


async def _ask_echo(connection: Any) -> Address:
    reply = await connection.request(ROUTE_ECHO, b"?", timeout_s=ANSWER_S, reply_bytes_max=_ADDRESS_BYTES_MAX)
    try:
        host, port = reply.payload.decode().split(" ")
        ipaddress.ip_address(host.partition("%")[0])
        return (host, int(port))
    except ValueError as error:
        raise FrameError("reserved", f"no address in the echo: {reply.payload!r}") from error
