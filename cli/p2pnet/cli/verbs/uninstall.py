"""`uninstall`: the operator removed from a cluster."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer

from p2pnet.cli.documents import Installation
from p2pnet.cli.options import SubnetOptions, context_option, namespace_option, on_option
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.model.text import some

EXAMPLE = "p2pnet uninstall --context staging"
SHOWN = 8  # names in an error
NEXT_STEPS = {
    "Subnet": "take them down first: p2pnet down NAME --on cluster -n NAMESPACE; or leave them and their pods: --orphan",
    "Injection": "delete them first: kubectl delete injections -n NAMESPACE --all; or leave them and their results: --orphan",
}
"""By kind of what is left."""


@dataclass(frozen=True)
class UninstallOptions(SubnetOptions):
    """Remove the operator from a cluster.

    Refuses while there are Subnets or Injections, which would go with it.
    """

    orphan: Annotated[bool, typer.Option("--orphan", help="Leave Subnets, their pods and Injections as they are.")] = (
        False
    )
    on: Annotated[Literal["cluster", "kind"] | None, on_option("Kind of cluster.  [default: cluster]")] = field(
        default=None, kw_only=True
    )
    namespace: Annotated[
        str | None, namespace_option("The operator's own: p2pnet-system and no other, it serves all.")
    ] = field(default=None, kw_only=True)
    context: Annotated[str | None, context_option("The cluster")] = field(default=None, kw_only=True)


async def run(options: UninstallOptions, session: Session) -> Outcome:
    """Delete what `install` made, unless Subnets or Injections would go with it."""
    import asyncio

    from p2pnet.cli.operator_cluster import check_namespace, cluster_of
    from p2pnet.cli.targets.cluster import installation

    kube = cluster_of(session).kube
    objects = installation.manifest()
    check_namespace(session, objects)
    for kind, next_step in {} if options.orphan else NEXT_STEPS.items():
        left = await asyncio.to_thread(installation.left, kube, kind)
        if left:
            raise CommandError(
                f"there are {kind}s, which would go with it: {some(left, SHOWN)}",
                where=f"context {kube.context}",
                next_step=next_step,
            )
    removed, absent = await asyncio.to_thread(
        installation.uninstall, kube, objects, session.listener.waiting, orphan=options.orphan
    )
    return Outcome(Installation(context=kube.context, removed=removed, absent=absent), next=("p2pnet install",))
