"""A peer in a process of its own, to be killed: `peer.py FILE`, where FILE holds how it is bound, as JSON.

It answers every message with its payload, except on `/wait`, which it never answers, and says one line when it is
bound; so does each of `count` peers, where FILE asks for more than one.
"""

import asyncio
import json
import sys
from pathlib import Path

from p2pnet.quic import Connection, Endpoint, FixedIdentity, Message, Settings, Trust
from p2pnet.trust import Identity


async def _serve(bound: dict[str, str]) -> None:
    identity = Identity(bound["chain"].encode(), bound["key"].encode(), bound["bundle"].encode())
    endpoints = []
    for _ in range(int(bound.get("count", "1"))):
        endpoint = await Endpoint.bind(
            (bound["host"], int(bound["port"])),
            trust=Trust.subnet(FixedIdentity(identity), lambda _uri: None),
            on_message=_answer,
            settings=Settings(idle_s=float(bound["idle_s"])),
            reset_key=bytes.fromhex(bound["reset_key"]),
        )
        endpoints.append(endpoint)
        print(json.dumps(endpoint.address), flush=True)
    await asyncio.Event().wait()


def _answer(_connection: Connection, message: Message) -> None:
    if message.wants_reply and message.header != b"/wait":
        message.reply(message.payload, message.header)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text())))
