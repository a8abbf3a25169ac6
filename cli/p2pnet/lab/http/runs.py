"""Routes of `/v1` about experiments: uploads (bytes into the lab), runs, and artifacts (bytes out of the nodes)."""

import asyncio
import mimetypes
import os
import re
import sys
import urllib.parse
from collections.abc import AsyncIterator
from typing import BinaryIO

import msgspec
from aiohttp import web

from p2pnet.lab.http.common import HEARTBEAT_S, LAB, WAIT_MS_MAX, answer, body, flag, number, stream
from p2pnet.lab.nodes.node_client import NodeRefusedError, NodeSilentError
from p2pnet.lab.runs.artifacts import FoundArtifact
from p2pnet.lab.runs.queue import UnknownRunError
from p2pnet.lab.runs.run import Run
from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import LAB_HEADER, Problem, RunLabel, RunList, RunRequest, UploadRequest
from p2pnet.model.report import RUN_ENDED
from p2pnet.store.archive import COMPRESSED, READ_BYTES, RUN_FILE, RUN_FILES, open_packed

routes = web.RouteTableDef()

RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


@routes.post("/v1/runs")
async def submit(request: web.Request) -> web.Response:
    """Create a run: 202 and its state, or 200 when the idempotency key is known already; 412 when another lab is meant."""
    meant, this = request.headers.get(LAB_HEADER, ""), request.app[LAB].revision.boot
    if meant not in ("", this):
        return answer(Problem("the lab was restarted: it is not the one that was meant", exit_code=5), 412)
    asked = await body(request, RunRequest)
    run, new = request.app[LAB].runs.submit(asked, request.headers.get("Idempotency-Key", ""))
    return answer(run.snapshot(), 202 if new else 200)


@routes.get("/v1/runs")
async def all_runs(request: web.Request) -> web.Response:
    """Answer with the runs of this lab, oldest first; with `key` the one of that idempotency key, if there is one."""
    runs = request.app[LAB].runs
    found = runs.of_key(request.query["key"]) if "key" in request.query else runs.all()
    return answer(RunList([run.snapshot() for run in found]))


@routes.get("/v1/runs/{run}")
async def one_run(request: web.Request) -> web.StreamResponse:
    """Answer with a run's state; with cursor and wait_ms once it has changed; with stream=1 each state until the end."""
    run = request.app[LAB].runs.get(request.match_info["run"])
    cursor = number(request, "cursor", 0)
    if flag(request, "stream") if "stream" in request.query else "ndjson" in request.headers.get("Accept", ""):
        return await stream(request, _changes(run, cursor))
    return answer(await run.changed(cursor, number(request, "wait_ms", 0, most=WAIT_MS_MAX) / 1000))


@routes.get("/v1/runs/{run}/files/{file}")
async def file(request: web.Request) -> web.StreamResponse:
    """Answer with a file of the run's directory as it is now, whole or a Range, for clients that keep a copy.

    One that has been packed is answered whole and in its plain form. Each is opened once and read from what was opened:
    a run that has ended is packed meanwhile.
    """
    name, run = request.match_info["file"], request.app[LAB].runs.get(request.match_info["run"])
    if name not in RUN_FILES:
        raise UnknownRunError(f"run {run.file.run} has no file {name}")
    folder = run.recorder.folder
    run.recorder.flush()
    if name == RUN_FILE:
        run.save_published()
    try:
        with await asyncio.to_thread((folder / name).open, "rb") as kept:
            return await _as_kept(request, kept)
    except FileNotFoundError:
        if name not in COMPRESSED:
            raise UnknownRunError(f"run {run.file.run} has no file {name}") from None
    try:
        with await asyncio.to_thread(open_packed, folder, name) as plain:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            return await _sent(request, response, plain, sys.maxsize)
    except FileNotFoundError:
        raise UnknownRunError(f"run {run.file.run} has no file {name}") from None


@routes.post("/v1/runs/{run}/cancel")
@routes.delete("/v1/runs/{run}")
async def cancel(request: web.Request) -> web.Response:
    """End a run; answer with its state once it has ended."""
    run = await request.app[LAB].runs.cancel(request.match_info["run"])
    return answer(run.snapshot())


@routes.patch("/v1/runs/{run}")
async def label(request: web.Request) -> web.Response:
    """Give a run another label; answer with its state."""
    asked = await body(request, RunLabel)
    runs, run = request.app[LAB].runs, request.match_info["run"]
    return answer(runs.label(run, asked.label).snapshot())


