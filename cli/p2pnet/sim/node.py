"""A node of a world, as a test uses it: publish, purge, crash, restart, and look at its state."""

import msgspec

from p2pnet.broadcast import Broadcast, Client, Pending, inputs
from p2pnet.model.behaviours import Behaviour
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.errors import LocalError
from p2pnet.model.ids import ArtifactId
from p2pnet.sim.context import NodePlan, SimContext
from p2pnet.sim.incarnation import Incarnation
from p2pnet.sim.quantities import NS, Duration, nanoseconds
from p2pnet.sim.record import NodeEvent, NodeRecord


class Node:
    """A simulated node. Made by `World.node`; it starts when the world goes on, or when its core is first used."""

    def __init__(self, context: SimContext, plan: NodePlan, *, has_own_settings: bool) -> None:
        self.name = plan.name
        self.plan = plan
        self.incarnations = 0
        """Starts so far."""
        self.record = NodeRecord(plan.name, context.deliveries, keeps_events=context.on_event is None)
        self._context = context
        self._has_own_settings = has_own_settings
        self._incarnation: Incarnation | None = None

    def __repr__(self) -> str:
        return f"<Node {self.name}>"

    # Actions

    def publish(self, data: bytes, *, keep: Duration = "1h", name: str = "file") -> ArtifactId:
        """Publish these bytes, to expire after `keep`; the artifact's id.

        Raises PublicationRefusedError (a LocalError) when all slots are taken, or the artifact is too large or malformed.
        """
        incarnation = self._alive()
        made = incarnation.client.make(
            name, data, nonce=incarnation.nonces.randbytes(16), now=self._context.wall, keep_s=nanoseconds(keep) / NS
        )
        return incarnation.publish(made, len(data))

    def purge(self, artifact: ArtifactId) -> None:
        """Remove an artifact here as the client would: it is not taken again. No effect if it is not here."""
        incarnation = self._alive()
        if incarnation.core.pool.holds(artifact):
            self.record.dropped[artifact] = None
        incarnation.do(inputs.Purge(artifact))

    def withdraw(self, artifact: ArtifactId) -> None:
        """Withdraw an artifact here, whoever published it. See `World.withdraw` for all nodes."""
        self._alive().do(inputs.Withdraw(artifact))
        self.record.dropped[artifact] = None

    def crash(self) -> None:
        """End the process as SIGKILL does: peers notice by their idle timeout. No effect if it is down already."""
        self._context.begin()
        incarnation, self._incarnation = self._incarnation, None
        if incarnation is not None:
            incarnation.stop()
            self._context.network.detach(incarnation.port)

    def restart(self) -> None:
        """Start a new incarnation, which dials all its links; a process that still runs crashes first."""
        self.crash()
        self.start()
        network = self._context.network
        for link in network.links_of(self.name):
            network.dial(link)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: what arrives waits, and its connections stay up."""
        self._alive(paused=True).pause()

    def resume(self) -> None:
        """Go on after a `pause`."""
        self._alive(paused=True).resume()

    # State

    @property
    def is_up(self) -> bool:
        """Whether its process exists, running or paused."""
        return self._incarnation is not None

    @property
    def is_paused(self) -> bool:
        """Whether its process stands still."""
        return self._incarnation is not None and self._incarnation.paused

    @property
    def settings(self) -> BroadcastSettings:
        """The settings of its broadcast."""
        return self.plan.settings

    @property
    def core(self) -> Broadcast:
        """The broadcast of the incarnation that runs. Raises LocalError while the node is down."""
        return self._alive(paused=True).core

    @property
    def client(self) -> Client:
        """The client of the incarnation that runs. Raises LocalError while the node is down."""
        return self._alive(paused=True).client

    @property
    def counters(self) -> dict[str, int]:
        """The counters of its core, by name."""
        return self.core.counters

    @property
    def events(self) -> list[NodeEvent]:
        """The last 100,000 events of its broadcast, oldest first, over all incarnations."""
        return self.record.events

    def holds(self, artifact: ArtifactId) -> bool:
        """Whether the artifact is in its validated pool; a node that is down holds nothing."""
        return self.is_up and self.core.pool.get(artifact) is not None

    def held(self) -> list[ArtifactId]:
        """The ids in the validated pool, oldest first."""
        return self.core.pool.ids() if self.is_up else []

    def peers(self) -> list[str]:
        """The peers whose connection with it is in use at both ends."""
        self._context.begin()
        return self._context.network.peers_up(self.name)

    def pending(self) -> list[Pending]:
        """What its core still has to do or waits for."""
        incarnation = self._incarnation
        if incarnation is None:
            return []
        found = list(incarnation.core.pending())
        due = incarnation.core.next_wakeup(expiries=False)
        if due is not None and not found:
            found.append(Pending("wake", detail=f"due {due / NS:g} s after the start"))
        if incarnation.paused and incarnation.waiting:
            found.append(Pending("wake", detail=f"paused, with {incarnation.waiting} inputs to handle"))
        return found

    # For the world

    def prefer(self, *, full_mesh: bool) -> None:
        """Set the world's topology for a node without settings of its own. Raises LocalError if it runs with another one."""
        if self._has_own_settings or self.settings.full_mesh == full_mesh:
            return
        if self._incarnation is not None:
            raise LocalError(f"node {self.name} has started: give the world its shape before, or the node its settings")
        settings = msgspec.structs.replace(self.settings, full_mesh=full_mesh)
        self.plan = msgspec.structs.replace(self.plan, settings=settings)

    def behave(self, behaviour: Behaviour) -> None:
        """Have this behaviour from the next start on."""
        self.plan = msgspec.structs.replace(self.plan, behaviour=behaviour)

    def limit_uplink(self, narrow: bool) -> None:
        """Whether an access link limits what it sends, from now on and in later incarnations."""
        self.plan = msgspec.structs.replace(self.plan, narrow_uplink=narrow)
        if self._incarnation is not None:
            self._incarnation.core.limit_uplink(narrow)

    def start(self) -> None:
        """Start an incarnation, without dialling its links."""
        context = self._context
        self.incarnations += 1
        self.record.forget()
        self._incarnation = incarnation = Incarnation(context, self.plan, self.record, self.incarnations)
        context.network.attach(incarnation.port)
        self.tell_members(context.network.members)
        # A process that was down when something was withdrawn must not bring it back.
        for artifact in context.withdrawn:
            incarnation.feed(inputs.Withdraw(artifact))
            self.record.dropped[artifact] = None

    def tell_members(self, members: frozenset[str]) -> None:
        """The registry's members have changed to these."""
        if self._incarnation is not None:
            self._incarnation.feed(inputs.MembersChanged(members))

    def _alive(self, *, paused: bool = False) -> Incarnation:
        self._context.begin()
        if self._incarnation is None:
            raise LocalError(f"node {self.name} is down")
        if self._incarnation.paused and not paused:
            raise LocalError(f"node {self.name} is paused")
        return self._incarnation
