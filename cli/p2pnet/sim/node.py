"""A node of a world, as its user sees it: publish, purge, crash, restart, look."""

from collections import deque

import msgspec

from p2pnet.broadcast import Broadcast, Client, Pending, inputs
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.errors import LocalError
from p2pnet.model.ids import ArtifactId
from p2pnet.sim.context import NodePlan, SimContext
from p2pnet.sim.incarnation import Incarnation
from p2pnet.sim.quantities import NS, Duration, nanoseconds
from p2pnet.sim.record import NodeEvent, NodeRecord


class Node:
    """Made by `World.node`. It starts when the world goes on, or when somebody looks at its core or publishes."""

    def __init__(self, context: SimContext, plan: NodePlan, *, has_own_settings: bool) -> None:
        self.name = plan.name
        self.plan = plan
        self.incarnations = 0
        """Starts so far."""
        self.record = NodeRecord(plan.name, context.deliveries)
        self._context = context
        self._has_own_settings = has_own_settings
        self._life: Incarnation | None = None

    def __repr__(self) -> str:
        return f"<Node {self.name}>"

    # What its user does

    def publish(self, data: bytes, *, keep: Duration = "1h", name: str = "file") -> ArtifactId:
        """Publish these bytes for so long; the artifact's id.

        Raises PublicationRefusedError (a LocalError) when all slots are taken, or the artifact is too large or malformed.
        """
        life = self._alive()
        made = life.client.make(
            name, data, nonce=life.nonces.randbytes(16), now=self._context.wall, keep_s=nanoseconds(keep) / NS
        )
        return life.publish(made, len(data))

    def purge(self, artifact: ArtifactId) -> None:
        """Remove it here as its client would: silently, and for good. Nothing for an artifact that is not here."""
        life = self._alive()
        if life.core.pool.holds(artifact):
            self.record.dropped.add(artifact)
        life.do(inputs.Purge(artifact))

    def withdraw(self, artifact: ArtifactId) -> None:
        """Take it back here, whoever published it. See `World.withdraw` for all nodes."""
        self._alive().do(inputs.Withdraw(artifact))
        self.record.dropped.add(artifact)

    def crash(self) -> None:
        """End the process without a word: memory gone, peers notice by their idle timeout. Nothing if it is down already."""
        self._context.begin()
        life, self._life = self._life, None
        if life is not None:
            life.stop()
            self._context.network.detach(life.port)

    def restart(self) -> None:
        """Start a new incarnation, which dials all its links; a process that still runs is crashed before."""
        self.crash()
        self.start()
        network = self._context.network
        for link in network.links_of(self.name):
            network.dial(link)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: what comes waits. Its connections stay up."""
        self._alive(paused=True).pause()

    def resume(self) -> None:
        """Go on after a `pause`."""
        self._alive(paused=True).resume()

    # What there is to see

    @property
    def is_up(self) -> bool:
        """Its process runs, or is paused."""
        return self._life is not None

    @property
    def settings(self) -> BroadcastSettings:
        """Of its broadcast."""
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
        """What the core counts, by name."""
        return self.core.counters

    @property
    def events(self) -> deque[NodeEvent]:
        """What its broadcast reported, oldest first, over all incarnations: the last 100,000."""
        return self.record.events

    def holds(self, artifact: ArtifactId) -> bool:
        """Whether it is in the validated pool; a node that is down holds nothing."""
        return self.is_up and self.core.pool.get(artifact) is not None

    def held(self) -> list[ArtifactId]:
        """The ids in the validated pool, oldest first."""
        return self.core.pool.ids() if self.is_up else []

    def peers(self) -> list[str]:
        """Those it has a connection with that both use."""
        self._context.begin()
        return self._context.network.peers_up(self.name)

    def pending(self) -> list[Pending]:
        """What its core still has to do or to wait for."""
        life = self._life
        if life is None:
            return []
        found = list(life.core.pending())
        due = life.core.next_wakeup(expiries=False)
        if due is not None and not found:
            found.append(Pending("wake", detail=f"due {due / NS:g} s after the start"))
        if life.paused and life.waiting:
            found.append(Pending("wake", detail=f"paused, with {life.waiting} inputs to handle"))
        return found

    # What the world does

    def prefer(self, *, full_mesh: bool) -> None:
        """The world's shape, for a node without settings of its own. Raises LocalError when it runs with another one."""
        if self._has_own_settings or self.settings.full_mesh == full_mesh:
            return
        if self._life is not None:
            raise LocalError(f"node {self.name} has started: give the world its shape before, or the node its settings")
        settings = msgspec.structs.replace(self.settings, full_mesh=full_mesh)
        self.plan = msgspec.structs.replace(self.plan, settings=settings)

    def start(self) -> None:
        """Start an incarnation; its links are not dialled."""
        context = self._context
        self.incarnations += 1
        self.record.forget()
        self._life = life = Incarnation(context, self.plan, self.record, self.incarnations)
        context.network.attach(life.port)
        self.tell_members(context.network.members)
        for artifact in context.withdrawn:
            life.feed(inputs.Withdraw(artifact))
            self.record.dropped.add(artifact)

    def tell_members(self, members: frozenset[str]) -> None:
        """The registry's members now."""
        if self._life is not None:
            self._life.feed(inputs.MembersChanged(members))

    def _alive(self, *, paused: bool = False) -> Incarnation:
        self._context.begin()
        if self._life is None:
            raise LocalError(f"node {self.name} is down")
        if self._life.paused and not paused:
            raise LocalError(f"node {self.name} is paused")
        return self._life
