"""What a cluster says about a subnet besides its lab: its object, pods, their events and logs. For `collect`."""

from dataclasses import dataclass, field
from typing import Any

from p2pnet.cli.targets.cluster.logs import PodLogs
from p2pnet.cli.targets.cluster.status import SUBNET_LABEL, Object, name_of
from p2pnet.cli.threads import in_daemon
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.model.jobs import LogLine
from p2pnet.store.logs import LogQuery

EVENTS_MAX = 5_000  # of Kubernetes' own, the newest


@dataclass(slots=True)
class ClusterFacts:
    """What was to be had."""

    subnet: Object | None = None
    pods: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)

    @property
    def images(self) -> dict[str, list[str]]:
        """Digests of the images that ran, by the name under which they were asked for."""
        found: dict[str, list[str]] = {}
        for pod in self.pods:
            for one in (pod.get("status") or {}).get("containerStatuses") or []:
                digests = found.setdefault(str(one.get("image")), [])
                if one.get("imageID") and one["imageID"] not in digests:
                    digests.append(one["imageID"])
        return found


async def ask_facts(context: str, namespace: str, name: str) -> ClusterFacts:
    """Ask a context of the kubeconfig. Raises KubeError; what a person may not read is left empty."""
    kube = await in_daemon(Kube.open, context, namespace)
    facts = await in_daemon(_objects, kube, name)
    if facts.pods:
        async with PodLogs(kube, LogQuery()) as logs:
            facts.lines = sorted(await logs.read(facts.pods), key=lambda line: line.t)
    return facts


def _objects(kube: Kube, name: str) -> ClusterFacts:
    place = f"/api/v1/namespaces/{kube.namespace}"
    facts = ClusterFacts(subnet=kube.get(f"/apis/p2pnet.io/v1alpha1/namespaces/{kube.namespace}/subnets/{name}"))
    facts.pods = [_told(pod) for pod in kube.find(f"{place}/pods", f"{SUBNET_LABEL}={name}")]
    names = {name, *map(name_of, facts.pods)}
    try:
        events = kube.find(f"{place}/events")
    except KubeError:  # a right of its own, which not everybody has
        events = []
    mine = [_told(event) for event in events if (event.get("involvedObject") or {}).get("name") in names]
    facts.events = mine[-EVENTS_MAX:]
    facts.subnet = None if facts.subnet is None else _told(facts.subnet)
    return facts


def _told(thing: Object) -> dict[str, Any]:
    """Without what only an API server reads."""
    metadata = {key: value for key, value in (thing.get("metadata") or {}).items() if key != "managedFields"}
    annotations = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if "last-applied" not in key
    }
    if "annotations" in metadata:
        metadata["annotations"] = annotations
    return {**thing, "metadata": metadata}
