"""HTTP through a Kubernetes API server: to a lab behind its Service, or to the server itself. For `client` and targets."""

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
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import TOKEN_HEADER, Problem

RETRY_S = 15.0  # a lab that starts anew is back by then
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 2.0
AWAY = (502, 503, 504)


class LabAwayError(TargetError):
    """The API server is there, the lab behind it is not."""


class KubeWire(AioWire):
    """A `Wire` to an API server, with the credentials of a kubeconfig on every request."""

    def __init__(self, kube: Kube, prefix: str = "") -> None:
        where = f"context {kube.context}, namespace {kube.namespace}"
        super().__init__(aiohttp.TCPConnector(ssl=kube.tls(), limit=32), kube.server + prefix, where, {})
        self._kube = kube

    def _options(self) -> dict[str, Any]:
        """Everything a request needs beside itself. Reads tokens that plugins renew: blocks for them."""
        told = self._kube.configuration
        return {
            "headers": self._kube.headers(),
            **({"proxy": told.proxy} if told.proxy else {}),
            **({"server_hostname": told.tls_server_name} if told.tls_server_name else {}),
        }

    def _refusal(self, status: int, body: bytes, request: str) -> Exception:
        """The exception for an answer of 400 and above that the API server itself gave."""
        try:
            self._kube.read(status, body, request)
        except KubeError as error:
            return error
        raise AssertionError(status)

    def _unreachable(self, error: BaseException) -> TargetError:
        return self._kube.unreachable(error)


class ProxyWire(KubeWire):
    """A `Wire` to a lab through the API server's proxy. While the lab is away, 502 and 503, it asks again.

    That is safe: what was not delivered has not been done, runs have idempotency keys and uploads offsets.
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
        deadline, pause_s = time.monotonic() + self.retry_s, RETRY_FIRST_S
        async with contextlib.AsyncExitStack() as stack:
            while True:
                asked = super().open(method, path, json=json, data=data, query=query, headers=headers)
                try:
                    response = await stack.enter_async_context(asked)
                    break
                except LabAwayError:
                    if time.monotonic() + pause_s > deadline:
                        raise
                await asyncio.sleep(pause_s)
                pause_s = min(RETRY_MAX_S, pause_s * 2)
            yield response

    def _options(self) -> dict[str, Any]:
        options = super()._options()
        return {**options, "headers": {**options["headers"], TOKEN_HEADER: self._token()}}

    def _refusal(self, status: int, body: bytes, request: str) -> Exception:
        try:
            return ProblemError(msgspec.json.decode(body, type=Problem), status=status)
        except msgspec.DecodeError:
            pass  # it is the proxy that speaks
        refusal = super()._refusal(status, body, request)
        if status not in (*AWAY, 404) or not isinstance(refusal, KubeError):
            return refusal
        return LabAwayError(
            f"the lab of {self._subnet} does not answer: {refusal}",
            hint=f"the operator starts it again: p2pnet status {self._subnet} --on cluster -n {self._kube.namespace}",
        )
