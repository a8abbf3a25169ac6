"""Routes of `/v1` about faults: those of the document and leased ones, listed, added, renewed, cleared."""

from aiohttp import web

from p2pnet.lab.http.common import LAB, answer, body, seconds
from p2pnet.model.jobs import FaultList, FaultRequest

routes = web.RouteTableDef()


@routes.get("/v1/faults")
async def faults(request: web.Request) -> web.Response:
    """Answer with all faults."""
    return answer(_listed(request))


@routes.post("/v1/faults")
async def add(request: web.Request) -> web.Response:
    """Put a fault in force; answer with it once nodes have it, or after a while with what it waits for."""
    lab = request.app[LAB]
    return answer(await lab.add_fault(await body(request, FaultRequest)), 201)


@routes.post("/v1/faults/{name}/renew")
async def renew(request: web.Request) -> web.Response:
    """Let a leased fault last for `lease_s` seconds from now on; answer with it."""
    return answer(request.app[LAB].network.renew(request.match_info["name"], seconds(request, "lease_s")))


@routes.delete("/v1/faults/{name}")
async def clear(request: web.Request) -> web.Response:
    """End a fault; answer with all that are left."""
    await request.app[LAB].clear_faults(request.match_info["name"])
    return answer(_listed(request))


@routes.delete("/v1/faults")
async def clear_all(request: web.Request) -> web.Response:
    """End all faults; answer with all there are."""
    await request.app[LAB].clear_faults()
    return answer(_listed(request))


def _listed(request: web.Request) -> FaultList:
    return FaultList(request.app[LAB].network.statuses())
