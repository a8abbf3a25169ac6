"""`ls`: the subnets of every target. A cluster that is slow or away never keeps back what is here."""

import asyncio
from dataclasses import dataclass

from p2pnet.cli.documents import SubnetLine, SubnetList
from p2pnet.cli.listing import subnet_lines
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.session import On, Session
from p2pnet.cli.targets import find, is_plugin
from p2pnet.cli.threads import in_daemon
from p2pnet.model.errors import P2pnetError

NEXT = "p2pnet status NAME"
CLUSTER_S = 3.0  # how long a cluster that nobody named is waited for
SOON_S = 0.5  # a cluster that answers within this is shown in one table with what is here


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    every_namespace: bool = False


async def run(options: Options, session: Session) -> Outcome:
    """First what is here, and a cluster's as soon as they are known; all in one document where they come together."""
    named = session.on in (On.CLUSTER, On.KIND) or session.context is not None or session.namespace is not None
    named = named or (session.on is None and is_plugin())
    here = [] if named else await subnet_lines(find(On.LOCAL, None, None, verb="ls"))
    if session.on is On.LOCAL or not (named or _is_configured()):
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
        return Outcome(SubnetList(subnets=there) if there else None, next=(NEXT,))
    return _outcome(here + there)


def _give_up(asking: "asyncio.Future[list[SubnetLine]]") -> list[SubnetLine]:
    asking.cancel()
    raise CommandError(
        f"it has not answered within {CLUSTER_S:.0f} s",
        where="p2pnet ls",
        next_step="p2pnet ls --on cluster waits for it",
    )


def _outcome(lines: list[SubnetLine]) -> Outcome:
    hint = NEXT if lines else "p2pnet up demo --nodes 10"
    return Outcome(SubnetList(subnets=lines), next=(hint,))


def _is_configured() -> bool:
    from p2pnet.lab_client.kube import Kube

    return Kube.configured()


def _of_cluster(options: Options, session: Session) -> list[SubnetLine]:
    """Blocks, for as long as plugins, logins and servers take."""
    on = session.on if session.on in (On.CLUSTER, On.KIND) else On.CLUSTER
    from p2pnet.cli.targets.cluster.target import API, ClusterTarget

    target = find(on, session.namespace, session.context, verb="ls", tell=session.remark)
    assert isinstance(target, ClusterTarget)  # noqa: S101 it was asked for
    kube, targets = target.kube, [target]
    if options.every_namespace:
        things = kube.find(f"{API}/subnets")
        targets = [
            ClusterTarget(target.state, kube.elsewhere(namespace))
            for namespace in sorted({str(thing["metadata"].get("namespace") or "default") for thing in things})
        ]
    return [line for one in targets for line in asyncio.run(subnet_lines(one))]
