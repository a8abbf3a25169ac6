"""Two peers: ask each peer named for its "polo", then answer everybody's "marco" until Ctrl-C.

    python examples/marco_polo.py                              # prints where it listens
    python examples/marco_polo.py 127.0.0.1:4100               # in another terminal, with that address
    python examples/marco_polo.py --listen '[::]:4100' '[::1]:4101'

One socket dials and listens. Messages are qp2p's, and so is the trust here: anyone. Where it matters who a peer is, give
`Trust.pinned` or `Trust.subnet` instead.
"""

import argparse
import asyncio

from p2pnet.quic import Address, BadAddress, Connection, Endpoint, Message, QuicError, StreamCode, Trust


def address(text: str) -> Address:
    """The (host, port) of "host:port"; an IPv6 host stands in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{text!r} is not host:port")
    return (host.removeprefix("[").removesuffix("]"), int(port))


def answer(connection: Connection, message: Message) -> None:
    """Called with every message of every connection; a reply leaves at once, so nobody waits for anybody else."""
    if message.wants_reply and message.payload == b"marco":
        print(f"{show(connection.address)} said marco", flush=True)
        message.reply(b"polo")
    else:
        message.refuse(StreamCode.UNWANTED)


async def ask(endpoint: Endpoint, peer: Address) -> None:
    """Dial one peer, say marco, print what it says. The endpoint keeps the connection: a second request would reuse it."""
    try:
        connection = await endpoint.connect(peer)
        reply = await connection.request(b"", b"marco", timeout_s=5)
    except (BadAddress, QuicError) as error:
        print(f"{show(peer)}: {error}", flush=True)
    else:
        print(f"{show(peer)} said {reply.payload.decode(errors='replace')}", flush=True)


async def main(listen: Address, peers: list[Address]) -> None:
    """Ask all peers at once, then serve. Leaving the block, by Ctrl-C too, closes every connection properly."""
    async with await Endpoint.bind(listen, trust=Trust.anyone(), on_message=answer) as endpoint:
        print(f"listening on {show(endpoint.address)}", flush=True)
        await asyncio.gather(*(ask(endpoint, peer) for peer in peers))
        await asyncio.Event().wait()


def show(where: Address) -> str:
    """As `address` reads it."""
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Say marco to peers, and polo to those who say marco.")
    parser.add_argument("peers", nargs="*", type=address, metavar="PEER", help="host:port of a peer to ask")
    parser.add_argument(
        "--listen",
        type=address,
        metavar="ADDRESS",
        default=("127.0.0.1", 0),
        help="host:port (default: a free port of 127.0.0.1)",
    )
    options = parser.parse_args()
    try:
        asyncio.run(main(options.listen, options.peers))
    except KeyboardInterrupt:
        print("goodbye")
