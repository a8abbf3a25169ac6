"""/v1/runs: ask for runs, follow them, cancel them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from aiohttp import web

from p2pnet.lab.http.common import HEARTBEAT_S, LAB, WAIT_MS_MAX, answer, body, flag, number, stream
from p2pnet.lab.runs.queue import UnknownRunError
from p2pnet.lab.runs.run import Run
from p2pnet.model.jobs import RunLabel, RunList, RunRequest
from p2pnet.model.report import RUN_ENDED
from p2pnet.store.archive import EVENTS_FILE, READ_BYTES, RUN_FILES, has_events, open_events

routes = web.RouteTableDef()


@routes.post("/v1/runs")
async def submit(request: web.Request) -> web.Response:
    """202 and the run; 200 when the idempotency key is known already."""
    asked = await body(request, RunRequest)
    run, new = request.app[LAB].runs.submit(asked, request.headers.get("Idempotency-Key", ""))
    return answer(run.snapshot(), 202 if new else 200)


@routes.get("/v1/runs")
async def all_runs(request: web.Request) -> web.Response:
    """Runs of this lab, oldest first."""
    return answer(RunList([run.snapshot() for run in request.app[LAB].runs.all()]))


@routes.get("/v1/runs/{run}")
async def one_run(request: web.Request) -> web.StreamResponse:
    """The run now; with cursor and wait_ms, once it has changed; with stream=1, every change until it has ended."""
    run = request.app[LAB].runs.get(request.match_info["run"])
    cursor = number(request, "cursor", 0)
    if flag(request, "stream") if "stream" in request.query else "ndjson" in request.headers.get("Accept", ""):
        return await stream(request, _changes(run, cursor))
    return answer(await run.changed(cursor, number(request, "wait_ms", 0, most=WAIT_MS_MAX) / 1000))


@routes.get("/v1/runs/{run}/files/{file}")
async def file(request: web.Request) -> web.StreamResponse:
    """A file of the run's directory as it is now: for those who keep a copy."""
    name, run = request.match_info["file"], request.app[LAB].runs.get(request.match_info["run"])
    folder = run.recorder.folder
    run.recorder.flush()
    if name in RUN_FILES and await asyncio.to_thread((folder / name).is_file):
        return web.FileResponse(folder / name)
    if name == EVENTS_FILE and await asyncio.to_thread(has_events, folder):
        return await _events(request, folder)
    raise UnknownRunError(f"run {run.file.run} has no file {name}")


@routes.post("/v1/runs/{run}/cancel")
@routes.delete("/v1/runs/{run}")
async def cancel(request: web.Request) -> web.Response:
    """The run, ended."""
    run = await request.app[LAB].runs.cancel(request.match_info["run"])
    return answer(run.snapshot())


@routes.patch("/v1/runs/{run}")
async def label(request: web.Request) -> web.Response:
    """The run with another label."""
    asked = await body(request, RunLabel)
    runs, run = request.app[LAB].runs, request.match_info["run"]
    return answer(runs.label(run, asked.label).snapshot())


async def _events(request: web.Request, folder: Path) -> web.StreamResponse:
    """Events that are compressed on disk, as they were written."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    with await asyncio.to_thread(open_events, folder) as file:
        while piece := await asyncio.to_thread(file.read, READ_BYTES):
            await response.write(piece)
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
