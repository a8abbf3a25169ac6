"""The cluster that an operator is installed in or removed from: shared by `install` and `uninstall`."""

from typing import Any

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.session import Session
from p2pnet.cli.targets.cluster.target import ClusterTarget


def check_namespace(session: Session, objects: list[dict[str, Any]]) -> None:
    """An operator elsewhere is the chart's business: install.yaml has one namespace, and serves every other from there."""
    [namespace] = [one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"]
    if session.place.namespace not in (None, namespace):
        raise CommandError(
            f"this installs into namespace {namespace}, from where the operator serves all",
            where=f"-n {session.place.namespace}",
            next_step=f"leave -n out; for another namespace: helm install p2pnet charts/p2pnet -n {session.place.namespace}",
        )


def cluster_of(session: Session) -> ClusterTarget:
    """The cluster of the session. CommandError (exit 2) for another target."""
    target = session.target()
    if not isinstance(target, ClusterTarget):
        raise CommandError(
            "an operator is installed in a cluster",
            where=f"target {target.kind}",
            next_step="leave --on out, or --on cluster",
        )
    return target
