"""Shared by all routes of `/v1`: JSON in and out, errors as `Problem` documents, NDJSON streams with a heartbeat."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from p2pnet.lab.lab import Lab
from p2pnet.lab.nodes.node_client import NodeRefusedError, NodeSilentError
from p2pnet.lab.runs.artifacts import NotHeldError
from p2pnet.lab.runs.queue import KeyReusedError, QueueFullError, UnknownRunError
from p2pnet.lab.runs.uploads import OffsetError, UnknownUploadError
from p2pnet.model.errors import LimitError, P2pnetError, SpecError, TargetError
from p2pnet.model.jobs import Problem
from p2pnet.store.state import NO_SPACE
from p2pnet.subnet.fault_book import UnknownFaultError

LAB = web.AppKey("lab", Lab)
BODY_BYTES_MAX = 8 << 20  # of a request: as large as a member list may be
HEARTBEAT_S = 10.0  # of silence in a stream before an empty line shows that the lab is there
WAIT_MS_MAX = 30_000  # of a long poll for a run

SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

STATUS: list[tuple[type[P2pnetError], int, int]] = [
    (UnknownRunError, 404, 2),
    (UnknownUploadError, 404, 2),
    (OffsetError, 409, 2),
    (KeyReusedError, 409, 2),
    (QueueFullError, 429, 2),
    (UnknownFaultError, 404, 2),
    (NotHeldError, 404, 1),
    (SpecError, 400, 2),
    (LimitError, 400, 2),
    (NodeSilentError, 503, 3),
    (NodeRefusedError, 502, 3),
]
"""Exception, HTTP status, exit code of the command line; the first that fits counts, so subclasses come first."""


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a `Problem`; the exception's class decides status and exit code."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return answer(Problem(f"{request.method} {request.path}: {error.reason}"), error.status)
    except TargetError as error:
        return answer(Problem(str(error), error.hint, error.exit_code), 507 if error.exit_code == 2 else 503)
    except P2pnetError as error:
        status, code = next(((s, c) for kind, s, c in STATUS if isinstance(error, kind)), (500, 70))
        return answer(Problem(str(error), exit_code=code), status)
    except OSError as error:
        log.exception("%s %s", request.method, request.path)
        next_step = "free some space" if error.errno in NO_SPACE else "the lab's log has the details"
        return answer(Problem(f"the lab's disk refuses: {error.strerror or error}", next_step), 507)
    except Exception as error:
        log.exception("%s %s", request.method, request.path)
        text = f"{type(error).__name__}: {error}"
        return answer(Problem(f"a bug of p2pnet: {text}", "the lab's log has the details", 70), 500)


def answer(document: object, status: int = 200) -> web.Response:
    """A response with the document as JSON."""
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


async def body(request: web.Request, shape: type[T]) -> T:
    """The request's body as JSON of this shape. Raises SpecError."""
    data = await request.read()
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"not a {getattr(shape, '__name__', shape)}: {error}") from error


def number(request: web.Request, key: str, default: int, *, most: int = 1 << 62) -> int:
    """A whole number in the query, at most `most`; `default` where it is missing. Raises SpecError."""
    text = request.query.get(key)
    if text is None:
        return default
    if not text.isdigit() or len(text) > 19:
        raise SpecError(f"{key}={text!r}: a whole number from 0 on")
    return min(int(text), most)


def seconds(request: web.Request, key: str) -> float:
    """A duration in the query, in seconds. Raises SpecError where it is missing or none."""
    text = request.query.get(key, "")
    if not SECONDS.fullmatch(text):
        raise SpecError(f"{key}={text!r}: a number of seconds, like 60")
    return float(text)


def flag(request: web.Request, key: str) -> bool:
    """Whether a flag of the query is set: `1`, `true`, `yes` or without a value."""
    return request.query.get(key, "0").lower() in ("1", "true", "yes", "")


async def stream(request: web.Request, lines: AsyncIterator[list[msgspec.Struct]]) -> web.StreamResponse:
    """Stream NDJSON as it comes, with an empty line after 10 s of silence; `lines` must yield (`[]` too) to be asked.

    Ends with the iterator, with the reader, or when the lab stops.
    """
    lab = request.app[LAB]
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    await response.prepare(request)
    encoder, written_s = msgspec.json.Encoder(), time.monotonic()
    try:
        async for some in lines:
            text = b"".join(encoder.encode(line) + b"\n" for line in some)
            if text or time.monotonic() - written_s >= HEARTBEAT_S:
                await response.write(text or b"\n")
                written_s = time.monotonic()
            if lab.stopping.is_set() or request.transport is None or request.transport.is_closing():
                break
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        pass  # the reader has gone
    return response
