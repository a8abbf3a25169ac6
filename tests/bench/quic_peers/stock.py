"""A peer on aioquic as it comes: `aioquic.asyncio`'s `serve` and `connect`, with a protocol of a few lines, on uvloop."""

from __future__ import annotations

import asyncio
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.events import QuicEvent, StreamDataReceived
from tests.bench.quic_peers.load import Options, drive, main, say, shake_hands
from tests.bench.quic_peers.plain import ADDRESS, configuration, framed


class Answering(QuicConnectionProtocol):
    """Answers every bidirectional stream at its end."""

    answer = b"ok"

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream and not event.stream_id & 2:
            self._quic.send_stream_data(event.stream_id, self.answer, end_stream=True)
            self.transmit()


class AnsweringQp2p(Answering):
    """The same, in qp2p's frame."""

    answer = framed(b"ok")


class Asking(QuicConnectionProtocol):
    """Asks on bidirectional streams."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._waiting.pop(event.stream_id).set_result(None)

    def ask(self, payload: bytes) -> asyncio.Future[None]:
        number = self._quic.get_next_available_stream_id()
        waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(number, payload, end_stream=True)
        self.transmit()
        return waiter


async def server(options: Options) -> None:
    """A server for stock clients, or with `framed` for qp2p's."""
    protocol = AnsweringQp2p if options.get("framed") else Answering
    made = configuration(options, is_client=False)
    running = await serve(ADDRESS, 0, configuration=made, create_protocol=protocol)
    say(port=running._transport.get_extra_info("sockname")[1])
    options["held"] = running


async def client(options: Options) -> dict[str, Any]:
    """Drive the load; or with `handshakes`, dial so often."""
    made = configuration(options, is_client=True)
    if "handshakes" in options:

        async def dial() -> None:
            async with connect(ADDRESS, options["port"], configuration=made, create_protocol=Asking) as protocol:
                await protocol.ping()

        return await shake_hands(options, dial)
    async with connect(ADDRESS, options["port"], configuration=made, create_protocol=Asking) as protocol:
        await protocol.ping()
        assert isinstance(protocol, Asking)
        return await drive(options, protocol.ask)


if __name__ == "__main__":
    main(server, client)
