"""Where subnets live. A command asks `find` for a target and then speaks to that alone."""

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.progress import ProgressListener
from p2pnet.cli.session import On

if TYPE_CHECKING:
    from p2pnet.cli.targets.cluster.target import ClusterTarget
    from p2pnet.cli.targets.local import LocalTarget
    from p2pnet.lab_client import LabClient
    from p2pnet.model.jobs import RunFile
    from p2pnet.store import State
    from p2pnet.store.heads import RunHead
    from p2pnet.subnet.spec import Subnet

OFFERED = (On.LOCAL, On.CLUSTER, On.KIND)
LOCAL_NAMESPACE = "local"
MAKING = ("up", "doctor", "render")
"""Verbs that mean this machine unless told otherwise."""
OPERATING = ("install", "uninstall")
"""Verbs that mean a cluster."""
Sight = Literal["absent", "starting", "up", "dead", "damaged"]


class Target(Protocol):
    """What every target can do. `state` is where copies of finished runs are read, whatever the target."""

    @property
    def kind(self) -> str:
        """`local`, `cluster`: as documents name it."""

    @property
    def state(self) -> "State":
        """The state directory of this user."""

    def names(self) -> list[str]:
        """Subnets there are, dead ones too."""

    def look(self, name: str) -> Sight:
        """How a subnet is, without asking its lab."""

    def place_of(self, name: str) -> tuple[str | None, str | None]:
        """Context and namespace of a subnet; None and None on this machine."""

    def subnet(self, name: str) -> "Subnet":
        """The document of a subnet. CommandError when it is absent or damaged."""

    def desk(self, name: str) -> "AbstractAsyncContextManager[LabClient]":
        """A session with its lab. CommandError (exit 3) when there is none or it is dead; its open runs are then invalid."""

    def last_words(self, name: str) -> CommandError | None:
        """Why its lab gave up, when it said so."""

    async def collect(self, name: str) -> None:
        """Bring copies of its runs into `state`, where they are kept elsewhere; nothing when there is no such subnet."""

    def made(self, run: "RunFile | RunHead") -> bool:
        """Whether a run in `state` may be of a subnet here."""

    def place(self, subnet: "Subnet") -> None:
        """Go where the document says it belongs."""

    def hold(self, name: str, listener: ProgressListener) -> AbstractAsyncContextManager[None]:
        """Keep other commands from starting or removing this subnet meanwhile."""

    async def start(self, subnet: "Subnet", listener: ProgressListener, *, timeout_s: float) -> None:
        """Start it; returns when its lab answers. Only under `hold`."""

    async def remove(self, name: str, listener: ProgressListener) -> bool:
        """Stop it and remove everything but its runs; whether there was anything. Only under `hold`."""


def find(
    on: On | None, namespace: str | None, context: str | None, *, name: str | None = None, verb: str = "",
    tell: Callable[[str], None] = lambda _text: None,
) -> Target:  # fmt: skip
    """The target a command line means; `tell` hears which context it is. CommandError when it cannot be had.

    Without `--on`, NAME is looked up on this machine, then in the current context and namespace.
    """
    clusters = context is not None or namespace not in (None, LOCAL_NAMESPACE)
    if clusters and on not in (None, On.CLUSTER, On.KIND):
        option = f"--context {context}" if context is not None else f"--namespace {namespace}"
        raise CommandError(
            "contexts and namespaces belong to clusters",
            where=f"--on {on} {option}",
            next_step="leave one of the two out",
        )
    if on is None and (clusters or is_plugin() or verb in OPERATING):
        on = On.CLUSTER
    match on:
        case On.SIM:
            offered = ", ".join(OFFERED)
            raise CommandError(
                f"target {on} is not offered by this version",
                where=f"--on {on}",
                next_step=f"use one it offers: {offered}",
            )
        case On.LOCAL:
            return _local()
        case On.CLUSTER:
            found = _cluster(context, namespace)
            tell(found.where)
            return found
        case On.KIND:
            from p2pnet.cli.targets.cluster.kind import KindTarget

            kind = KindTarget(_local().state, namespace=namespace)
            tell(kind.where)
            return kind
        case None:
            return _looked_up(name, verb, tell)


def _looked_up(name: str | None, verb: str, tell: Callable[[str], None]) -> Target:
    """Here, unless NAME is only in the cluster; without any NAME, unless there is nothing here but something there.

    Nobody asked for a cluster yet: it is asked aside of what is here, within bounds (`desk.kube_aside`).
    """
    from p2pnet.lab_client.kube import Kube

    local = _local()
    if verb in MAKING or (name is None and (verb != "status" or local.names())) or not Kube.configured():
        return local
    here = name is not None and local.look(name) != "absent"
    if not _is_there(name, tell, beside=here):
        return local
    cluster = _cluster(None, None)
    if here:
        raise CommandError(
            f"{name} is on this machine and in {cluster.where}",
            where=f"p2pnet {verb} {name}",
            next_step="say which: --on local, or --on cluster",
        )
    tell(cluster.where)
    return cluster


def _is_there(name: str | None, tell: Callable[[str], None], *, beside: bool) -> bool:
    """Whether the current context has the subnet, as far as it says so in time; that it did not is said where it matters."""
    from p2pnet.lab_client import kube_lookup

    try:
        return kube_lookup.is_there(name, beside=beside)
    except kube_lookup.UnknownError as error:
        if not beside:
            tell(f"note: only this machine was looked at ({error}); --on cluster waits for the cluster")
        return False


def _local() -> "LocalTarget":
    from p2pnet.cli.targets.local import LocalTarget
    from p2pnet.store.state import State

    return LocalTarget(State.default())


def _cluster(context: str | None, namespace: str | None) -> "ClusterTarget":
    from p2pnet.cli.targets.cluster.target import ClusterTarget
    from p2pnet.lab_client.kube import Kube
    from p2pnet.store.state import State

    return ClusterTarget(State.default(), Kube.open(context, namespace), namespace_given=namespace is not None)


def is_plugin() -> bool:
    """Whether this is `kubectl p2pnet`."""
    return Path(sys.argv[0]).name.startswith("kubectl-")
