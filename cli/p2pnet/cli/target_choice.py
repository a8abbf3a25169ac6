"""Which target a command line means, by `--on`, `-n`, `--context` and NAME."""

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.program import is_plugin
from p2pnet.cli.targets.target import Target, TargetName

if TYPE_CHECKING:
    from p2pnet.cli.targets.bundled import BundleTarget

    # a cluster's client library takes half a second, this machine's 50 ms
    from p2pnet.cli.targets.cluster.target import ClusterTarget
    from p2pnet.cli.targets.local import LocalTarget
    from p2pnet.cli.targets.simulated import SimTarget

LOCAL_NAMESPACE = "local"
MAKING = ("up", "run", "doctor", "render")
"""Verbs that mean this machine unless told otherwise."""
OPERATING = ("install", "uninstall")
"""Verbs that mean a cluster."""
READING = ("report", "trace", "get", "runs")
"""Verbs that read what is kept of runs, those of the simulator too."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command line says a subnet lives; None: not said."""

    on: TargetName | None = None
    namespace: str | None = None
    context: str | None = None

    def options(self) -> dict[str, str]:
        """Option -> value, of those that are said."""
        chosen = {"--on": self.on, "-n": self.namespace, "--context": self.context}
        return {option: str(value) for option, value in chosen.items() if value is not None}

    def typed(self) -> str:
        """The options as they were typed, each behind a blank: commands to type next need them too."""
        return "".join(f" {option} {shlex.quote(value)}" for option, value in self.options().items())

    def of(self, target: Target) -> "Place":
        """The place of a target that was looked up: commands to type next find it by no look."""
        looked_up = self.on is None and self.context is None and self.namespace in (None, LOCAL_NAMESPACE)
        if not looked_up or target.kind not in ("cluster", "kind") or is_plugin():
            return self
        return replace(self, on=target.kind)

    def inside(self, namespace: str | None, target: Target) -> "Place":
        """The place of a subnet whose document names a namespace."""
        if namespace is None or target.kind not in ("cluster", "kind"):
            return self
        return replace(self, namespace=namespace)


def find_target(
    place: Place, *, name: str | None = None, verb: str = "", tell: Callable[[str], None] = lambda _text: None
) -> Target:
    """The target a command line means; `tell` hears which context it is. CommandError when it cannot be had.

    Without `--on`, NAME is looked up on this machine, then in the current context and namespace. This machine's state directory
    must be of use, but for `doctor`, which says what is wrong with it: TargetError (exit 2).
    """
    if name is not None and is_bundle(name):
        return open_bundled(Path(name))
    target = _found(place, name, verb, tell)
    if target.kind in ("local", "sim") and verb != "doctor":
        target.state.check()
    return target


def _found(place: Place, name: str | None, verb: str, tell: Callable[[str], None]) -> Target:
    on, namespace, context = place.on, place.namespace, place.context
    clusters = context is not None or namespace not in (None, LOCAL_NAMESPACE)
    if clusters and on in ("local", "sim"):
        option = f"--context {context}" if context is not None else f"--namespace {namespace}"
        raise CommandError(
            "contexts and namespaces belong to clusters",
            where=f"--on {on} {option}",
            next_step="leave one of the two out",
        )
    if on is None and (clusters or is_plugin() or verb in OPERATING):
        on = "cluster"
    match on:
        case "local":
            return _local(simulated=False)
        case "sim":
            return _simulated()
        case "cluster":
            found = _cluster(context, namespace)
            tell(found.where)
            return found
        case "kind":
            from p2pnet.cli.targets.cluster.kind import KindTarget

            kind = KindTarget(_local().state, namespace=namespace, context=context)
            tell(kind.where)
            return kind
        case None:
            return _looked_up(name, verb, tell)


def is_bundle(name: str) -> bool:
    """Whether a file is meant, a bundle: no subnet's name has a dot or a slash in it."""
    return ("." in name or "/" in name) and Path(name).is_file()


def open_bundled(path: Path) -> "BundleTarget":
    """The runs in a bundle. CommandError (exit 2) for what is none."""
    from p2pnet.cli.targets.bundled import BundleTarget
    from p2pnet.store.bundle_format import BundleError
    from p2pnet.store.bundles import open_bundle

    try:
        return BundleTarget(open_bundle(path))
    except BundleError as error:
        raise CommandError(
            f"{path} cannot be read: {error}", where=str(path), next_step="pack it again with p2pnet collect RUN"
        ) from None


@contextlib.contextmanager
def errors_as_given(target: Target, given: str) -> Iterator[None]:
    """Errors about the runs of a bundle name the file that was given, not where it was unpacked, nor its subnet."""
    subnet: str | None = getattr(target, "bundled", None)
    try:
        yield
    except CommandError as error:
        if subnet is None:
            raise
        command = re.compile(rf"p2pnet (?:report|trace|runs) {re.escape(subnet)}(?![-\w.])")
        root = re.compile(rf"{re.escape(str(target.state.root))}[^\s,;]*")
        raise CommandError(
            root.sub(given, error.what),
            where=root.sub(given, error.where),
            next_step=command.sub(lambda _: f"p2pnet report {shlex.quote(given)}", root.sub(given, error.next_step)),
            exit_code=error.exit_code,
        ) from None


def _looked_up(name: str | None, verb: str, tell: Callable[[str], None]) -> Target:
    """Here, unless NAME is only in the cluster; without any NAME, unless there is nothing here but something there.

    Nobody asked for a cluster yet: it is asked beside what is here, within bounds (`lab_client.kube_lookup`).
    Kept runs of the simulator are here, too, for verbs that read runs.
    """
    from p2pnet.lab_client.kube import Kube

    local = _local()
    if verb in MAKING or (name is None and (verb != "status" or local.names())) or not Kube.configured():
        return local
    here = name is not None and local.presence(name) != "absent"
    kept = not here and verb in READING and name in _simulated().names()
    if not _is_there(name, tell, beside=here or kept):
        return local
    cluster = _cluster(None, None)
    if kept:
        raise CommandError(
            f"{name} is in {cluster.where}, and runs of the simulator are kept here under that name",
            where=f"p2pnet {verb} {name}",
            next_step="say which: --on sim, or --on cluster",
        )
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


def _local(*, simulated: bool = True) -> "LocalTarget":
    """This machine; its kept runs with those of the simulator, or without."""
    from p2pnet.cli.targets.local import LocalTarget
    from p2pnet.store.state import State

    return LocalTarget(State.default(), simulated=simulated)


def _simulated() -> "SimTarget":
    from p2pnet.cli.targets.simulated import SimTarget
    from p2pnet.store.state import State

    return SimTarget(State.default())


def _cluster(context: str | None, namespace: str | None) -> "ClusterTarget":
    from p2pnet.cli.targets.cluster.target import ClusterTarget
    from p2pnet.lab_client.kube import Kube
    from p2pnet.store.state import State

    return ClusterTarget(State.default(), Kube.open(context, namespace), namespace_given=namespace is not None)
