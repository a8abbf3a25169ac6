"""What the parts of a connection need of the endpoint that owns them, and how owners are told things."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import Datagram
from p2pnet.quic.trust import Trust


class Host(Protocol):
    """What a driver needs of its endpoint."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    trust: Trust
    draining: bool
    """Nothing new is begun or taken; what is in flight is finished."""

    def mark(self, driver: Any) -> None:
        """It has something to send this turn."""

    def transmit(self, driver: Any, datagrams: list[Datagram]) -> None:
        """Send these now."""

    def route(self, cid: bytes, driver: Any) -> None:
        """Datagrams for this cid are the driver's."""

    def unroute(self, cid: bytes) -> None:
        """No longer."""

    def established(self, driver: Any) -> None:
        """The handshake is complete, the peer is known."""

    def ended(self, driver: Any, failure: Exception | None) -> None:
        """It is over; `failure` when it never was established."""


def deliver(callback: Callable[..., None], *arguments: Any) -> None:
    """Call an owner's callback; what it raises is the owner's fault and must not hurt other streams."""
    try:
        callback(*arguments)
    except Exception as error:  # noqa: BLE001  # reported like any failure of a loop callback
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": f"exception in {callback!r}", "exception": error})
