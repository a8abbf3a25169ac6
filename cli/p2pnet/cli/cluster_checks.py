"""`doctor` of a cluster: is it reached, does it know Subnets, may this person use them, does the operator work."""

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from p2pnet.cli.documents import Check, Examination
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.targets.cluster import installation
from p2pnet.cli.targets.cluster.installation import DEPLOYMENTS, of_operators, selector_of
from p2pnet.cli.targets.cluster.status import name_of
from p2pnet.cli.targets.cluster.target import ClusterTarget
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.model.errors import P2pnetError
from p2pnet.subnet.pods import why_not_up

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Permission:
    """What this person must be allowed to do, and for which verbs of p2pnet."""

    verb: str
    resource: str
    what_for: str
    group: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f"/{self.subresource}" if self.subresource else "")


RIGHTS = (
    Permission("list", "subnets", "status", group="p2pnet.io"),
    Permission("get", "subnets", "every verb", group="p2pnet.io"),
    Permission("create", "subnets", "up", group="p2pnet.io"),
    Permission("patch", "subnets", "up", group="p2pnet.io"),
    Permission("delete", "subnets", "down", group="p2pnet.io"),
    Permission("list", "pods", "up, status, logs, down"),
    Permission("get", "pods", "logs", subresource="log"),
    Permission("get", "secrets", "inject, trace, get: the lab's token"),
    *(Permission(verb, "services", "inject, trace, get: the lab", subresource="proxy") for verb in ("get", "create")),
)


def _names(target: ClusterTarget) -> list[str]:
    """The subnets there are, as far as that is told."""
    with contextlib.suppress(P2pnetError):
        return target.names()
    return []


async def examine(target: ClusterTarget) -> Outcome:
    """Exit 3 when something is in the way, 0 with warnings. What hangs on a failed check is not looked at."""
    checks = await asyncio.to_thread(lambda: list(_examine(target)))
    failed = [check.name for check in checks if check.result == "failed"]
    if not failed:
        names = await asyncio.to_thread(_names, target)
        following = f"p2pnet status {names[0]}" if names else "p2pnet up demo --nodes 3"
        return Outcome(Examination(checks=checks), next=(following,))
    failure = CommandError(
        f"this cluster cannot hold a subnet: {', '.join(failed)}",
        where=target.where,
        next_step="do what stands under each failed check",
        exit_code=ExitCode.NOT_FOUND,
    )
    return Outcome(Examination(checks=checks), exit_code=failure.exit_code, failure=failure)


def _examine(target: ClusterTarget) -> Iterator[Check]:
    kube = target.kube
    reached = _guarded("API server", lambda: _server(kube))
    yield reached
    if reached.result == "failed":
        return
    definition = _guarded("Subnet definition", lambda: _definition(target))
    yield definition
    yield _guarded("rights", lambda: _rights(kube))
    yield _guarded("operator", lambda: _operator(target))
    if definition.result != "failed":
        yield _guarded("labs' tokens", lambda: _tokens(target))


def _guarded(name: str, probe: Callable[[], tuple[str, str, str]]) -> Check:
    """A check whose probe gives (result, what was found, what to do)."""
    try:
        result, found, next_step = probe()
    except KubeError as error:
        result, found, next_step = "failed", str(error), error.hint
    return Check(name=name, result=result, found=found, next_step=next_step)  # type: ignore[arg-type] # one of the three


def _server(kube: Kube) -> tuple[str, str, str]:
    version = kube.ask("GET", "/version").get("gitVersion", "of unknown version")
    return "ok", f"{kube.server}, {version}", ""


def _definition(target: ClusterTarget) -> tuple[str, str, str]:
    kube = target.kube
    if installation.is_installed(kube):
        missing = installation.unknown_kinds(kube)
        if not missing:
            return "ok", "p2pnet.io/v1alpha1 is served", ""
        found = f"the cluster knows no {missing[0]}s: what is installed is of an older version"
        return "warning", found, target.install_command
    return "failed", "the cluster knows no Subnets", target.install_command


def _rights(kube: Kube) -> tuple[str, str, str]:
    missing = [right for right in RIGHTS if not _may(kube, right)]
    if not missing:
        return "ok", f"all {len(RIGHTS)} in namespace {kube.namespace}", ""
    found = "; ".join(f"{right} (for {right.what_for})" for right in missing)
    return "failed", f"missing in namespace {kube.namespace}: {found}", "ask for a Role with these verbs"


def _may(kube: Kube, right: Permission) -> bool:
    attributes = {
        "namespace": kube.namespace, "verb": right.verb, "group": right.group, "resource": right.resource,
        "subresource": right.subresource,
    }  # fmt: skip
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }  # fmt: skip
    return bool((kube.ask("POST", REVIEW, body=review).get("status") or {}).get("allowed"))


def _operator(target: ClusterTarget) -> tuple[str, str, str]:
    kube = target.kube
    look = "kubectl get pods -A -l"
    try:
        found = of_operators(kube, DEPLOYMENTS)
        pods = of_operators(kube, "/api/v1/pods")
    except KubeError as error:
        if error.status != 403:
            raise
        return "warning", "you may not look at it", f"ask who may: {look} {selector_of([])}"
    if not found:
        return "failed", "there is none", target.install_command
    one = found[0]
    name = f"Deployment {one['metadata']['namespace']}/{name_of(one)}"
    image = one["spec"]["template"]["spec"]["containers"][0].get("image", "")
    if int((one.get("status") or {}).get("readyReplicas") or 0) > 0:
        return "ok", f"{name}, {image}", ""
    why = next(filter(None, map(why_not_up, pods)), "it is starting")
    return "failed", f"{name} is not ready: {why}", f"{look} {selector_of(found)}"


def _tokens(target: ClusterTarget) -> tuple[str, str, str]:
    names, unread = target.names(), []
    for name in names:
        path = f"/api/v1/namespaces/{target.kube.namespace}/secrets/{name}-lab-token"
        try:
            data = ((target.kube.get(path) or {}).get("data") or {}).get("token", "")
        except KubeError as error:
            if error.status != 403:
                raise
            data = ""
        if not base64.b64decode(data):
            unread.append(name)
    if unread:
        what = f"not to be read: {', '.join(unread[:SHOWN])}"
        return (
            "warning",
            what,
            "ask for the right to get the Secrets NAME-lab-token, or wait until the operator made them",
        )
    return "ok", f"{len(names)} read" if names else f"no subnet in namespace {target.kube.namespace} yet", ""
