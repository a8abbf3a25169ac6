"""`install`: the operator applied to a cluster, once more to upgrade it."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer

from p2pnet.cli.documents import Installation
from p2pnet.cli.options import SubnetOptions, context_option, namespace_option, on_option, wait_option
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session

EXAMPLE = "p2pnet install --context staging"


@dataclass(frozen=True)
class InstallOptions(SubnetOptions):
    """Install the operator in a cluster.

    Applies what this version ships and waits until the cluster knows Subnets. Again over an older one: an upgrade. With
    --on kind the cluster is made first where there is none, images of this machine are loaded, and the operator works
    when it ends.
    """

    operator_image: Annotated[
        str | None,
        typer.Option("--operator-image", metavar="IMAGE", help="Of the operator.  [default: this version's]"),
    ] = None
    node_image: Annotated[
        str | None,
        typer.Option("--node-image", metavar="IMAGE", help="Of nodes and labs.  [default: this version's]"),
    ] = None
    timeout_s: Annotated[
        float | None,
        wait_option("How long to wait until the cluster knows Subnets.  [default: 60s]"),
    ] = None
    on: Annotated[Literal["cluster", "kind"] | None, on_option("Kind of cluster.  [default: cluster]")] = field(
        default=None, kw_only=True
    )
    namespace: Annotated[
        str | None, namespace_option("The operator's own: p2pnet-system and no other, it serves all.")
    ] = field(default=None, kw_only=True)
    context: Annotated[str | None, context_option("The cluster")] = field(default=None, kw_only=True)


async def run(options: InstallOptions, session: Session) -> Outcome:
    """Apply install.yaml, and wait until the cluster knows Subnets and Injections."""
    import asyncio

    from p2pnet.cli.operator_cluster import check_namespace, cluster_of
    from p2pnet.cli.targets.cluster import installation
    from p2pnet.cli.targets.cluster.kind import KindTarget

    target = cluster_of(session)
    objects = installation.manifest(options.operator_image, options.node_image)
    check_namespace(session, objects)
    established_s = options.timeout_s or installation.ESTABLISHED_S
    if isinstance(target, KindTarget):
        done = await target.install(objects, session.listener, established_s=established_s)
    else:
        done = await asyncio.to_thread(
            installation.install, target.kube, objects, session.listener.waiting, timeout_s=established_s
        )
    document = Installation(context=target.kube.context, applied=done)
    on = "" if session.place.on else " --on cluster"
    return Outcome(document, next=(f"p2pnet doctor{on}", f"p2pnet up demo --nodes 3{on}"))
