"""The operator's words with a lab: its summary, and the member list it should spread. Short waits: a lab may be gone."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp

from p2pnet.lab_client.aio import AioWire
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import Revision
from p2pnet.model.registry import Membership
from p2pnet.model.report import Status
from p2pnet.operator.kube.api import POD, SECRET, Object, decoded
from p2pnet.operator.subnet.context import LAB_PORT, Observed, SubnetContext
from p2pnet.operator.subnet.plan.rollout import ready_since

ANSWER_S = 3.0
NEWS_S = 60.0
TOKEN_HEADER = "X-P2pnet-Token"  # noqa: S105 - the name of a header


class Labs(Protocol):
    """How labs are reached. All raise TargetError or ProblemError."""

    async def summary(self, address: str, token: str) -> Status:
        """`GET /v1/summary` of the lab at `host:port`."""
        ...

    async def news(self, address: str, token: str, after: str) -> str:
        """`GET /v1/news`: the version of the summary, when it is not `after` any more, or a minute later."""
        ...

    async def members(self, address: str, token: str) -> Membership:
        """`GET /v1/members`."""
        ...

    async def push_members(self, address: str, token: str, members: Membership) -> None:
        """`POST /v1/members`."""
        ...

    async def push_document(self, address: str, token: str, document: Object) -> None:
        """`PUT /v1/spec`."""
        ...


def address_of(site: SubnetContext, observed: Observed) -> tuple[str, str] | None:
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

    async def news(self, address: str, token: str, after: str) -> str:
        """As `Labs.news`."""
        query = {"after": after, "wait_ms": f"{NEWS_S * 1000:.0f}"}
        found: Revision = await self._ask(
            address, token, "GET", "/v1/news", Revision, query=query, within_s=NEWS_S + ANSWER_S
        )
        return found.version

    async def members(self, address: str, token: str) -> Membership:
        """As `Labs.members`."""
        found: Membership = await self._ask(address, token, "GET", "/v1/members", Membership)
        return found

    async def push_members(self, address: str, token: str, members: Membership) -> None:
        """As `Labs.push_members`."""
        await self._ask(address, token, "POST", "/v1/members", object, json=members)

    async def push_document(self, address: str, token: str, document: Object) -> None:
        """As `Labs.push_document`."""
        await self._ask(address, token, "PUT", "/v1/spec", object, json=document)

    async def _ask(
        self, address: str, token: str, method: str, path: str, shape: type[Any], *, json: object = None,
        query: Mapping[str, str] | None = None, within_s: float = ANSWER_S,
    ) -> Any:  # fmt: skip
        wire = AioWire(aiohttp.TCPConnector(), f"http://{address}", address, {TOKEN_HEADER: token})
        try:
            async with asyncio.timeout(within_s):
                return await wire.ask(method, path, shape, json=json, query=query, within_s=within_s)
        except TimeoutError as error:
            raise TargetError(f"the lab at {address} is silent") from error
        finally:
            await wire.close()
