"""A Kubernetes API server with the rights of the person at this command line: kubeconfig, credentials, raw JSON.

The client library reads the kubeconfig (contexts, exec plugins, renewed tokens, proxies) and makes the connection; its
models are not used, for their import is slow. Calls block: under asyncio, make them in a thread.
"""

import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from p2pnet.lab_client import kubeconfig
from p2pnet.model.errors import TargetError

Object = dict[str, Any]
"""A Kubernetes object as JSON values."""

FIELD_MANAGER = "p2pnet-cli"  # of server-side apply; also the User-Agent
CONNECT_S = 5.0
ANSWER_S = 30.0
PAGE = 500  # objects per LIST
APPLY = "application/apply-patch+yaml"
HINT = "check the context: kubectl config current-context, kubectl cluster-info"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeError(TargetError):
    """The API server refused (`status`, its `reason` word) or cannot be reached (status 0)."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", hint: str = HINT) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason


class Kube:
    """One context and namespace of a kubeconfig, made by `open`."""

    def __init__(self, configuration: Any, *, context: str, namespace: str) -> None:
        from kubernetes.client import rest

        self.configuration = configuration
        self.context = context
        self.namespace = namespace
        self._pool = rest.RESTClientObject(configuration).pool_manager

    @staticmethod
    def configured() -> bool:
        """Whether there is a kubeconfig or a service account; does not import the client library."""
        return _any_file() or _in_cluster()

    @classmethod
    def open(
        cls, context: str | None = None, namespace: str | None = None, *, environment: Mapping[str, str] = os.environ
    ) -> "Kube":
        """Open a context, by default the current one, and a namespace, by default the context's. Raises KubeError (exit 3).

        `environment`: the variable KUBECONFIG in it lists the files, as for kubectl.
        """
        import urllib3
        from kubernetes import config as untyped_config
        from kubernetes.client import Configuration

        config: Any = untyped_config

        # insecure-skip-tls-verify is its owner's decision; kubectl does not warn about it either.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        settings, login = Configuration(), ""
        try:
            if context is None and not _kubeconfig_exists() and _in_cluster():
                config.load_incluster_config(client_configuration=settings)
                return cls(settings, context="in-cluster", namespace=namespace or _own_namespace())
            found = kubeconfig.read(environment)
            name, there = context or found.current, ", ".join(found.contexts) or "none"
            if name not in found.contexts:
                which = f"no context {name!r}" if name else "no current context"
                raise KubeError(
                    f"no usable kubeconfig: there is {which} in {found.text} (there: {there})", hint=kubeconfig.HINT
                )
            login = _auth_provider(found, name)
            config.load_kube_config(found.text, context=name, client_configuration=settings)
            if "://" not in str(settings.host):
                raise KubeError(f"context {name} names no server in {found.text}", hint=kubeconfig.HINT)
            given = namespace or str(found.contexts[name][0].get("namespace") or "default")
            return cls(settings, context=name, namespace=given)
        except TargetError:
            raise
        except Exception as error:  # the library does not wrap what bad files and plugins raise
            raise _unusable(error, login) from error

    def elsewhere(self, namespace: str) -> "Kube":
        """Another namespace of the same context."""
        return Kube(self.configuration, context=self.context, namespace=namespace)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self.configuration.host).rstrip("/")

    def headers(self) -> dict[str, str]:
        """The Authorization header, read anew for a token that is renewed. Raises KubeError when a plugin fails."""
        try:
            found = self.configuration.auth_settings().get("BearerToken")
        except Exception as error:
            raise KubeError(f"the credentials of context {self.context} cannot be had: {error}") from error
        return {"Authorization": found["value"]} if found and found.get("value") else {}

    def tls(self) -> ssl.SSLContext:
        """Trusted authorities and the client certificate, for a connection of our own. Raises KubeError."""
        settings = self.configuration
        try:
            made = ssl.create_default_context(cafile=settings.ssl_ca_cert or None, cadata=_text(settings.ca_cert_data))
            if not settings.verify_ssl:
                made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
            if settings.cert_file:
                made.load_cert_chain(settings.cert_file, settings.key_file or None)
        except (OSError, ValueError) as error:
            raise KubeError(f"the certificates of context {self.context} cannot be used: {error}") from error
        return made

    # --- objects ---

    def get(self, path: str) -> Object | None:
        """An object; None when it, or its kind, does not exist. Raises KubeError."""
        try:
            return self.ask("GET", path)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def find(self, path: str, selector: str = "") -> list[Object]:
        """All objects of a collection that match a label selector. Raises KubeError (404 when the kind does not exist)."""
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        found: list[Object] = []
        while True:
            answer = self.ask("GET", path, query=query)
            found += answer.get("items") or []
            more = (answer.get("metadata") or {}).get("continue")
            if not more:
                return found
            query["continue"] = more

    def apply(self, path: str, body: Object) -> Object:
        """Server-side apply of all the fields this manager owns, taking over conflicting ones. Raises KubeError."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self.ask("PATCH", path, query=query, body=body, content_type=APPLY)

    def merge(self, path: str, body: Object) -> Object:
        """Merge a patch (RFC 7386) into an object. Raises KubeError, 409 when its metadata.resourceVersion is an old one."""
        query = {"fieldManager": FIELD_MANAGER}
        return self.ask("PATCH", path, query=query, body=body, content_type="application/merge-patch+json")

    def delete(self, path: str) -> bool:
        """Delete an object in the background; False when it does not exist. Raises KubeError."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        try:
            self.ask("DELETE", path, body=body)
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return True

    def ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Object | None = None,
        content_type: str = "application/json", timeout_s: float = ANSWER_S,
    ) -> Object:  # fmt: skip
        """One request whose answer is JSON. Raises KubeError."""
        import urllib3

        headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER, **self.headers()}
        if body is not None:
            headers["Content-Type"] = content_type
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        try:
            response = self._pool.request(
                method, url, headers=headers, body=None if body is None else json.dumps(body).encode(), retries=False,
                timeout=urllib3.Timeout(connect=min(CONNECT_S, timeout_s), read=timeout_s),
            )  # fmt: skip
            data = response.data
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: an invalid URL or token
            raise self.unreachable(error) from error
        return self.read(response.status, data, f"{method.lower()} {path}")

    def read(self, status: int, data: bytes, what: str) -> Object:
        """The object in an answer; `what` is the request, for errors. Raises KubeError for a refusal."""
        answer = _object(data)
        if status < 300:
            return answer
        reason = str(answer.get("reason") or status)
        message = str(answer.get("message") or data[:200].decode(errors="replace").strip() or reason)
        hint = {
            401: f"its credentials are wrong or have expired: log in again, or use another context than {self.context}",
            403: "ask for that right, or use another context or namespace; p2pnet doctor --on cluster lists what is needed",
        }.get(status, HINT)
        said = message if status in (400, 403, 404, 409, 422) else f"{what}: {message}"
        raise KubeError(said, status=status, reason=reason, hint=hint)

    def unreachable(self, error: BaseException) -> KubeError:
        """The exception for a server that does not answer."""
        words = str(getattr(error, "reason", None) or error) or type(error).__name__
        return KubeError(f"the API server of context {self.context} at {self.server} does not answer: {words}")


def _auth_provider(found: kubeconfig.Kubeconfig, context: str) -> str:
    """The auth-provider with which the user of a context logs in; empty: none."""
    user, _ = found.users.get(str(found.contexts[context][0].get("user")), ({}, None))
    provider = user.get("auth-provider")
    return str(provider.get("name") or "") if isinstance(provider, Mapping) else ""


def _unusable(error: Exception, login: str) -> KubeError:
    """The exception for a kubeconfig that cannot be used; `login`: its auth-provider, or empty."""
    place = os.environ.get("KUBECONFIG") or "~/.kube/config"
    words = " ".join(str(error).split()) or "no word why"
    if isinstance(error, ImportError):
        words = f"its login needs a library that is not here ({words})"
    elif login:
        words = f"its user logs in with the auth-provider {login}, which is no longer supported: use an exec plugin"
    elif not isinstance(error, OSError) and type(error).__module__ == "builtins":
        words = f"it is not as kubectl writes it ({type(error).__name__}: {words})"
    return KubeError(f"no usable kubeconfig in {place}: {words}", hint=kubeconfig.HINT)


def _object(data: bytes) -> Object:
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _text(data: object) -> str | None:
    return data.decode() if isinstance(data, bytes) else (str(data) if data else None)


def _kubeconfig_exists() -> bool:
    return bool(os.environ.get("KUBECONFIG")) or _any_file()


def _any_file() -> bool:
    try:
        return any(file.is_file() for file in kubeconfig.files_of(os.environ))
    except OSError:  # a home directory that may not be read
        return False


def _in_cluster() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").is_file()


def _own_namespace() -> str:
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"
