"""/v1/uploads and /v1/artifacts: bytes into the lab, and out of the nodes."""

import asyncio
import re
import urllib.parse

from aiohttp import web

from p2pnet.lab.http.common import LAB, answer, body, number
from p2pnet.lab.nodes.node_client import NodeRefusedError, NodeSilentError
from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import UploadRequest

routes = web.RouteTableDef()

RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


@routes.post("/v1/uploads")
async def announce(request: web.Request) -> web.Response:
    """A new upload: send parts to its id."""
    return answer(request.app[LAB].uploads.announce(await body(request, UploadRequest)), 201)


@routes.get("/v1/uploads/{upload}")
async def progress(request: web.Request) -> web.Response:
    """How far it is: where the next part begins."""
    return answer(request.app[LAB].uploads.state(request.match_info["upload"]))


@routes.put("/v1/uploads/{upload}")
@routes.patch("/v1/uploads/{upload}")
async def append(request: web.Request) -> web.Response:
    """One part, at `offset`; 409 when the upload ends elsewhere."""
    upload, offset = request.match_info["upload"], number(request, "offset", 0)
    data = await request.read()
    return answer(await asyncio.to_thread(request.app[LAB].uploads.append, upload, offset, data))


@routes.get("/v1/artifacts/{artifact}/events")
async def events(request: web.Request) -> web.Response:
    """The artifact's run and events."""
    return answer(await request.app[LAB].artifacts.events(request.match_info["artifact"]))


@routes.delete("/v1/artifacts/{artifact}")
async def withdraw(request: web.Request) -> web.Response:
    """Taken back at every node."""
    return answer(await request.app[LAB].artifacts.withdraw(request.match_info["artifact"]))


@routes.get("/v1/artifacts/{artifact}", allow_head=False)
async def download(request: web.Request) -> web.StreamResponse:
    """Bytes as one node holds them, all or a Range; X-P2pnet-Node says which node, X-P2pnet-Size how large the whole is."""
    artifacts = request.app[LAB].artifacts
    first, last = _range(request)
    meant, node, got = await artifacts.locate(request.match_info["artifact"], request.query.get("node") or None)
    end = got.size if last is None else min(last + 1, got.size)
    headers = {
        "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "X-P2pnet-Node": node,
        "X-P2pnet-Name": urllib.parse.quote(got.name), "X-P2pnet-Size": str(got.size), "X-P2pnet-Artifact": meant.artifact,
    }  # fmt: skip
    if first >= end:
        return web.Response(body=b"", headers=headers)
    partial = first > 0 or end < got.size
    if partial:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{got.size}"
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_length = end - first
    offset = first
    while offset < end:
        try:
            data = (await artifacts.read(meant, node, offset, min(end - offset, limits.GET_RANGE_BYTES))).data
        except (NodeSilentError, NodeRefusedError):
            if not response.prepared:
                raise
            break  # it vanished halfway: the reader sees fewer bytes than announced
        if not data:
            break
        if not response.prepared:
            await response.prepare(request)
        await response.write(data)
        offset += len(data)
    if offset < end:
        if not response.prepared:
            raise NodeSilentError(node, "its bytes ended early")
        response.force_close()
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write_eof()
    return response


def _range(request: web.Request) -> tuple[int, int | None]:
    text = request.headers.get("Range")
    if text is None:
        return 0, None
    match = RANGE.fullmatch(text)
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise SpecError(f"Range {text!r}: one range, like bytes=0-1048575")
    return int(match[1]), int(match[2]) if match[2] else None
