"""`Cluster` over HTTP: the one importer of the Kubernetes client. Raw JSON, a timeout on every request.

It takes configuration, credentials (renewed by the library) and connections from the client library, not its models: these
are slow, and fail on answers of servers newer than they are.
"""

import asyncio
import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp  # the transport of the client library: timeouts and tracing are set on it
import msgspec
from kubernetes.aio import client
from kubernetes.aio import config as untyped_config

from p2pnet.model.errors import TargetError
from p2pnet.operator.kube.api import (  # fmt: skip
    MANAGER,
    ApiError,
    BusyError,
    ConflictError,
    EndingError,
    ForbiddenError,
    Object,
    ResourceKind,
)

CONNECT_S = 5.0
ANSWER_S = 15.0
PAGE = 500  # objects per LIST: bounds the memory of one answer
CONNECTIONS_MAX = 16

config: Any = untyped_config

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
# Names, labels and owners alone: no value of anybody's Secret reaches this process.
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

OnRequest = Callable[[str, str, str], None]
"""Called after every request with verb, plural and HTTP status (`error` without an answer)."""


class KubernetesCluster:
    """`api.Cluster` over HTTP. `guard` is called before every write and raises when this replica may not write any more."""

    def __init__(
        self, api: Any, *, guard: Callable[[], None] = lambda: None, on_request: OnRequest = lambda *_: None
    ) -> None:
        self._api = api
        self.guard = guard
        self._on_request = on_request

    @classmethod
    async def connect(cls, *, kubeconfig: str | None = None, on_request: OnRequest = lambda *_: None) -> Self:
        """Connect with the service account of this pod, else a kubeconfig (`kubeconfig`, `KUBECONFIG` or ~/.kube/config).

        Raises TargetError when there is neither.
        """
        settings = client.Configuration()
        try:
            await _credentials(settings, kubeconfig)
        except config.ConfigException as error:
            hint = "set KUBECONFIG, or run in a pod with a service account"
            raise TargetError(f"no way to an API server: {error}", hint=hint) from error
        settings.connection_pool_maxsize = CONNECTIONS_MAX  # bounds what 500 pods may open at once
        trace = aiohttp.TraceConfig()
        settings.trace_configs = [trace]
        connected = cls(client.ApiClient(configuration=settings), on_request=on_request)
        connected.guard_connections(trace)
        return connected

    def guard_connections(self, trace: aiohttp.TraceConfig) -> None:
        """Call the guard again where a write waits, and just before its bytes go: the process may have been stopped there.

        Until Python 3.12 aiohttp sends a body from a task of its own, a turn of the loop after it has a connection.
        """

        async def begins(_: object, context: SimpleNamespace, asked: aiohttp.TraceRequestStartParams) -> None:
            context.writes = asked.method != "GET"

        async def goes_on(_: object, context: SimpleNamespace, __: object) -> None:
            if context.writes:
                self.guard()

        trace.on_request_start.append(begins)
        trace.on_connection_create_end.append(goes_on)
        trace.on_connection_reuseconn.append(goes_on)
        trace.on_request_chunk_sent.append(goes_on)  # called before the first byte is written, headers included

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        """As `Cluster.get`."""
        try:
            return await self._ask("GET", kind, kind.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def find(self, kind: ResourceKind, namespace: str = "", selector: str = "") -> list[Object]:
        """As `Cluster.find`."""
        return await self._pages(kind, namespace, {"labelSelector": selector} if selector else {})

    async def names(self, kind: ResourceKind, namespace: str) -> list[Object]:
        """As `Cluster.names`."""
        return await self._pages(kind, namespace, {}, accept=_METADATA_ONLY)

    async def create(self, kind: ResourceKind, namespace: str, body: Object) -> Object:
        """As `Cluster.create`."""
        query = {"fieldManager": MANAGER}
        return await self._ask("POST", kind, kind.path(namespace), query=query, body=body)

    async def apply(self, kind: ResourceKind, namespace: str, body: Object, subresource: str = "") -> Object:
        """As `Cluster.apply`."""
        path = kind.path(namespace, body["metadata"]["name"], subresource)
        query = {"fieldManager": MANAGER, "force": "true"}  # forced: fields of ours that others changed are taken back
        return await self._ask("PATCH", kind, path, query=query, body=body, content_type=_APPLY)

    async def patch(self, kind: ResourceKind, namespace: str, name: str, body: Object) -> Object:
        """As `Cluster.patch`."""
        query = {"fieldManager": MANAGER}
        return await self._ask("PATCH", kind, kind.path(namespace, name), query=query, body=body, content_type=_MERGE)

    async def delete(
        self, kind: ResourceKind, namespace: str, name: str, uid: str, *, force: bool = False
    ) -> bool:  # fmt: skip
        """As `Cluster.delete`."""
        # By uid: an object that was created anew under the same name stays.
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if force:
            body["gracePeriodSeconds"] = 0
        try:
            await self._ask("DELETE", kind, kind.path(namespace, name), body=body)
        except ApiError as error:
            if error.status == 404:
                return False  # it is gone, which was the aim
            raise
        return True

    async def _pages(
        self, kind: ResourceKind, namespace: str, query: dict[str, str], accept: str = "application/json"
    ) -> list[Object]:
        found: list[Object] = []
        query = {**query, "limit": str(PAGE)}
        while True:
            answer = await self._ask("GET", kind, kind.path(namespace), query=query, accept=accept)
            found += answer.get("items") or []
            more = (answer.get("metadata") or {}).get("continue")
            if not more:
                return found
            query["continue"] = more

    async def _ask(
        self, method: str, kind: ResourceKind, path: str, *, query: dict[str, str] | None = None, body: Object | None = None,
        content_type: str = "application/json", accept: str = "application/json",
    ) -> Object:  # fmt: skip
        what = f"{method} {kind.plural}"
        if method != "GET":
            self.guard()
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": MANAGER}
        url = self._api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        code = "error"
        try:
            # For each request: the token of a service account is a file that the kubelet renews.
            await self._api.update_params_for_auth(headers, None, ["BearerToken"], path, method, body)
            timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
            async with asyncio.timeout(ANSWER_S + CONNECT_S):
                response = await self._api.rest_client.request(
                    method, url, headers=headers, body=body, _request_timeout=timeout
                )
                data = await response.read()
            code = str(response.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if method != "GET":
                self.guard()  # what the guard raised while the body went is the cause
            raise BusyError(0, "Unreachable", f"the API server does not answer: {error!r}", what=what) from error
        finally:
            self._on_request(method.lower(), kind.plural, code)
        return _read(response.status, data, response.headers.get("Retry-After"), what)


async def _credentials(settings: Any, kubeconfig: str | None) -> None:
    if kubeconfig is None:
        with contextlib.suppress(config.ConfigException):
            config.load_incluster_config(client_configuration=settings)
            return
    await config.load_kube_config(config_file=kubeconfig, client_configuration=settings)


def _read(status: int, data: bytes, retry_after: str | None, what: str) -> Object:
    """The object in an answer. Raises the ApiError that its status means."""
    try:
        answer = msgspec.json.decode(data)  # four times as fast as json, which counts for lists of 500 pods
    except (msgspec.DecodeError, ValueError):
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if status < 300:
        return answer
    reason = str(answer.get("reason") or status)
    message = str(answer.get("message") or data[:200].decode(errors="replace") or reason)
    causes = (answer.get("details") or {}).get("causes") or []
    # A namespace that is being deleted refuses with 403: no right is missing, and the resource will be gone soon.
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        raise EndingError(status, reason, message, what=what)
    if status == 409:
        raise ConflictError(status, reason, message, what=what)
    if status == 403:
        raise ForbiddenError(status, reason, message, what=what)
    if status in (401, 408, 410, 429) or status >= 500:  # 401: a token is being renewed; 410: a LIST took too long
        error = BusyError(status, reason, message, what=what)
        error.retry_after_s = float(retry_after) if retry_after and retry_after.isdigit() else None
        raise error
    raise ApiError(status, reason, message, what=what)
