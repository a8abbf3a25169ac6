"""The wrapper of the API server: what goes over the wire, and what its refusals become."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio import client

from p2pnet.operator.kube import client as module
from p2pnet.operator.kube.api import POD, SECRET, ApiError, BusyError, ConflictError, ForbiddenError
from p2pnet.operator.kube.client import KubernetesCluster
from p2pnet.operator.kube.leader import LeadershipLostError
from p2pnet.operator.subnet.context import SUBNET


class Server:
    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.hang = False

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.requests.append(
            (
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                json.loads(text) if text else None,
            )
        )
        if self.hang:
            await asyncio.sleep(30)
        status, body, headers = self.answers.pop(0) if self.answers else (200, {"metadata": {"name": "x"}}, {})
        return web.json_response(body, status=status, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubernetesCluster]:
    settings = client.Configuration(host=f"http://127.0.0.1:{server.port}")
    settings.api_key = {"BearerToken": "Bearer secret"}
    found = KubernetesCluster(client.ApiClient(configuration=settings))
    yield found
    await found.close()


async def test_an_apply_is_forced_in_our_name_with_the_token(server: Server, api: KubernetesCluster) -> None:
    await api.apply(SUBNET, "ns", {"metadata": {"name": "demo"}}, "status")
    method, path, query, headers, body = server.requests[0]
    assert (method, path) == ("PATCH", "/apis/p2pnet.io/v1alpha1/namespaces/ns/subnets/demo/status")
    assert query == {"fieldManager": "p2pnet-operator", "force": "true"}
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert headers["Authorization"] == "Bearer secret"
    assert body == {"metadata": {"name": "demo"}}


async def test_a_deletion_names_the_uid_and_takes_no_other_and_one_that_is_gone_is_no_error(
    server: Server, api: KubernetesCluster
) -> None:
    server.answers = [(200, {}, {}), (404, {"reason": "NotFound"}, {}), (409, {"reason": "Conflict"}, {})]
    assert [await api.delete(POD, "ns", "x", "u-1") for _ in range(2)] == [True, False]
    with pytest.raises(ConflictError):
        await api.delete(POD, "ns", "x", "u-1")
    assert server.requests[0][4]["preconditions"] == {"uid": "u-1"}


async def test_a_merge_patch_and_a_creation_say_what_they_are(server: Server, api: KubernetesCluster) -> None:
    await api.patch(SECRET, "ns", "x", {"data": {"a": None}})
    await api.create(SECRET, "ns", {"metadata": {"name": "x"}})
    assert [one[3]["Content-Type"] for one in server.requests] == ["application/merge-patch+json", "application/json"]
    assert server.requests[0][4] == {"data": {"a": None}}


async def test_lists_are_read_in_pages(server: Server, api: KubernetesCluster) -> None:
    server.answers = [(200, {"items": [{"a": 1}], "metadata": {"continue": "t"}}, {}), (200, {"items": [{"a": 2}]}, {})]
    assert await api.find(POD, "ns", "a=b,c=d") == [{"a": 1}, {"a": 2}]
    assert server.requests[0][2] == {"labelSelector": "a=b,c=d", "limit": "500"}
    assert server.requests[1][2]["continue"] == "t"
    await api.names(POD, "ns")
    assert "PartialObjectMetadataList" in server.requests[2][3]["Accept"]


async def test_a_missing_object_is_none(server: Server, api: KubernetesCluster) -> None:
    server.answers = [(404, {"reason": "NotFound"}, {})]
    assert await api.get(POD, "ns", "x") is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [(409, ConflictError), (403, ForbiddenError), (429, BusyError), (500, BusyError), (503, BusyError), (401, BusyError),
     (422, ApiError)],
)  # fmt: skip
async def test_refusals_have_their_kind_and_the_servers_words(
    server: Server, api: KubernetesCluster, status: int, kind: type[ApiError]
) -> None:
    server.answers = [(status, {"reason": "Because", "message": "so it is"}, {"Retry-After": "7"})]
    with pytest.raises(kind, match="POST pods: so it is") as raised:
        await api.create(POD, "ns", {"metadata": {"name": "x"}})
    if isinstance(raised.value, BusyError):
        assert raised.value.retry_after_s == 7


async def test_a_namespace_that_is_going_is_no_missing_right(server: Server, api: KubernetesCluster) -> None:
    details = {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}
    server.answers = [(403, {"reason": "Forbidden", "message": "it is being terminated", "details": details}, {})]
    with pytest.raises(ConflictError, match="being terminated"):
        await api.create(POD, "ns", {"metadata": {"name": "x"}})


async def test_a_silent_server_and_a_closed_port_are_errors_in_time(
    server: Server, api: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    monkeypatch.setattr(module, "CONNECT_S", 0.1)
    server.hang = True
    with pytest.raises(BusyError, match="does not answer"):
        await api.get(POD, "ns", "x")
    closed = KubernetesCluster(client.ApiClient(configuration=client.Configuration(host="http://127.0.0.1:9")))
    with pytest.raises(BusyError, match="does not answer"):
        await closed.get(POD, "ns", "x")
    await closed.close()


async def test_nothing_is_written_without_the_guards_leave(server: Server, api: KubernetesCluster) -> None:
    def guard() -> None:
        raise LeadershipLostError("another one leads")

    api.guard = guard
    await api.get(POD, "ns", "x")
    for write in (api.create(POD, "ns", {}), api.apply(POD, "ns", {"metadata": {"name": "x"}}),
                  api.patch(POD, "ns", "x", {}), api.delete(POD, "ns", "x", "u")):  # fmt: skip
        with pytest.raises(LeadershipLostError):
            await write
    assert len(server.requests) == 1


@pytest.mark.parametrize("when", [2, 3], ids=["while it waited for a connection", "before the bytes went"])
@pytest.mark.parametrize("warm", [False, True])
async def test_a_process_stopped_before_a_write_is_on_its_way_writes_nothing(
    server: Server, warm: bool, when: int
) -> None:
    settings = client.Configuration(host=f"http://127.0.0.1:{server.port}")
    trace = aiohttp.TraceConfig()
    settings.trace_configs = [trace]
    api = KubernetesCluster(client.ApiClient(configuration=settings))
    api.guard_connections(trace)
    if warm:
        await api.get(POD, "ns", "x")
    asked = 0

    def guard() -> None:
        nonlocal asked
        asked += 1
        if asked >= when:
            raise LeadershipLostError("another one leads by now")

    api.guard = guard
    with pytest.raises(LeadershipLostError):
        await api.create(POD, "ns", {})
    await api.close()
    assert len(server.requests) == int(warm)


async def test_every_request_is_counted(server: Server) -> None:
    seen: list[tuple[str, str, str]] = []
    settings = client.Configuration(host=f"http://127.0.0.1:{server.port}")
    api = KubernetesCluster(client.ApiClient(configuration=settings), on_request=lambda *words: seen.append(words))
    await api.get(POD, "ns", "x")
    await api.close()
    assert seen == [("get", "pods", "200")]
