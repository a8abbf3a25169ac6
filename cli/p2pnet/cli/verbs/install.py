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

    Applies what this version ships and waits until the cluster knows Subnets. Again over an older one: an upgrade.
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

    kube = cluster_of(session).kube
    objects = installation.manifest(options.operator_image, options.node_image)
    check_namespace(session, objects)
    done = await asyncio.to_thread(
        installation.install, kube, objects, session.listener.waiting,
        timeout_s=options.timeout_s or installation.ESTABLISHED_S,
    )  # fmt: skip
    document = Installation(context=kube.context, applied=done)
    return Outcome(document, next=("p2pnet doctor --on cluster", "p2pnet up demo --on cluster --nodes 3"))
