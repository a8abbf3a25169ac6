"""Reachability: which address a peer sees, and whether others can dial it; by echo, a fresh dial, and a dial back.

Its two routes are handlers of the endpoint: `on_message` does not see their messages.
"""

import ipaddress
import logging
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
DIAL_BACK_EVERY_S = 5.0
"""Least time between two dials back for one host: nobody may use this node to scan ports or to flood others."""
ANSWER_S = 30.0
"""How long to wait for an echo, or for a dial."""

_ADDRESS_BYTES_MAX = 64


class Reachability:
    """Adds the routes of echo and dial-back to an endpoint; a peer needs one to answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._dialled_back: dict[str, float] = {}
        endpoint.handlers[ROUTE_ECHO] = self._on_echo
        endpoint.handlers[ROUTE_DIAL_BACK] = self._on_dial_back

    async def seen_address(self, connection: Connection) -> Address:
        """This endpoint's address as the peer sees it. Raises QuicError, FrameError for an answer that is no address."""
        return await _ask_echo(connection)

    async def is_reachable(self, address: Address, *, expect: str | None = None, timeout_s: float = ANSWER_S) -> None:
        """Return if a fresh connection to this address can be made and answers an echo; else raise what failed."""
        connection = await self._endpoint.connect(address, expect=expect, new=True, timeout_s=timeout_s)
        try:
            await _ask_echo(connection)
        finally:
            connection.close(CloseCode.DONE, "reachable")

    async def dial_back(self, connection: Connection, port: int) -> bool:
        """Whether the peer can dial this host, at the address it sees, and this port.

        It dials from a new socket: through a NAT mapping that our own packets have opened, success would prove nothing.
        """
        reply = await connection.request(ROUTE_DIAL_BACK, b"%d" % port, timeout_s=2 * ANSWER_S)
        return reply.payload == b"yes"

    def public_address(
        self, seen: Address | None, *, external_ip: str | None = None, external_port: int | None = None
    ) -> Address:
        """The address to tell others: host and port as configured, else as a peer sees them (`seen`), else the local ones.

        A difference between what is configured and what a peer sees is logged: one of them is wrong, or there is a NAT.
        """
        host, port = seen or self._endpoint.address
        public = (external_ip or host, external_port or port)
        if seen is not None and public != seen:
            log.warning("configured as %s, but a peer sees %s", address_text(*public), address_text(*seen))
        return public

    def _on_echo(self, connection: Connection, message: Message) -> None:
        if message.wants_reply:
            host, port = connection.address
            message.reply(f"{host} {port}".encode())

    def _on_dial_back(self, connection: Connection, message: Message) -> None:
        """Dial only the host that asks, and not often: else a peer could make this node attack others."""
        if not message.wants_reply:
            return
        now = self._endpoint.clock()
        host = connection.address[0]
        self._dialled_back = {peer: at for peer, at in self._dialled_back.items() if now - at < DIAL_BACK_EVERY_S}
        digits = message.payload
        if host in self._dialled_back or len(digits) > 5 or not digits.isdigit() or not 0 < int(digits) < 65_536:
            message.refuse(StreamCode.UNWANTED)
            return
        # By host, not by peer: one host could have many identities.
        self._dialled_back[host] = now
        task = self._endpoint.loop.create_task(self._dial_back((host, int(digits)), connection.uri or None))
        task.add_done_callback(lambda done: message.reply(b"yes" if not done.cancelled() and done.result() else b"no"))

    async def _dial_back(self, address: Address, expect: str | None) -> bool:
        own = self._endpoint
        try:
            # A socket of its own, with a port that our packets have opened nowhere.
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
