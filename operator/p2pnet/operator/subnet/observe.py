"""What there is: a Subnet's document with the checks of the command line, its children in the cluster, and its lab's summary.

Nothing is written here. A CRD's schema cannot express every check (`crd_rules` lists which), so each document is checked
again; the last one that passed is kept in a ConfigMap and stays in force while a newer one does not.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.operator.kube.api import (  # fmt: skip
    CERTIFICATE,
    CLAIM,
    CONFIG_MAP,
    NODE,
    POD,
    ApiError,
    Cluster,
    ForbiddenError,
    Object,
    annotations_of,
    meta,
    name_of,
    owned_by,
    parse_time,
    uid_of,
)
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet import machines as machine_rules
from p2pnet.operator.subnet.context import (
    CHILDREN,
    LostMachine,
    Observed,
    PodDefaults,
    SubnetContext,
    SubnetProblem,
    config_map_of,
)
from p2pnet.operator.subnet.lab import Labs, address_of
from p2pnet.operator.subnet.plan.configmaps import DOCUMENT_KEY, read_membership
from p2pnet.subnet.checks import EDGES_FILE
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.members import parse_edges
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import unsupported

log = logging.getLogger(__name__)

_CERT_MANAGER_MISSING = (
    "the API server knows no Certificates of cert-manager.io/v1: install cert-manager (cert-manager.io/docs/installation),"
    " or make the Subnet anew with issuer: builtin"
)
_CERT_MANAGER_FORBIDDEN = "the operator may not see Certificates: set the chart's certManager.enabled"


class UnsupportedError(SpecError):
    """The document is valid, but this target cannot honour part of it."""


class Observer:
    """Reads Subnets and what belongs to them. `image` and `pull_secrets` are for documents that name none."""

    def __init__(
        self, cluster: Cluster, labs: Labs, *, now: Callable[[], datetime], image: str, pull_secrets: tuple[str, ...] = (),
        any_user: bool = False, machines: bool = True,
    ) -> None:  # fmt: skip
        """`machines`: whether Node objects may be read, which are of no namespace."""
        self._cluster = cluster
        self._now = now
        self._machines = machines
        self._labs = labs
        self._defaults = PodDefaults(image, pull_secrets, any_user)
        self._contexts: dict[Key, tuple[Object, SubnetContext]] = {}
        """What a context was made from, and the context with all that it has cached."""

    async def context(self, key: Key, subnet: Object) -> SubnetContext:
        """The document of a Subnet object, checked; the same context until it is edited.

        Raises SpecError with the paths that are wrong.
        """
        reference = edges_reference(subnet)
        if reference is not None:  # never cached: the ConfigMap changes without the Subnet
            return context_of(subnet, self._defaults, await self._edges(subnet, *reference))
        parts = ("uid", "generation", "annotations")
        document = {"spec": subnet.get("spec"), **{part: meta(subnet).get(part) for part in parts}}
        before = self._contexts.get(key)
        if before is not None and before[0] == document:
            return before[1]
        context = context_of(subnet, self._defaults)
        self._contexts[key] = document, context
        return context

    async def last_good(self, subnet: Object) -> SubnetContext | None:
        """The Subnet by its last document that passed, from the ConfigMap written for it; None when there is none."""
        name, namespace = name_of(subnet), str(meta(subnet)["namespace"])
        config_map = await self._cluster.get(CONFIG_MAP, namespace, config_map_of(name))
        text = ((config_map or {}).get("data") or {}).get(DOCUMENT_KEY)
        if config_map is None or not text or not owned_by(config_map, uid_of(subnet)):
            return None
        try:
            return _context(subnet, load_subnet(text), self._defaults)
        except SpecError:  # written by another version of the operator
            return None

    async def observe(self, context: SubnetContext, subnet: Object) -> Observed:
        """List the children of a Subnet and ask its lab. Raises ApiError; a lab that cannot be reached is no error."""
        kinds = CHILDREN if context.subnet.spec.lab.storage == "emptyDir" else (*CHILDREN, CLAIM)
        # One LIST per kind, at the same time: together they take one round trip.
        lists = await asyncio.gather(*(self._cluster.find(kind, context.namespace, context.selector) for kind in kinds))
        # A label is not ownership: anybody may set it.
        children = {
            kind: {name_of(one): one for one in found if context.owns(one)}
            for kind, found in zip(kinds, lists, strict=True)
        }
        observed = Observed(subnet, children)
        if context.cert_manager:
            await self._observe_certificates(context, observed)
        observed.lost = await self._lost_machines(observed)
        await self._observe_lab(context, observed)
        return observed

    def forget(self, key: Key) -> None:
        """The Subnet is gone: drop its context."""
        self._contexts.pop(key, None)

    async def _edges(self, subnet: Object, name: str, key: str) -> list[list[str]]:
        found = await self._cluster.get(CONFIG_MAP, str(meta(subnet)["namespace"]), name)
        text = ((found or {}).get("data") or {}).get(key)
        if text is None:
            raise SpecError(f"spec.topology.edgesFrom: there is no key {key!r} in a ConfigMap {name!r}")
        return parse_edges(text, f"ConfigMap {name}")

    async def _observe_certificates(self, context: SubnetContext, observed: Observed) -> None:
        """List cert-manager's Certificates. That it is not installed or not allowed is a problem of this Subnet alone."""
        try:
            found = await self._cluster.find(CERTIFICATE, context.namespace, context.selector)
        except ForbiddenError as error:
            observed.issuer_problem = SubnetProblem("Forbidden", f"{_CERT_MANAGER_FORBIDDEN} ({error})")
            return
        except ApiError as error:
            if error.status != 404:
                raise
            observed.issuer_problem = SubnetProblem("CertManagerMissing", _CERT_MANAGER_MISSING)
            return
        observed.children[CERTIFICATE] = {name_of(one): one for one in found if context.owns(one)}

    async def _lost_machines(self, observed: Observed) -> list[LostMachine]:
        now = self._now()
        found = [
            await self._lost_machine(name, pods, now)
            for name, pods in machine_rules.suspected(observed.of(POD).values(), now).items()
        ]
        return [machine for machine in found if machine is not None]

    async def _lost_machine(self, name: str, pods: list[Object], now: datetime) -> LostMachine | None:
        if self._machines:
            try:
                return machine_rules.by_node(name, await self._cluster.get(NODE, "", name), pods, now)
            except ForbiddenError as error:  # an older role, or one made by hand
                log.debug("machine %s is judged by its pods: %s", name, error)
        return machine_rules.by_pods(name, pods, now)

    async def _observe_lab(self, context: SubnetContext, observed: Observed) -> None:
        address = address_of(context, observed)
        if address is None:
            there = context.lab in observed.of(POD)
            lost = next((f": machine {one.name} {one.why}" for one in observed.lost if context.lab in one.pods), "")
            observed.lab_problem = f"the lab's pod is not {'ready' if there else 'there'}{lost}"
            return
        try:
            observed.lab = await self._labs.summary(*address)
            # The lab has the only other copy of who was removed.
            if read_membership(observed.of(CONFIG_MAP).get(context.members_map)) is None:
                observed.lab_members = await self._labs.members(*address)
        except P2pnetError as error:
            observed.lab_problem = str(error)


