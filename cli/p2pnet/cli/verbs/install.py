"""`install` and `uninstall`: the operator in a cluster."""

import asyncio
from dataclasses import dataclass
from typing import Any

from p2pnet.cli.documents import Installation
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.targets.cluster import installation
from p2pnet.cli.targets.cluster.target import ClusterTarget
from p2pnet.model.text import some

SHOWN = 8


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    operator_image: str | None = None
    node_image: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Removing:
    """As on the command line."""

    orphan: bool = False


async def run(options: Options, session: Session) -> Outcome:
    """Apply install.yaml, and wait until the cluster knows Subnets."""
    kube = _target(session).kube
    objects = installation.manifest(options.operator_image, options.node_image)
    _check_namespace(session, objects)
    done = await asyncio.to_thread(
        installation.install, kube, objects, session.listener.waiting,
        timeout_s=options.timeout_s or installation.ESTABLISHED_S,
    )  # fmt: skip
    document = Installation(context=kube.context, applied=done)
    return Outcome(document, next=("p2pnet doctor --on cluster", "p2pnet up demo --on cluster --nodes 3"))


async def remove(options: Removing, session: Session) -> Outcome:
    """Delete what `install` made, unless Subnets would go with it."""
    kube = _target(session).kube
    objects = installation.manifest()
    _check_namespace(session, objects)
    left = [] if options.orphan else await asyncio.to_thread(installation.subnets_left, kube)
    if left:
        raise CommandError(
            f"there are Subnets, which would go with it: {some(left, SHOWN)}",
            where=f"context {kube.context}",
            next_step="take them down first: p2pnet down NAME --on cluster -n NAMESPACE; or leave them and their pods: --orphan",
        )
    removed, absent = await asyncio.to_thread(
        installation.uninstall, kube, objects, session.listener.waiting, orphan=options.orphan
    )
    return Outcome(Installation(context=kube.context, removed=removed, absent=absent), next=("p2pnet install",))


def _check_namespace(session: Session, objects: list[dict[str, Any]]) -> None:
    """An operator elsewhere is the chart's business: install.yaml has one namespace, and serves every other from there."""
    [namespace] = [one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"]
    if session.namespace not in (None, namespace):
        raise CommandError(
            f"this installs into namespace {namespace}, from where the operator serves all",
            where=f"-n {session.namespace}",
            next_step=f"leave -n out; for another namespace: helm install p2pnet charts/p2pnet -n {session.namespace}",
        )


def _target(session: Session) -> ClusterTarget:
    target = session.target()
    if not isinstance(target, ClusterTarget):
        raise CommandError(
            "an operator is installed in a cluster",
            where=f"target {target.kind}",
            next_step="leave --on out, or --on cluster",
        )
    return target
