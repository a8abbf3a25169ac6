"""The health page of a pod that holds several nodes: the union of theirs, in a process of its own beside the nursery.

Healthy when every node's loop turns, ready when every node is; metrics carry a `node` label.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Mapping

import aiohttp
from aiohttp import web

from p2pnet.node.parenting import close_all_but, die_with_parent, reset_signals

ASK_S = 2.0
"""For a node's answer; probes of the kubelet wait longer."""
ANSWER_BYTES_MAX = 1 << 20

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Answers = dict[str, tuple[int, str]]
"""Node -> HTTP status (0: no answer) and text."""


def start(host: str, port: int, nodes: Mapping[str, int]) -> int:
    """Fork the process that serves the page; its pid. It ends with its parent; if it dies, the probes restart the pod."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent(parent)
            reset_signals()
            close_all_but(())
            asyncio.run(serve(host, port, nodes))
        except BaseException:  # noqa: BLE001 - nothing may unwind into the nursery's own stack
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)
    return pid


async def serve(host: str, port: int, nodes: Mapping[str, int]) -> None:
    """Serve until cancelled."""
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        runner = web.AppRunner(application(session, nodes), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def application(session: aiohttp.ClientSession, nodes: Mapping[str, int]) -> web.Application:
    """The page over nodes that answer on these ports of 127.0.0.1."""

    async def all_say(path: str) -> Answers:
        answers = await asyncio.gather(*(_ask(session, port, path) for port in nodes.values()))
        return dict(zip(nodes, answers, strict=True))

    async def probe(request: web.Request) -> web.Response:
        answers = await all_say(request.path)
        bad = [f"{name}: {text.strip()}\n" for name, (status, text) in answers.items() if status != 200]
        return web.Response(status=503 if bad else 200, text="".join(bad) or "ok\n")

    async def metrics(request: web.Request) -> web.Response:
        answers = await all_say(request.path)
        pages = {name: text for name, (status, text) in answers.items() if status == 200}
        return web.Response(body=union(pages).encode(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(client_max_size=4096)
    app.add_routes([web.get("/healthz", probe), web.get("/readyz", probe), web.get("/metrics", metrics)])
    return app


async def _ask(session: aiohttp.ClientSession, port: int, path: str) -> tuple[int, str]:
    try:
        async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, (await answer.content.read(ANSWER_BYTES_MAX)).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        return 0, f"no answer: {error or 'timed out'}"


def union(pages: Mapping[str, str]) -> str:
    """Expositions as one: every sample labelled with its node, the samples of a family together under one head."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for node, page in pages.items():
        family = ""
        for line in page.splitlines():
            if line.startswith("#"):
                family = line.split(" ")[2]
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, node))
    return "".join(f"{line}\n" for family in heads for line in [*heads[family], *samples.get(family, [])])


def _labelled(sample: str, node: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{node="{node}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{node="{node}"}} {value}'
