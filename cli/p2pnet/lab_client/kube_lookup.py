"""Whether a Subnet exists in the kubeconfig's current context, for commands that were given no target.

The user did not ask for a cluster, so the question must not delay work on this machine nor print anything: the answer has
a time limit, nothing logs in or runs a plugin while the subnet is on this machine, and the client library, whose import
takes half a second, is used only where a plugin or proxy needs it, in a process that is killed when its time is over.
"""

import base64
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from p2pnet.lab_client import kubeconfig
from p2pnet.model.errors import TargetError

BESIDE_S = 0.5
"""How long the question may take when the subnet is on this machine."""
INSTEAD_S = 5.0
"""How long it may take otherwise."""
ANSWER_BYTES_MAX = 1 << 20  # one Subnet with its status fits many times
_COLLECTION = "/apis/p2pnet.io/v1alpha1/namespaces/{namespace}/subnets"
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
_ASIDE = ("exec", "auth-provider", "as", "as-user-extra")
"""Keys of a kubeconfig's user that need the client library."""


class UnknownError(TargetError):
    """The question cannot be answered, for the reason in the text."""


@dataclass(frozen=True)
class Access:
    """Access to an API server with nothing but the entries of a kubeconfig."""

    context: str
    namespace: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]
    cluster_folder: Path
    user_folder: Path
    """Relative paths in an entry start from its folder."""


def is_there(name: str | None, *, beside: bool) -> bool:
    """Whether the current context and namespace has this Subnet, or with name None any Subnet.

    `beside`: the subnet is on this machine too, so the time limit is the shorter one. Raises UnknownError.
    """
    try:
        access = plain_access(os.environ)
    except kubeconfig.KubeconfigError as error:
        raise UnknownError(str(error)) from error
    if access is not None:
        return _bounded(lambda: _ask(access, name), BESIDE_S if beside else INSTEAD_S, f"context {access.context}")
    if beside:
        raise UnknownError("the current context needs a plugin, a login or a proxy, and is not asked beside local work")
    return _in_process(name)


def plain_access(environment: Mapping[str, str]) -> Access | None:
    """The current context; None when it needs the client library. Raises KubeconfigError, UnknownError."""
    if any(environment.get(one) or environment.get(one.upper()) for one in _PROXIES):
        return None
    found = kubeconfig.read(environment)
    if not found.contexts and not found.current:
        return None  # perhaps a pod with a service account, which the client library knows
    if found.current not in found.contexts:
        raise UnknownError(f"the kubeconfig {found.text} has no current context")
    context = found.contexts[found.current][0]
    cluster, cluster_folder = found.clusters.get(str(context.get("cluster")), ({}, Path()))
    user, user_folder = found.users.get(str(context.get("user")), ({}, Path()))
    if any(user.get(key) for key in _ASIDE) or cluster.get("proxy-url") or not cluster.get("server"):
        return None
    namespace = str(context.get("namespace") or "default")
    return Access(found.current, namespace, cluster, user, cluster_folder, user_folder)


def _bounded(question: Callable[[], bool], within_s: float, whom: str) -> bool:
    """The answer of `question`, in a thread that is abandoned after `within_s`: DNS look-ups cannot be bounded otherwise."""
    answers: list[bool | Exception] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception as error:  # noqa: BLE001 - raised by the caller below
            answers.append(error)

    thread = threading.Thread(target=ask, name="cluster-aside", daemon=True)
    thread.start()
    thread.join(within_s)
    if not answers or isinstance(answers[0], TimeoutError):  # the socket's own timeout may come first
        raise UnknownError(f"{whom} did not answer within {within_s:g} s")
    if isinstance(answers[0], Exception):
        raise UnknownError(f"{whom} cannot be asked: {answers[0]}") from answers[0]
    return answers[0]


def _ask(access: Access, name: str | None) -> bool:
    """One GET. Raises OSError, ValueError, HTTPException and UnknownError."""
    url = urlsplit(str(access.cluster["server"]))
    path = url.path.rstrip("/") + _COLLECTION.format(namespace=access.namespace)
    connection = _connection(access, url.hostname or "", url.port, secure=url.scheme == "https")
    try:
        connection.request("GET", f"{path}/{name}" if name else f"{path}?limit=1", headers=_headers(access))
        response = connection.getresponse()
        data = response.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()
    if response.status == 404:
        return False
    if response.status != 200:
        raise UnknownError(f"HTTP {response.status} {response.reason}")
    return name is not None or bool(json.loads(data).get("items"))


def _connection(access: Access, host: str, port: int | None, *, secure: bool) -> HTTPConnection:
    if not secure:
        return HTTPConnection(host, port, timeout=INSTEAD_S)
    trusted, verified = access.cluster, not access.cluster.get("insecure-skip-tls-verify")
    with _file(access.cluster_folder, trusted, "certificate-authority") as authority:
        made = ssl.create_default_context(cafile=authority)
    if not verified:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    with (
        _file(access.user_folder, access.user, "client-certificate") as chain,
        _file(access.user_folder, access.user, "client-key") as key,
    ):
        if chain is not None:
            made.load_cert_chain(chain, key)
    name = trusted.get("tls-server-name")
    connection = HTTPSConnection(host, port, timeout=INSTEAD_S, context=made)
    if name:

        def connect() -> None:
            HTTPConnection.connect(connection)
            connection.sock = made.wrap_socket(connection.sock, server_hostname=str(name))

        connection.connect = connect  # type: ignore[method-assign]
    return connection


@contextlib.contextmanager
def _file(folder: Path, entry: Mapping[str, Any], key: str) -> Iterator[str | None]:
    """The path of a PEM file of an entry, made from inline data where needed, for ssl reads only files; None: there is none."""
    data = entry.get(f"{key}-data")
    if not data:
        yield str(folder / str(entry[key])) if entry.get(key) else None
        return
    with tempfile.NamedTemporaryFile(prefix="p2pnet-", suffix=".pem") as file:  # 0600
        file.write(base64.b64decode(str(data)))
        file.flush()
        yield file.name


def _headers(access: Access) -> dict[str, str]:
    user = access.user
    headers = {"Accept": "application/json", "User-Agent": "p2pnet-cli"}
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = (access.user_folder / str(user["tokenFile"])).read_text(encoding="utf-8").strip()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif user.get("username"):
        pair = f"{user['username']}:{user.get('password') or ''}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers


def _in_process(name: str | None) -> bool:
    """The answer of the client library, from a process that is killed with its plugins after INSTEAD_S."""
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", "-m", "p2pnet.lab_client.kube_lookup", *([name] if name else [])],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=INSTEAD_S)
    except subprocess.TimeoutExpired:
        raise UnknownError(f"the current context did not answer within {INSTEAD_S:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    try:
        answer = json.loads(said)
        if "why" in answer:
            raise UnknownError(str(answer["why"]))
        return bool(answer["there"])
    except (ValueError, KeyError) as error:
        raise UnknownError("the current context cannot be asked") from error


def main(arguments: list[str]) -> int:
    """The process of `_in_process`: prints its answer as JSON."""
    from p2pnet.lab_client.kube import Kube, KubeError

    try:
        kube = Kube.open()
        path = _COLLECTION.format(namespace=kube.namespace)
        there = kube.get(f"{path}/{arguments[0]}") is not None if arguments else bool(kube.find(path))
        answer: dict[str, object] = {"there": there}
    except KubeError as error:
        answer = {"there": False} if error.status == 404 else {"why": str(error)}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
