"""What steps mean in a subnet, and which a target lacks. Pure."""

from collections.abc import Iterator

from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.scenario.plan import PlannedStep, ScenarioPlan, fault_item
from p2pnet.subnet.document import load_subnet, to_document
from p2pnet.subnet.edits import changed, refused
from p2pnet.subnet.faults import read_fault, victims
from p2pnet.subnet.members import behaviours_of, members
from p2pnet.subnet.spec import DEFAULT_GROUP, Subnet
from p2pnet.subnet.support import unsupported

_NO_IMAGES = "has no meaning here: there are no images; without it nodes are restarted one after the other"
_LOOKS_INSIDE = "only the simulator looks into nodes: wait for idle, holds or gone here"
_NOT_OURS = "is cert-manager's here: cmctl renew"


def sized(subnet: Subnet, group: str, nodes: int, nodes_max: int = limits.NODES_MAX) -> Subnet:
    """The document with another number of nodes in a group. Raises SpecError where that is none, or no live edit."""
    document = to_document(subnet)
    spec = document.setdefault("spec", {})
    groups = {one["name"]: one for one in spec.get("groups") or []}
    if group == DEFAULT_GROUP:
        spec["nodes"] = nodes
    elif group in groups:
        groups[group]["nodes"] = nodes
    else:
        raise SpecError(f"there is no group {group!r}: one of {', '.join([DEFAULT_GROUP, *groups])}")
    new = load_subnet(document, nodes_max=nodes_max)
    rolling = refused(changed(subnet, new), "local")
    if rolling:
        raise SpecError(
            f"with so many nodes it would have another {', '.join(rolling)}, which no running subnet takes:"
            " write it out in the Subnet document"
        )
    return new


def honest_nodes(subnet: Subnet) -> list[str]:
    """The members that are no adversaries: what is published is for them."""
    dishonest = behaviours_of(subnet)
    return [name for name, _ in members(subnet) if name not in dishonest]


def nodes_meant(subnet: Subnet, selector: str, name: str) -> list[str]:
    """The nodes that a selector, or a share drawn by seed and name, means. Raises SpecError."""
    return victims(subnet, read_fault(subnet, {"name": name, "restart": True, "from": selector}))


def unsupported_steps(plan: ScenarioPlan, target: str) -> dict[str, str]:
    """What a target (`local cluster kind sim`) lacks: path of a step -> `path: why`."""
    found: dict[str, str] = {}
    for step in plan.all():
        for line in _lacking(plan.subnet, step, target):
            found.setdefault(step.path, line)
    return found


def _lacking(subnet: Subnet, step: PlannedStep, target: str) -> Iterator[str]:
    spec = step.spec
    if spec.upgrade is not None and spec.upgrade.image is not None and target in ("local", "sim"):
        yield f"{step.path}.upgrade.image: {_NO_IMAGES} (target {target})"
    if spec.rotate is not None and target not in ("local", "sim") and subnet.spec.identity.issuer == "certManager":
        yield f"{step.path}.rotate: {_NOT_OURS} (target {target})"
    if spec.wait is not None and spec.wait.promise is not None and target != "sim":
        yield f"{step.path}.wait.promise: {_LOOKS_INSIDE} (target {target})"
    if spec.fault is not None:
        yield from _of_fault(subnet, step, target)


def _of_fault(subnet: Subnet, step: PlannedStep, target: str) -> Iterator[str]:
    """As of a document that holds the fault."""
    assert step.spec.fault is not None  # noqa: S101 - the caller's condition
    document = to_document(subnet)
    # Only what is unsupported counts: who is there at that step is checked elsewhere.
    document.setdefault("spec", {})["faults"] = [{**fault_item(step.spec.fault), "name": step.name}]
    try:
        lines = unsupported(load_subnet(document, nodes_max=limits.NODES_MAX * 1_000), target)
    except SpecError:
        return
    for line in lines:
        if line.startswith("spec.faults[0]"):
            yield line.replace("spec.faults[0]", f"{step.path}.fault", 1)
