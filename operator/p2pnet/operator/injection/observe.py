"""What there is for an Injection: its Subnet, the lab and the run there, files of a ConfigMap, who is ahead. Only reads."""

import base64
import binascii
from dataclasses import replace

from p2pnet.model.errors import P2pnetError
from p2pnet.model.text import some
from p2pnet.operator.injection.context import (  # fmt: skip
    INJECTION,
    InjectionContext,
    InjectionObserved,
    LabFacts,
    Reason,
    SubnetFacts,
    ahead_of,
)
from p2pnet.operator.injection.lab import RunLabs
from p2pnet.operator.kube.api import (  # fmt: skip
    CONFIG_MAP,
    MANAGED_BY,
    MANAGER,
    POD,
    SECRET,
    Cluster,
    ForbiddenError,
    Object,
    annotations_of,
    meta,
    name_of,
    owned_by,
    uid_of,
)
from p2pnet.operator.subnet.annotations import PAUSED, is_paused
from p2pnet.operator.subnet.context import ROLE_LABEL, SUBNET, SUBNET_LABEL
from p2pnet.operator.subnet.lab import address_in
from p2pnet.subnet.injection import FILES_MAX

KEYS_SHOWN = 5


class InjectionObserver:
    """Reads what an Injection depends on. Raises ApiError; a lab that cannot be reached is no error."""

    def __init__(self, cluster: Cluster, labs: RunLabs) -> None:
        self._cluster = cluster
        self._labs = labs

    async def observe(self, context: InjectionContext) -> InjectionObserved:
        """Everything there is. A lab is asked only where a run may be, or could begin: many may wait for one."""
        subnet = await self._subnet(context)
        if subnet is None:
            return InjectionObserved()
        if context.is_started:
            return await self._with_lab(context, subnet, InjectionObserved())
        files, ahead = await self.files_problem(context), await self.ahead(context)
        observed = InjectionObserved(subnet, files=files, ahead=ahead)
        may_begin = subnet.hindrance is None and files is None and not ahead
        return await self._with_lab(context, subnet, observed) if may_begin else observed

    async def ahead(self, context: InjectionContext) -> tuple[str, ...]:
        """Injections of the same Subnet that come first."""
        return ahead_of(context, await self._cluster.find(INJECTION, context.namespace))

    async def files_problem(self, context: InjectionContext) -> Reason | None:
        """Why the files are not to be had; None: they are, or none are asked for."""
        return (await self.read_files(context))[1]

    async def read_files(self, context: InjectionContext) -> tuple[dict[str, bytes], Reason | None]:
        """The files of the ConfigMap by their keys, and why they are not to be had."""
        source = context.injection.spec.files_from
        if source is None:
            return {}, None
        try:
            found = await self._cluster.get(CONFIG_MAP, context.namespace, source.config_map)
        except ForbiddenError as error:  # no reason to hold up others
            return {}, Reason("FilesMissing", str(error))
        if found is None:
            return {}, Reason("FilesMissing", f"there is no ConfigMap {source.config_map} yet")
        held = files_in(found)
        keys = source.keys or sorted(held)
        missing = [key for key in keys if key not in held]
        where = f"ConfigMap {source.config_map}"
        if missing:
            return {}, Reason("FilesMissing", f"{where} has no {some(missing, KEYS_SHOWN)} yet")
        if not keys:
            return {}, Reason("FilesMissing", f"{where} holds no files yet")
        if len(keys) > FILES_MAX:
            return {}, Reason(
                "TooManyFiles", f"{where} holds {len(keys)} files: name at most {FILES_MAX} of them as keys"
            )
        return {key: held[key] for key in keys}, None

    async def _subnet(self, context: InjectionContext) -> SubnetFacts | None:
        found = await self._cluster.get(SUBNET, context.namespace, context.subnet)
        if found is None or meta(found).get("deletionTimestamp"):
            return None
        return SubnetFacts(uid_of(found), _hindrance(found))

    async def _with_lab(
        self, context: InjectionContext, subnet: SubnetFacts, observed: InjectionObserved
    ) -> InjectionObserved:
        """With the address of the lab, and what it answers."""
        address = await self._address(context.namespace, context.subnet, subnet.uid)
        lab = await self._lab(context, address)
        return replace(observed, subnet=replace(subnet, address=address), lab=lab)

    async def _address(self, namespace: str, subnet: str, uid: str) -> tuple[str, str] | None:
        """(`host:port`, token) of a Subnet's lab; None while it is not ready."""
        selector = f"{MANAGED_BY}={MANAGER},{SUBNET_LABEL}={subnet},{ROLE_LABEL}=lab"
        pods = await self._cluster.find(POD, namespace, selector)
        secrets = await self._cluster.find(SECRET, namespace, selector)
        pod = next((one for one in pods if owned_by(one, uid)), None)
        named = (one for one in secrets if owned_by(one, uid) and name_of(one) == f"{subnet}-lab-token")
        return address_in(pod, next(named, None))

    async def _lab(self, context: InjectionContext, address: tuple[str, str] | None) -> LabFacts:
        if address is None:
            return LabFacts(problem="the lab's pod is not ready")
        try:
            if not context.is_started:
                return LabFacts(await self._labs.process(*address))
            if context.run:
                run = await self._labs.run(*address, context.run)
            else:
                run = await self._labs.run_of(*address, context.uid)
            # Only where there is no run does it matter which process has said so.
            return LabFacts(run=run) if run else LabFacts(await self._labs.process(*address))
        except P2pnetError as error:
            return LabFacts(problem=str(error))


def files_in(config_map: Object) -> dict[str, bytes]:
    """Texts and bytes of a ConfigMap, by key; what is no base64 is left out, as if it were missing."""
    found = {key: str(text).encode() for key, text in (config_map.get("data") or {}).items()}
    for key, text in (config_map.get("binaryData") or {}).items():
        try:
            found[key] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found


def _hindrance(subnet: Object) -> Reason | None:
    """Why no run may begin on a Subnet now."""
    name = name_of(subnet)
    if is_paused(annotations_of(subnet)):
        return Reason("SubnetPaused", f"Subnet {name} is paused by its annotation {PAUSED}")
    conditions = (subnet.get("status") or {}).get("conditions") or []
    ready: Object = next((one for one in conditions if one.get("type") == "Ready"), {})
    if int(ready.get("observedGeneration") or 0) < int(meta(subnet).get("generation") or 0):
        return Reason("SubnetNotReady", f"Subnet {name} has been edited, or is new: nothing is known of it yet")
    if ready.get("status") != "True":
        why = ": ".join(str(ready[part]) for part in ("reason", "message") if ready.get(part))
        return Reason("SubnetNotReady", f"Subnet {name} is not Ready" + (f": {why}" if why else ""))
    return None
