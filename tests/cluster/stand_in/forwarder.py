"""`forwarder.py NAMESPACE PORT`: what connects to a port of loopback gets to the API server within a cluster's network."""

import asyncio
import ctypes
import sys
from pathlib import Path

SERVER = ("10.99.0.1", 6443)
NETWORK = 0x40000000  # CLONE_NEWNET
CHUNK_BYTES = 1 << 16


async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(CHUNK_BYTES):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there, onward = await asyncio.open_connection(*SERVER)
    except OSError:  # as docker's proxy does while the API server is away
        writer.close()
        return
    await asyncio.gather(pass_on(reader, onward), pass_on(there, writer))


async def main(namespace: str, port: int) -> None:
    # A socket belongs to the network in which it was opened: this one stays outside, those that follow are inside.
    server = await asyncio.start_server(connected, "127.0.0.1", port)
    with (Path("/run/netns") / namespace).open() as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), NETWORK):
            raise OSError(ctypes.get_errno(), f"no way into {namespace}")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
