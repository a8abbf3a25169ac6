"""Read a Subnet object into a `SubnetContext`, with the checks of the command line: a CRD cannot make them all."""

from collections.abc import Mapping
from typing import Any

from p2pnet.model.errors import SpecError
from p2pnet.operator.kube import times
from p2pnet.operator.kube.api import Object, annotations_of, meta, owned_by, uid_of
from p2pnet.operator.subnet.context import SubnetContext
from p2pnet.operator.subnet.plan.configmaps import DOCUMENT_KEY
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import unsupported


class UnsupportedError(SpecError):
    """The document is right, and this target cannot honour part of it."""


def site_of(thing: Object, image: str, edges: list[list[str]] | None = None) -> SubnetContext:
    """The Subnet in its place; `edges` stand in for an `edgesFrom`. Raises SpecError with the paths that are wrong."""
    return _placed(thing, _subnet(thing, edges), image)


def last_good(thing: Object, config_map: Object | None, image: str) -> SubnetContext | None:
    """The Subnet as its last document in force has it, from the ConfigMap it was written to; None when there is none."""
    text = ((config_map or {}).get("data") or {}).get(DOCUMENT_KEY)
    if config_map is None or not text or not owned_by(config_map, uid_of(thing)):
        return None
    try:
        return _placed(thing, load_subnet(text), image)
    except SpecError:  # another version of the operator wrote it
        return None


def _placed(thing: Object, subnet: Subnet, image: str) -> SubnetContext:
    metadata = meta(thing)
    refused = unsupported(subnet, "cluster")
    if refused:
        raise UnsupportedError("; ".join(refused))
    return SubnetContext(
        subnet, str(metadata["namespace"]), str(metadata.get("uid", "")), image,
        generation=int(metadata.get("generation", 1)), annotations=annotations_of(thing),
        created=times.parse(metadata.get("creationTimestamp")),
    )  # fmt: skip


def edges_reference(thing: Object) -> tuple[str, str] | None:
    """(ConfigMap, key) of `topology.edgesFrom`, when the document has one."""
    topology = (thing.get("spec") or {}).get("topology") or {}
    found = topology.get("edgesFrom") or {}
    return (str(found["configMap"]), str(found.get("key", "edges"))) if found.get("configMap") else None


def _subnet(thing: Object, edges: list[list[str]] | None) -> Subnet:
    metadata = meta(thing)
    spec: Mapping[str, Any] = thing.get("spec") or {}
    if edges is not None:
        topology = {key: value for key, value in spec["topology"].items() if key != "edgesFrom"}
        spec = {**spec, "topology": {**topology, "edges": edges}}
    document = {
        "apiVersion": thing.get("apiVersion"), "kind": thing.get("kind"), "spec": spec,
        "metadata": {"name": metadata.get("name"), "namespace": metadata.get("namespace")},
    }  # fmt: skip
    return load_subnet(document)
