"""How the operator speaks to a lab about an Injection's run: it asks for one, looks at it, and ends it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp

from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.lab_client.aio import AioWire
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import TOKEN_HEADER, RunRequest, RunState

ANSWER_S = 3.0  # a lab answers at once or is away; a reconciliation must not wait for it
UPLOAD_S = 10.0  # for a file of at most 1 MiB
CANCEL_S = 10.0  # an ended run has written its report


class RunLabs(Protocol):
    """Requests to labs at `host:port`. All raise TargetError or ProblemError."""

    async def process(self, address: str, token: str) -> str:
        """The name of the lab's process, see `Revision.lab`."""
        ...

    async def run(self, address: str, token: str, run: str) -> RunState | None:
        """A run by its id; None: the lab knows none."""
        ...

    async def run_of(self, address: str, token: str, uid: str) -> RunState | None:
        """The run of the Injection with this uid; None: this process of the lab knows none."""
        ...

    async def upload(self, address: str, token: str, name: str, data: bytes) -> str:
        """Send a file; the id of the upload."""
        ...

    async def start(self, address: str, token: str, request: RunRequest, *, process: str) -> RunState:
        """The run of the Injection that the request names, created unless it is there; refused (412) by another process."""
        ...

    async def cancel(self, address: str, token: str, run: str) -> None:
        """End a run."""
        ...


class HttpRunLabs:
    """`RunLabs` over HTTP, with a connection per request."""

    async def process(self, address: str, token: str) -> str:
        """As `RunLabs.process`."""
        async with _client(address, token) as client:
            return await client.lab()

    async def run(self, address: str, token: str, run: str) -> RunState | None:
        """As `RunLabs.run`."""
        async with _client(address, token) as client:
            try:
                return await client.run(run)
            except ProblemError as error:
                if error.status == 404:
                    return None
                raise

    async def run_of(self, address: str, token: str, uid: str) -> RunState | None:
        """As `RunLabs.run_of`."""
        async with _client(address, token) as client:
            found = await client.run_of_key(uid)
        # A lab of an older version does not know the question, and answers with any run.
        asked_by = found.request.injection if found is not None else None
        return found if asked_by is not None and asked_by.uid == uid else None

    async def upload(self, address: str, token: str, name: str, data: bytes) -> str:
        """As `RunLabs.upload`."""
        async with _client(address, token, within_s=UPLOAD_S) as client:
            return await client.upload_bytes(data, name)

    async def start(self, address: str, token: str, request: RunRequest, *, process: str) -> RunState:
        """As `RunLabs.start`."""
        key = request.injection.uid if request.injection is not None else ""
        async with _client(address, token) as client:
            return await client.start_run(request, key=key, lab=process)

    async def cancel(self, address: str, token: str, run: str) -> None:
        """As `RunLabs.cancel`."""
        async with _client(address, token, within_s=CANCEL_S) as client:
            await client.cancel(run)


@asynccontextmanager
async def _client(address: str, token: str, within_s: float | None = None) -> AsyncIterator[LabClient]:
    wire = AioWire(aiohttp.TCPConnector(), f"http://{address}", address, {TOKEN_HEADER: token})
    async with LabClient(wire) as client:
        try:
            async with asyncio.timeout(within_s or ANSWER_S):
                yield client
        except TimeoutError as error:
            raise TargetError(f"the lab at {address} is silent") from error
