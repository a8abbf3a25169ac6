"""How the operator speaks to labs: their summaries, the member list they should spread, and when a summary has changed.

Timeouts are short: a lab may be gone. `LabWatcher` holds one long poll per lab, so that a Subnet whose lab has something new
is reconciled at once rather than at the next resync; at rest that is one request a minute.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from p2pnet.lab_client.aio import AioWire
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.jobs import Revision
from p2pnet.model.registry import Membership
from p2pnet.model.report import Status
from p2pnet.operator.kube.api import POD, SECRET, Object, decoded
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet.context import LAB_PORT, Observed, SubnetContext
from p2pnet.operator.subnet.plan.rollout import ready_since

ANSWER_S = 3.0  # a lab answers at once or is away; a reconciliation must not wait for it
POLL_S = 60.0  # how long a lab may keep a long poll open
PAUSE_S = 0.2  # before each poll: of links that come up one by one the lab tells once a second, but at once of the last
TOKEN_HEADER = "X-P2pnet-Token"  # noqa: S105 - the name of a header


class Labs(Protocol):
    """Requests to labs at `host:port`. All raise TargetError or ProblemError."""

    async def summary(self, address: str, token: str) -> Status:
        """`GET /v1/summary`."""
        ...

    async def revision(self, address: str, token: str, after: str) -> str:
        """`GET /v1/revision`: the revision of the status, as soon as it is not `after`, at the latest after a minute."""
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


def address_of(context: SubnetContext, observed: Observed) -> tuple[str, str] | None:
    """(`host:port`, token) of a lab that is ready. By the pod's IP: DNS may lag behind a new pod."""
    return address_in(observed.of(POD).get(context.lab), observed.of(SECRET).get(context.token))


def address_in(pod: Object | None, secret: Object | None) -> tuple[str, str] | None:
    """As `address_of`, from the lab's pod and the Secret with its token."""
    token = decoded(secret).get("token", b"")
    if pod is None or not token or ready_since(pod) is None:
        return None
    ip = str((pod.get("status") or {}).get("podIP") or "")
    if not ip:
        return None
    return (f"[{ip}]:{LAB_PORT}" if ":" in ip else f"{ip}:{LAB_PORT}"), token.decode(errors="replace").strip()


class HttpLabs:
    """`Labs` over HTTP, with a connection per request: a minute lies between requests, and labs come and go."""

    async def summary(self, address: str, token: str) -> Status:
        """As `Labs.summary`."""
        found: Status = await self._ask(address, token, "GET", "/v1/summary", Status)
        return found

    async def revision(self, address: str, token: str, after: str) -> str:
        """As `Labs.revision`."""
        query = {"after": after, "wait_ms": f"{POLL_S * 1000:.0f}"}
        found: Revision = await self._ask(
            address, token, "GET", "/v1/revision", Revision, query=query, within_s=POLL_S + ANSWER_S
        )
        return found.revision

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


@dataclass(frozen=True, slots=True)
class _Poll:
    address: str
    after: str
    task: asyncio.Task[None]


class LabWatcher:
    """One long poll per lab. `on_change(key)` is called when the summary of that Subnet's lab has changed."""

    def __init__(self, labs: Labs, *, pause_s: float = PAUSE_S) -> None:
        self.on_change: Callable[[Key], None] = lambda _key: None
        self._labs = labs
        self._pause_s = pause_s
        self._polls: dict[Key, _Poll] = {}

    def watch(self, key: Key, address: str, token: str, after: str) -> None:
        """Wait for a revision beyond `after`. A lab that stops answering is left to the next reconciliation."""
        poll = self._polls.get(key)
        if poll is not None and (poll.address, poll.after) == (address, after) and not poll.task.done():
            return
        self.forget(key)  # the former poll waits for an older revision
        task = asyncio.create_task(self._wait(key, address, token, after), name=f"lab of {key}")
        # Kept, or the loop might drop the task: it holds only weak references.
        self._polls[key] = _Poll(address, after, task)

    def forget(self, key: Key) -> None:
        """End the poll of this Subnet's lab."""
        if (poll := self._polls.pop(key, None)) is not None:
            poll.task.cancel()

    async def close(self) -> None:
        """End all polls."""
        tasks = [poll.task for poll in self._polls.values()]
        for key in list(self._polls):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, key: Key, address: str, token: str, after: str) -> None:
        with contextlib.suppress(P2pnetError):
            while True:
                await asyncio.sleep(self._pause_s)
                if await self._labs.revision(address, token, after) != after:
                    self.on_change(key)
                    return
