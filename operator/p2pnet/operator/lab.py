"""The operator's words with a lab: its summary, and the member list it should spread. Short waits: a lab may be gone."""

import asyncio
from typing import Any, Protocol

import aiohttp

from p2pnet.desk.http import Wire
from p2pnet.model.errors import TargetError
from p2pnet.model.registry import Membership
from p2pnet.model.report import Status
from p2pnet.operator.api import POD, SECRET
from p2pnet.operator.encoding import decoded
from p2pnet.operator.plan.podstates import ready_since
from p2pnet.operator.site import LAB_PORT, Observed, Site

ANSWER_S = 3.0
TOKEN_HEADER = "X-P2pnet-Token"  # noqa: S105 - the name of a header


class Labs(Protocol):
    """How labs are reached. Both raise TargetError or ProblemError."""

    async def summary(self, address: str, token: str) -> Status:
        """`GET /v1/summary` of the lab at `host:port`."""
        ...

    async def push_members(self, address: str, token: str, members: Membership) -> None:
        """`POST /v1/members`."""
        ...


def address_of(site: Site, observed: Observed) -> tuple[str, str] | None:
    """(`host:port`, token) of a lab that is ready, by its pod's address: no name has to be known for that."""
    pod = observed.of(POD).get(site.lab)
    token = decoded(observed.of(SECRET).get(site.token)).get("token", b"")
    if pod is None or not token or ready_since(pod) is None:
        return None
    ip = str((pod.get("status") or {}).get("podIP") or "")
    if not ip:
        return None
    return (f"[{ip}]:{LAB_PORT}" if ":" in ip else f"{ip}:{LAB_PORT}"), token.decode(errors="replace").strip()


class HttpLabs:
    """Labs over HTTP. A connection per question: a minute lies between them, and labs come and go."""

    async def summary(self, address: str, token: str) -> Status:
        """As `Labs.summary`."""
        found: Status = await self._ask(address, token, "GET", "/v1/summary", Status)
        return found

    async def push_members(self, address: str, token: str, members: Membership) -> None:
        """As `Labs.push_members`."""
        await self._ask(address, token, "POST", "/v1/members", object, json=members)

    async def _ask(
        self, address: str, token: str, method: str, path: str, shape: type[Any], *, json: object = None
    ) -> Any:
        wire = Wire(aiohttp.TCPConnector(), f"http://{address}", address, {TOKEN_HEADER: token})
        try:
            async with asyncio.timeout(ANSWER_S):
                return await wire.ask(method, path, shape, json=json)
        except TimeoutError as error:
            raise TargetError(f"the lab at {address} is silent") from error
        finally:
            await wire.close()
