"""A test's own words with the API server, as its admin: raw JSON, no operator's code between."""

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

Thing = dict[str, Any]

ANSWER_S = 50.0
"""Below the longest that a test waits for one coroutine (`inside.ANSWER_S`): whoever waits is told which request it was."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_OF_CORE = {
    "pods",
    "secrets",
    "configmaps",
    "services",
    "namespaces",
    "events",
    "nodes",
    "serviceaccounts",
    "resourcequotas",
}
_GROUPS = {
    "subnets": "p2pnet.io/v1alpha1", "injections": "p2pnet.io/v1alpha1",
    "poddisruptionbudgets": "policy/v1", "networkpolicies": "networking.k8s.io/v1",
    "leases": "coordination.k8s.io/v1", "customresourcedefinitions": "apiextensions.k8s.io/v1",
    "clusterroles": "rbac.authorization.k8s.io/v1", "clusterrolebindings": "rbac.authorization.k8s.io/v1",
    "roles": "rbac.authorization.k8s.io/v1", "rolebindings": "rbac.authorization.k8s.io/v1",
}  # fmt: skip


class RefusedError(AssertionError):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def path_of(plural: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of a collection or an object."""
    root = "/api/v1" if plural in _OF_CORE else f"/apis/{_GROUPS[plural]}"
    parts = [root, *(["namespaces", namespace] if namespace else []), plural, name, subresource]
    return "/".join(part for part in parts if part)


class Server:
    """The API server of a kubeconfig. Lives on the loop of `Inside`; every coroutine must run there."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        self.url: str = config["clusters"][0]["cluster"]["server"]
        self.token: str = config["users"][0]["user"]["token"]
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self.token}"}
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        self.session = aiohttp.ClientSession(self.url, headers=headers, connector=connector)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.session.close()

    async def ask(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Thing:
        """One request. Raises RefusedError."""
        data = None if body is None else json.dumps(body)
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        headers = {"Content-Type": content_type}
        async with self.session.request(method, path, data=data, headers=headers, timeout=timeout) as answer:
            found: Thing = await answer.json(content_type=None)
        if answer.status >= 300:
            raise RefusedError(answer.status, str(found.get("message")))
        return found

    async def text(self, url: str) -> str:
        """A page of anybody in the cluster's network. Raises RefusedError."""
        async with self.session.get(url, timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as answer:
            page = await answer.text()
        if answer.status >= 300:
            raise RefusedError(answer.status, page[:200])
        return page

    async def get(self, plural: str, namespace: str, name: str) -> Thing | None:
        """An object, or None."""
        try:
            return await self.ask("GET", path_of(plural, namespace, name))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def find(self, plural: str, namespace: str = "", selector: str = "") -> list[Thing]:
        """All objects with these labels."""
        query = "?" + urllib.parse.urlencode({"labelSelector": selector}) if selector else ""
        found: list[Thing] = (await self.ask("GET", path_of(plural, namespace) + query))["items"]
        return found

    async def create(self, plural: str, namespace: str, body: Thing) -> Thing:
        """A new object."""
        return await self.ask("POST", path_of(plural, namespace), body)

    async def apply(self, plural: str, namespace: str, body: Thing) -> Thing:
        """Server-side apply under the field manager `test`."""
        path = path_of(plural, namespace, body["metadata"]["name"]) + "?fieldManager=test&force=true"
        return await self.ask("PATCH", path, body, _APPLY)

    async def patch(self, plural: str, namespace: str, name: str, body: Thing, subresource: str = "") -> Thing:
        """Merge patch."""
        return await self.ask("PATCH", path_of(plural, namespace, name, subresource), body, _MERGE)

    async def delete(self, plural: str, namespace: str, name: str, **options: Any) -> None:
        """Delete an object, or nothing; `options` are DeleteOptions."""
        try:
            await self.ask("DELETE", path_of(plural, namespace, name), options)
        except RefusedError as error:
            if error.status not in (404, 409):
                raise

    async def watch(self, plural: str, selector: str = "") -> AsyncIterator[tuple[str, Thing]]:
        """(type, object) of everything there is and of every change, in all namespaces, through every loss of contact."""
        query = {"watch": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        query |= {"allowWatchBookmarks": "true", **({"labelSelector": selector} if selector else {})}
        path = f"{path_of(plural)}?{urllib.parse.urlencode(query)}"
        while True:
            try:
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
                async with self.session.get(path, timeout=timeout) as answer:
                    async for line in _lines(answer):
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (aiohttp.ClientError, OSError, ValueError, KeyError):
                await asyncio.sleep(0.2)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for part in answer.content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line
