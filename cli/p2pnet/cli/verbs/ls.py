"""`ls`: the subnets of every target. A cluster that is slow or away never keeps back what is here."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli.documents import SubnetLine, SubnetList
from p2pnet.cli.options import SubnetOptions, context_option, namespace_option, on_option
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.program import is_plugin
from p2pnet.cli.render import Output
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import LOCAL_NAMESPACE, Place, find_target
from p2pnet.cli.targets.target import LiveTarget
from p2pnet.model.errors import P2pnetError, TargetError

if TYPE_CHECKING:
    import asyncio

EXAMPLE = "p2pnet ls --all-namespaces"
CLUSTER_S = 3.0  # how long a cluster that nobody named is waited for
SOON_S = 0.5  # a cluster that answers within this is shown in one table with what is here


@dataclass(frozen=True)
class LsOptions(SubnetOptions):
    """List the subnets there are.

    On this machine and, where a cluster is configured, in its current namespace. Those here are shown even while the
    cluster does not answer.
    """

    every_namespace: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Of a cluster those of all namespaces.")
    ] = False
    on: Annotated[LiveTarget | None, on_option("List those of one target alone.  [default: those of all]")] = field(
        default=None, kw_only=True
    )
    namespace: Annotated[
        str | None, namespace_option("List those of this namespace of a cluster.  [default: the context's]")
    ] = field(default=None, kw_only=True)
    context: Annotated[str | None, context_option("List those of this cluster")] = field(default=None, kw_only=True)


async def run(options: LsOptions, session: Session) -> Outcome:
    """First what is here, and a cluster's as soon as they are known; all in one document where they come together."""
    import asyncio

    from p2pnet.cli.listing import following
    from p2pnet.cli.threads import in_daemon

    place = session.place
    elsewhere = place.context is not None or place.namespace not in (None, LOCAL_NAMESPACE)
    named = place.on in ("cluster", "kind") or (place.on is None and (elsewhere or is_plugin()))
    alone = place.on == "local" or (not named and (place.namespace == LOCAL_NAMESPACE or not _is_configured()))
    here = [] if named else await _here(place, session, alone=alone)
    if alone:
        return _outcome(here)
    asking = asyncio.ensure_future(in_daemon(_of_cluster, options, session))
    if named:
        return _outcome(await asking)
    early = bool(here) and session.output in (Output.TABLE, Output.NDJSON)
    done, _ = await asyncio.wait({asking}, timeout=SOON_S if early else CLUSTER_S)
    shown = early and not done
    if shown:
        session.show(SubnetList(subnets=here))
        done, _ = await asyncio.wait({asking}, timeout=CLUSTER_S - SOON_S)
    there: list[SubnetLine] = []
    try:
        there = asking.result() if done else _give_up(asking)
    except P2pnetError as error:
        session.note(f"subnets of the cluster are not listed: {error}")
    if shown:
        return Outcome(SubnetList(subnets=there) if there else None, next=following(here + there))
    return _outcome(here + there)


def _give_up(asking: "asyncio.Future[list[SubnetLine]]") -> list[SubnetLine]:
    asking.cancel()
    raise CommandError(
        f"it has not answered within {CLUSTER_S:.0f} s",
        where="p2pnet ls",
        next_step="p2pnet ls --on cluster waits for it",
    )


async def _here(place: Place, session: Session, *, alone: bool) -> list[SubnetLine]:
    """Subnets of this machine; where they are not `alone`, a state directory that is of no use is no reason to show none."""
    from p2pnet.cli.listing import subnet_lines

    try:
        return await subnet_lines(find_target(replace(place, on="local"), verb="ls"))
    except TargetError as error:
        if alone:
            raise
        session.note(f"subnets of this machine are not listed: {error}")
        return []


def _outcome(lines: list[SubnetLine]) -> Outcome:
    from p2pnet.cli.listing import following

    return Outcome(SubnetList(subnets=lines), next=following(lines) or ("p2pnet up demo --nodes 10",))


def _is_configured() -> bool:
    from p2pnet.lab_client.kube import Kube

    return Kube.configured()


def _of_cluster(options: LsOptions, session: Session) -> list[SubnetLine]:
    """Blocks, for as long as plugins, logins and servers take."""
    import asyncio

    from p2pnet.cli.listing import subnet_lines
    from p2pnet.cli.targets.cluster.target import API, ClusterTarget

    place = replace(session.place, on=session.place.on or "cluster")
    target = find_target(place, verb="ls", tell=session.remark)
    assert isinstance(target, ClusterTarget)  # noqa: S101 it was asked for
    kube, targets = target.kube, [target]
    if options.every_namespace:
        things = kube.find(f"{API}/subnets")
        targets = [
            ClusterTarget(target.state, kube.elsewhere(namespace))
            for namespace in sorted({str(thing["metadata"].get("namespace") or "default") for thing in things})
        ]
    return [line for one in targets for line in asyncio.run(subnet_lines(one))]