async def _as_kept(request: web.Request, kept: BinaryIO) -> web.StreamResponse:
    """A file that is open, or the Range of it that is asked for (RFC 9110); what is appended meanwhile is left out."""
    size, name = os.fstat(kept.fileno()).st_size, request.match_info["file"]
    try:
        asked = request.http_range
    except ValueError:
        asked = None
    if asked is None or (asked.start is not None and asked.start >= size):
        run = request.match_info["run"]
        return answer(Problem(f"{name} of run {run} has {size} bytes, and none of those asked for"), 416)
    first, end, _ = asked.indices(size)
    response = web.StreamResponse(status=200 if asked.start is None else 206, headers={"Accept-Ranges": "bytes"})
    response.content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    response.content_length = end - first
    if asked.start is not None:
        response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    kept.seek(first)
    return await _sent(request, response, kept, end - first)


async def _sent(request: web.Request, response: web.StreamResponse, file: BinaryIO, most: int) -> web.StreamResponse:
    """The response, with at most so many bytes of an open file from where it stands; a HEAD is told of them alone."""
    await response.prepare(request)
    while request.method != "HEAD" and (piece := await asyncio.to_thread(file.read, min(READ_BYTES, most))):
        await response.write(piece)
        most -= len(piece)
    await response.write_eof()
    return response


async def _changes(run: Run, cursor: int) -> AsyncIterator[list[msgspec.Struct]]:
    while True:
        state = await run.changed(cursor, HEARTBEAT_S)
        ended = state.state in RUN_ENDED
        yield [state] if ended or state.cursor > cursor else []
        if ended:
            return
        cursor = state.cursor


@routes.post("/v1/uploads")
async def announce(request: web.Request) -> web.Response:
    """Begin an upload; answer with its id, to which parts are sent."""
    return answer(request.app[LAB].uploads.announce(await body(request, UploadRequest)), 201)


@routes.get("/v1/uploads/{upload}")
async def progress(request: web.Request) -> web.Response:
    """Answer with how much of an upload is here, which is where its next part begins."""
    return answer(request.app[LAB].uploads.state(request.match_info["upload"]))


@routes.put("/v1/uploads/{upload}")
@routes.patch("/v1/uploads/{upload}")
async def append(request: web.Request) -> web.Response:
    """Append a part at `offset`; 409 when the upload so far ends elsewhere."""
    upload, offset = request.match_info["upload"], number(request, "offset", 0)
    data = await request.read()
    return answer(await asyncio.to_thread(request.app[LAB].uploads.append, upload, offset, data))


@routes.get("/v1/artifacts/{artifact}/events")
async def events(request: web.Request) -> web.Response:
    """Answer with an artifact's run and events."""
    return answer(await request.app[LAB].artifacts.events(request.match_info["artifact"]))


@routes.delete("/v1/artifacts/{artifact}")
async def withdraw(request: web.Request) -> web.Response:
    """Remove an artifact from every node; answer with the nodes that held it."""
    return answer(await request.app[LAB].artifacts.withdraw(request.match_info["artifact"]))


@routes.get("/v1/artifacts/{artifact}", allow_head=False)
async def download(request: web.Request) -> web.StreamResponse:
    """Answer with an artifact's bytes as one node holds them, whole or a Range (RFC 9110).

    X-P2pnet-Node names the node, X-P2pnet-Size is the size of the whole.
    """
    artifacts = request.app[LAB].artifacts
    first, last = _range(request)
    found, node, got = await artifacts.locate(request.match_info["artifact"], request.query.get("node") or None)
    end = got.size if last is None else min(last + 1, got.size)
    headers = {
        "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "X-P2pnet-Node": node,
        "X-P2pnet-Name": urllib.parse.quote(got.name), "X-P2pnet-Size": str(got.size), "X-P2pnet-Artifact": found.artifact,
    }  # fmt: skip
    if first >= end:
        return web.Response(body=b"", headers=headers)
    partial = first > 0 or end < got.size
    if partial:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{got.size}"
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_length = end - first
    if await _write_range(request, response, found, node, first=first, end=end) < end:
        # Cut the connection: the reader sees fewer bytes than announced, and no answer that looks complete.
        response.force_close()
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write_eof()
    return response


async def _write_range(
    request: web.Request, response: web.StreamResponse, found: FoundArtifact, node: str, *, first: int, end: int
) -> int:
    """Read bytes from the node and write them on; where they ended. Raises what the first read does."""
    offset = first
    while offset < end:
        length = min(end - offset, limits.GET_RANGE_BYTES)
        try:
            data = (await request.app[LAB].artifacts.read(found, node, offset, length)).data
        except (NodeSilentError, NodeRefusedError):
            if not response.prepared:
                raise
            return offset
        if not data:
            break
        if not response.prepared:
            await response.prepare(request)
        await response.write(data)
        offset += len(data)
    if not response.prepared:
        raise NodeSilentError(node, "its bytes ended early")
    return offset


def _range(request: web.Request) -> tuple[int, int | None]:
    text = request.headers.get("Range")
    if text is None:
        return 0, None
    match = RANGE.fullmatch(text)
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise SpecError(f"Range {text!r}: one range, like bytes=0-1048575")
    return int(match[1]), int(match[2]) if match[2] else None
