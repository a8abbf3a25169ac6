"""Faults: read and checked one by one, in words, and what a churn does when. Pure.

Whom they are about stands in `fault_nodes`, what they do to links in `network`.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from itertools import count

from pydantic import ValidationError

from p2pnet.model.errors import SpecError
from p2pnet.subnet.fault_nodes import chance, victims
from p2pnet.subnet.mistakes import sentences_of, spec_error, without_nulls
from p2pnet.subnet.network_checks import fault_mistakes
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.selectors import EVERY, Roster
from p2pnet.subnet.spec import Subnet

__all__ = ["churn_schedule", "describe", "is_about_nodes", "kind_of_fault", "read_fault", "victims"]

_ABOUT_NODES = frozenset(("pause", "kill", "restart", "churn"))
_SHAPES = ("latency", "jitter", "loss", "duplication", "reorder", "bandwidth", "mtu")
"""Fields of a shape, in the order in which people are told of them."""


def read_fault(subnet: Subnet, fault: Mapping[str, object], *, taken: Collection[str] = ()) -> FaultSpec:
    """An item of `spec.faults`, checked against the subnet. Raises SpecError naming every field that is wrong.

    Without a name it gets the first of its kind that is not `taken`, like `loss-1`; a name that is taken is refused.
    """
    written = without_nulls(dict(fault))
    unnamed = "name" not in written
    try:
        read = FaultSpec.model_validate({**written, "name": "x"} if unnamed else written)
    except ValidationError as error:
        raise spec_error(sentences_of(error, ("spec", "faults", 0))) from None
    if unnamed:
        free = (f"{kind_of_fault(read)}-{number}" for number in count(1))
        read = read.model_copy(update={"name": next(name for name in free if name not in taken)})
    elif read.name in taken:
        raise SpecError(f"name: there is a fault {read.name!r} already: choose another name, or clear that one first")
    mistakes = fault_mistakes(Roster(subnet), subnet.spec.seed, read, "")
    if mistakes:
        raise spec_error([f"{path}: {text}" if path else text for path, text in mistakes])
    return read


def is_about_nodes(fault: FaultSpec) -> bool:
    """Whether it is done to the processes of nodes, not to links: pause, kill, restart, churn."""
    return kind_of_fault(fault) in _ABOUT_NODES


def kind_of_fault(fault: FaultSpec) -> str:
    """What it does, in a word: `block`, `kill`, ...; a shape by the first thing that it does, like `loss`."""
    kind = next(iter(fault.kinds), "fault")
    return next(iter(_figures(fault)), "shape") if kind == "shape" else kind


def describe(fault: FaultSpec) -> str:
    """What it does, to whom, in a few words, like `loss 20% from node-0 to *`."""
    kind, source = kind_of_fault(fault), f"{fault.from_} of the nodes" if fault.share else fault.from_
    who = "every node" if source == EVERY else source
    if fault.partition is not None:
        minority = fault.partition.minority
        return f"partition {minority} from the rest" if minority else f"partition {' | '.join(fault.partition.groups)}"
    if fault.churn is not None:
        return f"churn {fault.churn.rate} of {who}, each away for {fault.churn.down}"
    if fault.access is not None:
        sides = (("up", fault.access.up), ("down", fault.access.down))
        return f"access {', '.join(f'{side} {text}' for side, text in sides if text)} of {who}"
    if is_about_nodes(fault):
        return f"{kind} {who}"
    what = "block" if fault.block else ", ".join(f"{name} {text}" for name, text in _figures(fault).items())
    return f"{what} from {source} to {fault.to}{', both ways' if fault.both_ways else ''}"


def churn_schedule(subnet: Subnet, fault: FaultSpec, until_s: float) -> Iterator[tuple[float, str]]:
    """When which node dies: seconds after the fault's begin, before `until_s` and its own end, in order of time.

    The gaps are exponential, so that deaths come at the rate asked for on average, and independently of each other. Who dies is
    drawn from those that are not away; where all are, that death is left out. Raises SpecError as `victims` does.
    """
    churn = fault.churn
    if churn is None:
        return
    nodes = victims(subnet, fault)
    seed = subnet.spec.seed if churn.seed is None else churn.seed
    end, at = min(until_s, fault.for_.seconds if fault.for_ else math.inf), 0.0
    back: dict[str, float] = {}
    for number in count():
        at -= math.log(1 - chance(seed, fault.name, number, "gap")) / churn.rate.per_second
        if at >= end:
            return
        here = [node for node in nodes if back.get(node, 0.0) <= at]
        if here:
            node = here[int(chance(seed, fault.name, number, "node") * len(here))]
            back[node] = at + churn.down.seconds
            yield at, node


def _figures(fault: FaultSpec) -> dict[str, str]:
    """What a shape does: field -> as written."""
    found: dict[str, str] = {}
    for name in _SHAPES:
        value = getattr(fault, name)
        if value is not None and getattr(value, "number", value):
            burst = f" in bursts of {fault.loss_burst:g}" if name == "loss" and fault.loss_burst > 1 else ""
            found[name] = f"{value}{burst}"
    return found
