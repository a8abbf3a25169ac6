"""Where the time of the slowest hops went: asked of the lab between runs, for it reads its files, one artifact at a time."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from p2pnet.measure import hop_tree
from p2pnet.measure.propagation import SpreadSums
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.events import Collected
from p2pnet.model.jobs import RunFile
from p2pnet.present import SlowHop, slowest_receipts


class KnownArtifacts(Protocol):
    """Events of artifacts in a lab, see `LabClient.artifact_events`."""

    async def artifact_events(self, artifact_prefix: str) -> tuple[str, RunFile, list[Collected]]:
        """The whole id, the run, and the events."""


class SlowHops:
    """The hops of the slowest receipts of these nodes: as many as a table shows."""

    def __init__(self, nodes: Sequence[str], adversaries: Sequence[AdversaryGroup] = ()) -> None:
        self._nodes = list(nodes)
        self._adversaries = list(adversaries)
        self._known: dict[str, tuple[str, SlowHop | None]] = {}
        """By node, the artifact that was asked about, once, and what came of it."""

    @property
    def hops(self) -> Mapping[str, SlowHop]:
        """By node."""
        return {node: hop for node, (_, hop) in self._known.items() if hop is not None}

    async def look(self, lab: KnownArtifacts, sums: SpreadSums) -> None:
        """Ask about one artifact, where there is one that is not known. Raises P2pnetErrors."""
        slow = {node: one.artifact for node, one in slowest_receipts(sums)}
        self._known = {node: known for node, known in self._known.items() if known[0] == slow.get(node)}
        artifact = next((slow[node] for node in slow if node not in self._known), "")
        if not artifact:
            return
        nodes = {node for node in slow if slow[node] == artifact}
        self._known |= dict.fromkeys(nodes, (artifact, None))
        _, _, events = await lab.artifact_events(artifact)
        tree = hop_tree(artifact, events, self._nodes, self._adversaries)
        self._known |= {one.node: (artifact, SlowHop(one)) for one in tree.nodes if one.node in nodes}