def context_of(subnet: Object, defaults: PodDefaults, edges: list[list[str]] | None = None) -> SubnetContext:
    """The context of a Subnet object; `edges` take the place of an `edgesFrom`. Raises SpecError."""
    metadata = meta(subnet)
    spec: Mapping[str, Any] = subnet.get("spec") or {}
    if ((spec.get("topology") or {}).get("edgesFrom") or {}).get(
        "file"
    ):  # a definition of an older version lets it pass
        raise SpecError(f"spec.topology.edgesFrom: {EDGES_FILE}")
    if edges is not None:
        topology = {key: value for key, value in spec["topology"].items() if key != "edgesFrom"}
        spec = {**spec, "topology": {**topology, "edges": edges}}
    document = {
        "apiVersion": subnet.get("apiVersion"), "kind": subnet.get("kind"), "spec": spec,
        "metadata": {"name": metadata.get("name"), "namespace": metadata.get("namespace")},
    }  # fmt: skip
    return _context(subnet, load_subnet(document), defaults)


def edges_reference(subnet: Object) -> tuple[str, str] | None:
    """(ConfigMap, key) of `topology.edgesFrom`, when the document has one."""
    topology = (subnet.get("spec") or {}).get("topology") or {}
    found = topology.get("edgesFrom") or {}
    return (str(found["configMap"]), str(found.get("key", "edges"))) if found.get("configMap") else None


def _context(thing: Object, subnet: Subnet, defaults: PodDefaults) -> SubnetContext:
    refused = unsupported(subnet, "cluster")
    if refused:
        raise UnsupportedError("; ".join(refused))
    metadata = meta(thing)
    return SubnetContext(
        subnet, str(metadata["namespace"]), str(metadata.get("uid", "")), defaults.image,
        pull_secrets=defaults.pull_secrets, any_user=defaults.any_user,
        generation=int(metadata.get("generation", 1)), annotations=annotations_of(thing),
        created=parse_time(metadata.get("creationTimestamp")),
    )  # fmt: skip
