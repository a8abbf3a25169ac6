"""HTTP through a Kubernetes API server: to a lab behind its Service, or to the server itself."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import msgspec

from p2pnet.lab_client.aio import AioWire
from p2pnet.lab_client.http import ProblemError, Response
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.model.backoff import next_wait
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import TOKEN_HEADER, Problem

RETRY_S = 15.0  # a lab that is restarted is back by then
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 2.0  # a lab that is back is noticed within it
AWAY = (502, 503, 504)  # statuses of a proxy that does not reach the lab


class LabAwayError(TargetError):
    """The API server answers, the lab behind it does not."""


class KubeWire(AioWire):
    """A `Wire` to an API server, with the credentials of a kubeconfig on every request."""

    def __init__(self, kube: Kube, prefix: str = "") -> None:
        where = f"context {kube.context}, namespace {kube.namespace}"
        super().__init__(aiohttp.TCPConnector(ssl=kube.tls(), limit=32), kube.server + prefix, where, {})
        self._kube = kube

    def _options(self) -> dict[str, Any]:
        """See `AioWire`. Blocks while a plugin renews a token."""
        configuration = self._kube.configuration
        return {
            "headers": self._kube.headers(),
            **({"proxy": configuration.proxy} if configuration.proxy else {}),
            **({"server_hostname": configuration.tls_server_name} if configuration.tls_server_name else {}),
        }

    def _refusal(self, status: int, body: bytes, request: str) -> Exception:
        """The exception for a refusal of the API server itself."""
        try:
            self._kube.read(status, body, request)
        except KubeError as error:
            return error
        raise AssertionError(status)

    def _unreachable(self, error: BaseException) -> TargetError:
        return self._kube.unreachable(error)


class ProxyWire(KubeWire):
    """A `Wire` to a lab through the API server's proxy, which retries while the lab is away.

    Retrying is safe: a request that did not arrive was not executed, runs have idempotency keys and uploads offsets.
    """

    patience_s = 2 * RETRY_S

    def __init__(self, kube: Kube, subnet: str, token: Callable[[], str], *, retry_s: float = RETRY_S) -> None:
        """`token` is asked with every request; it may raise LabAwayError while there is none yet."""
        super().__init__(kube, f"/api/v1/namespaces/{kube.namespace}/services/{subnet}-lab:http/proxy")
        self._subnet = subnet
        self._token = token
        self.retry_s = retry_s

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, path: str, *, json: object = None, data: bytes | None = None,
        query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Response]:  # fmt: skip
        """As `Wire.open`. Raises LabAwayError when the lab stays away."""
        deadline, wait_s = time.monotonic() + self.retry_s, 0.0
        async with contextlib.AsyncExitStack() as stack:
            while True:
                asked = super().open(method, path, json=json, data=data, query=query, headers=headers)
                try:
                    response = await stack.enter_async_context(asked)
                    break
                except LabAwayError:
                    wait_s = next_wait(wait_s, RETRY_FIRST_S, RETRY_MAX_S)
                    if time.monotonic() + wait_s > deadline:
                        raise
                await asyncio.sleep(wait_s)
            yield response

    def _options(self) -> dict[str, Any]:
        options = super()._options()
        return {**options, "headers": {**options["headers"], TOKEN_HEADER: self._token()}}

    def _refusal(self, status: int, body: bytes, request: str) -> Exception:
        try:
            return ProblemError(msgspec.json.decode(body, type=Problem), status=status)
        except msgspec.DecodeError:
            pass  # not the lab but the proxy has refused
        refusal = super()._refusal(status, body, request)
        if status not in (*AWAY, 404) or not isinstance(refusal, KubeError):
            return refusal
        return LabAwayError(
            f"the lab of {self._subnet} does not answer: {refusal}",
            hint=f"the operator starts it again: p2pnet status {self._subnet} -n {self._kube.namespace}",
        )
