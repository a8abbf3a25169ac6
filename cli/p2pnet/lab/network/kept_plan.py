"""The plan of the network and the wanted links, made again only when what they follow from has changed."""

from collections.abc import Sequence

from p2pnet.model.registry import Membership
from p2pnet.subnet.network import NetworkPlan, network_plan
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.spec import Subnet


class KeptPlan:
    """The latest plan, and the latest wanted links."""

    def __init__(self) -> None:
        self._made_of: tuple[Subnet, list[FaultSpec]] | None = None
        self._plan: NetworkPlan | None = None
        self._membership: Membership | None = None
        self._wanted: dict[str, list[str]] = {}

    def plan(self, subnet: Subnet, faults: Sequence[FaultSpec]) -> NetworkPlan:
        """The network of this document with these faults: the same object for the same ones."""
        if (
            self._plan is None
            or self._made_of is None
            or self._made_of[0] is not subnet
            or self._made_of[1] != list(faults)
        ):
            self._made_of, self._plan = (subnet, list(faults)), network_plan(subnet, faults)
        return self._plan

    def wanted(self, membership: Membership) -> dict[str, list[str]]:
        """The peers that each member should be connected to: the same object for the same member list."""
        if membership is not self._membership:
            self._membership, self._wanted = membership, membership.all_wanted()
        return self._wanted
