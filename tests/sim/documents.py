"""Documents and loads for simulated runs."""

from typing import Any

from p2pnet.model.events import EventKind
from p2pnet.sim.simulate import SimLoad, SimOutcome
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import API_VERSION, SIMULATED_NODES_MAX, Subnet


def subnet(**spec: Any) -> Subnet:
    document = {"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
    return load_subnet(document, nodes_max=SIMULATED_NODES_MAX)


def load(size: int = 100, **more: Any) -> SimLoad:
    return SimLoad(payloads=[("x", size)], **{"sender": "node-0", **more})


def arrivals_ms(outcome: SimOutcome, artifact: int = 0) -> dict[str, float]:
    """When each node validated the first artifact, or another one, since its publication."""
    wanted = outcome.run.artifacts[artifact]
    mine = [event for event in outcome.events if event.artifact == wanted]
    [published] = [event for event in mine if event.kind is EventKind.PUBLISHED]
    return {
        event.node: (event.t_ns - published.t_ns) / 1e6
        for event in mine
        if event.kind is EventKind.VALIDATED and event.node != published.node
    }
