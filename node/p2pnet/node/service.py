"""What a node is made of: an endpoint, its peers, one driver per client, control for the lab, a health page."""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p2pnet.broadcast import Broadcast
from p2pnet.broadcast.inputs import MembersChanged
from p2pnet.model.behaviours import STALE_CERTIFICATE
from p2pnet.model.config import NodeConfig
from p2pnet.model.control import PeersReply, PeerState
from p2pnet.model.errors import LocalError, P2pnetError, TrustError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.network import NodeNetwork
from p2pnet.model.registry import Membership
from p2pnet.model.text import address_text
from p2pnet.node.clients import is_ours, load_clients, make_broadcast
from p2pnet.node.control import Control, endpoint_settings, refuse
from p2pnet.node.driver import BroadcastDriver
from p2pnet.node.events import EventRing
from p2pnet.node.identity import IdentityFiles, what_changed
from p2pnet.node.network import NetworkKeeper, read_network
from p2pnet.node.peer_addresses import PeerAddresses
from p2pnet.node.probes import ProbeSender
from p2pnet.node.samples import SecondSampler
from p2pnet.node.seam import NetworkSeam
from p2pnet.peering import clock
from p2pnet.peering.bootstrap import make_bootstrap
from p2pnet.peering.discovery import in_order, read_membership
from p2pnet.peering.pacing import Pacer
from p2pnet.peering.peers import Peers
from p2pnet.peering.refusals import Refusals
from p2pnet.quic import CloseCode, Connection, Endpoint, Message, Reachability, Trust
from p2pnet.trust import Identity

if TYPE_CHECKING:
    from p2pnet.node.health import HealthPage

log = logging.getLogger("p2pnet.node")

TICK_S = 1.0
"""How often the node checks its identity's files, pending connections, records and its own lag."""
ALONE_S = 30.0
"""A node that once had a link is unready after this long without any."""
DRAIN_S = 3.0
"""Requests in flight at a stop get this long: a paused peer must not delay a restart."""
FINAL_EVENTS_S = 0.1
"""For the lab to read the last events before its connections are closed."""
_FINGERPRINT_CHARS = 16  # hex digits shown of a SHA-256


class Service:
    """One node. `start` serves, `stop` ends it in good order; in between everything happens in callbacks of the loop."""

    def __init__(self, config: NodeConfig, folder: Path, pacer: Pacer | None = None) -> None:
        """Read identity and boot copy from `folder`, load the clients. Raises SpecError."""
        self._config = config
        scope = (config.trust_domain, config.namespace, config.subnet)
        self._lab_uri = lab_uri(*scope)
        boot_copy = read_membership(folder / config.members_file)
        boot_network = read_network(folder / config.network_file if config.network_file else None)
        self._identity = IdentityFiles(
            folder / config.identity_dir,
            member_uri(*scope, config.name),
            now=clock.utc_now(),
            name=config.identity_name,
            may_have_ended=config.behaviour == STALE_CERTIFICATE,
        )
        self.incarnation = os.urandom(8).hex()
        self._started_ns = clock.mono_ns()
        self.ring = EventRing(self.incarnation, clock.boot_id(), config.event_ring)
        self._refusals = Refusals(self.ring)
        # From the system, not from the config's seed: nodes with equal seeds must not back off in step.
        rng = random.SystemRandom().random
        self._bootstrap = make_bootstrap(
            config, identity=self._identity, refusals=self._refusals, rng=rng, changed=self._members_changed
        )
        self.directory = self._bootstrap.directory
        self.peers = Peers(
            config.name,
            directory=self.directory,
            events=self.ring,
            refusals=self._refusals,
            listener=self,
            rng=rng,
            pacer=pacer,
            rate=self._bootstrap.rate,
            at_once=self._bootstrap.at_once,
        )
        self.drivers = self._make_drivers()
        self._routes = {route: handler for driver in self.drivers.values() for route, handler in driver.routes.items()}
        self._routes.update(self._bootstrap.routes)
        self._addresses = PeerAddresses(config.name, self.directory)
        # A sequence of its own for each start: seeded, but a node that is started again does not lose the same packets.
        chance = random.Random(f"{config.seed} {config.name} {self.incarnation}").random
        self.seam = NetworkSeam(self._addresses, self.directory.name_of, chance)
        self.network = NetworkKeeper(self.seam, boot_network, awaits=config.await_network, on_network=self._know_uplink)
        start = (self.incarnation, self.ring.boot_id)
        self.prober = ProbeSender(start, self.seam, self.peers.links.get)
        self._sampler = SecondSampler(start, self.seam, self.peers.links, self.drivers)
        parts = (self.network.routes, self.prober.routes, self._sampler.routes)
        self._control = Control(self, self.ring, parts)
        self._endpoint: Endpoint | None = None
        self._health: HealthPage | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._tick_due_s = self._lag_s = 0.0
        self._stopping = False
        self.take_membership(boot_copy)

    def _know_uplink(self, network: NodeNetwork) -> None:
        for driver in self.drivers.values():
            driver.broadcast.limit_uplink(network.up is not None)

    def _make_drivers(self) -> dict[str, BroadcastDriver]:
        """A broadcast with its driver per client, by name: clients share links and process, nothing else."""
        drivers = {}
        for client in load_clients(self._config.clients, node=self._config.name):
            broadcast = make_broadcast(self._config, client, self.incarnation)
            drivers[client.name] = BroadcastDriver(
                broadcast, client, self.ring, self.peers.connection, inline=is_ours(client)
            )
        return drivers

    @classmethod
    async def start(
        cls, config: NodeConfig, folder: Path, sock: socket.socket | None = None, pacer: Pacer | None = None
    ) -> "Service":
        """Bind, serve and dial; the nodes of one loop share a pacer.

        Raises SpecError for what is on disk, OSError or LocalError for an address not to be had.
        """
        service = cls(config, folder, pacer)
        service._endpoint = await Endpoint.bind(
            (config.host, config.port),
            trust=Trust.subnet(service._identity, service._admits, lab=service._lab_uri),
            sock=sock,
            settings=endpoint_settings(config.idle_s, service.drivers),
            on_message=service._on_message,
            on_connection=service._on_connection,
            on_refused=service._on_refused,
        )
        await service._begin(service._endpoint)
        return service

    async def _begin(self, endpoint: Endpoint) -> None:
        """What follows when the socket is bound: the network is in force before anything can be sent."""
        endpoint.on_foreign = self.prober.arrived
        # Whoever is admitted may ask for the echo: before its hello, and the lab too.
        Reachability(endpoint)
        try:
            self.network.start(endpoint, partial(self.peers.start, endpoint))
            if self._config.health_port is not None:
                await self._serve_health(self._config.health_host, self._config.health_port)
            self._bootstrap.start(self.peers, self.address)
        except (OSError, LocalError):
            # The socket is bound already, and whoever tries again needs its port.
            await self.stop()
            raise
        self._tick()

    async def _serve_health(self, host: str, port: int) -> None:
        from p2pnet.node.health import HealthPage  # h11 only where it is asked for

        self._health = HealthPage(self)
        host, port = await self._health.start(host, port)
        log.info("health page on http://%s/", address_text(host, port))

    async def stop(self) -> None:
        """Unready, stop accepting, drain, close with a reason."""
        self._stopping = True
        # Dialling ends first, so that no link comes up while the endpoint drains.
        self._bootstrap.stop()
        self.network.stop()
        self.peers.stop()
        self.prober.stop()
        self._sampler.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._endpoint is not None:
            await self._close_lab_connections(self._endpoint)
            await self._endpoint.drain(DRAIN_S)
        self.seam.close()
        for driver in self.drivers.values():
            driver.stop()
        if self._health is not None:
            await self._health.stop()

    async def _close_lab_connections(self, endpoint: Endpoint) -> None:
        """Answer the lab's long polls, which would not end by themselves, and close once it could read the answers."""
        self._control.stop()
        labs = [connection for connection in endpoint.connections if connection.uri == self._lab_uri]
        if labs:
            await asyncio.sleep(FINAL_EVENTS_S)
        for connection in labs:
            connection.close(CloseCode.SHUTTING_DOWN, "shutting down")

    @property
    def address(self) -> tuple[str, int]:
        """Host and UDP port where it serves."""
        assert self._endpoint is not None  # noqa: S101 - `start` binds before anybody has a Service
        return self._endpoint.address

    # --- the endpoint's callbacks ---

    def _admits(self, uri: str) -> str | None:
        return None if uri == self._lab_uri else self.directory.refusal(uri)

    def _on_connection(self, connection: Connection) -> None:
        self._addresses.saw(connection.address, self.directory.name_of(connection.uri))
        if connection.uri != self._lab_uri:
            self.peers.accepted(connection)

    def _on_message(self, connection: Connection, message: Message) -> None:
        if connection.uri == self._lab_uri:
            self._control.message(connection, message)
        else:
            self.peers.message(connection, message)

    def _on_refused(self, address: tuple[str, int], error: P2pnetError) -> None:
        kind = error.kind if isinstance(error, TrustError) else "handshake"
        self._refusals.note(kind, f"{error} (from {address_text(*address)})")

    # --- as the `PeerListener` ---

    def link_up(self, name: str, connection: Connection) -> None:
        """See `PeerListener`."""
        self._addresses.saw(connection.address, name)
        self._bootstrap.link_up(name, connection)
        for driver in self.drivers.values():
            driver.peer_up(name, connection)

    def link_down(self, name: str, connection: Connection) -> None:
        """See `PeerListener`."""
        self._bootstrap.link_down(name)
        self.prober.link_down(name)
        for driver in self.drivers.values():
            driver.peer_down(name, connection)

    def peer_message(self, name: str, connection: Connection, message: Message) -> None:
        """See `PeerListener`."""
        handler = self._routes.get(message.header)
        if handler is None:
            refuse(message)
        else:
            handler(name, connection, message)

    # --- as the `ControlledNode` ---

    def take_membership(self, membership: Membership) -> bool:
        """See `ControlledNode`."""
        if not self.directory.offer(membership):
            return False
        self.ring.add(clock.mono_ns(), EventKind.MEMBERS, size=self.directory.version)
        self._members_changed()
        return True

    def _members_changed(self) -> None:
        self._addresses.directory_changed()
        self.peers.directory_changed()
        # With those linked: a peer that this node's list does not know yet is admitted all the same.
        members = self.directory.members | frozenset(self.peers.links)
        for driver in self.drivers.values():
            driver.feed(MembersChanged(members))

    def registry_version(self) -> int:
        """See `ControlledNode`."""
        return self.directory.version

    def keep_s(self) -> float:
        """See `ControlledNode`."""
        return self._config.broadcast.keep_s

    def state(self) -> PeersReply:
        """See `ControlledNode` and `MeasuredNode`."""
        sent, received = self.peers.udp_bytes()
        identity = self._identity.current
        return PeersReply(
            name=self._config.name,
            incarnation=self.incarnation,
            boot_id=self.ring.boot_id,
            pid=os.getpid(),
            registry_version=self.directory.version,
            wanted=self.directory.wanted,
            peers=[_peer_state(name, self.peers.links[name].connection) for name in in_order(set(self.peers.links))],
            udp_sent=sent,
            udp_received=received,
            cpu_s=clock.cpu_s(),
            cert_not_after=identity.not_after.timestamp(),
            started_mono_ns=self._started_ns,
            event_cursor=self.ring.cursor,
            ready=not self.unready(),
            pool={name: len(driver.broadcast.pool.validated) for name, driver in self.drivers.items()},
            address=address_text(*self.address),
            trusted=[fingerprint[:_FINGERPRINT_CHARS] for fingerprint in identity.trusted],
            leaf=identity.fingerprint[:_FINGERPRINT_CHARS],
            network_version=self.seam.network.version,
            unfinished=sum(driver.broadcast.unfinished() for driver in self.drivers.values()),
        )

    # --- probes and metrics ---

    def unready(self) -> str:
        """See `MeasuredNode`: a node is ready when it is bound, its leaf is valid and it has joined (see ALONE_S)."""
        last = self.peers.last_linked_ns
        if self._stopping or self._endpoint is None:
            return "stopping" if self._stopping else "not bound"
        if self._config.behaviour == STALE_CERTIFICATE:
            return ""  # it does what it is there for, and no link will come
        if self._identity.current.not_after <= clock.utc_now():
            return "the leaf has expired"
        if self.network.is_waiting:
            return "awaits the network from the lab"
        if self.peers.links or not (self.directory.wanted or self._bootstrap.awaits(joined=last is not None)):
            return ""
        if last is None:
            return "no peer yet"
        return f"no peer for {ALONE_S:.0f} s" if clock.mono_ns() - last > ALONE_S * clock.NS else ""

    def event_counts(self) -> dict[EventKind, int]:
        """See `MeasuredNode`."""
        return self.ring.counts

    def broadcasts(self) -> dict[str, Broadcast]:
        """See `MeasuredNode`."""
        return {name: driver.broadcast for name, driver in self.drivers.items()}

    def loop_lag_s(self) -> float:
        """See `MeasuredNode`."""
        return self._lag_s

    def probe_counts(self) -> Mapping[str, int]:
        """See `MeasuredNode`."""
        return self.prober.counts

    def refusals(self) -> int:
        """See `MeasuredNode`."""
        return self._refusals.total

    # --- once a second ---

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._lag_s = max(0.0, loop.time() - self._tick_due_s) if self._tick_due_s else 0.0
        self._tick_due_s = loop.time() + TICK_S
        self._ticker = loop.call_later(TICK_S, self._tick)  # first: an error below must not end the ticking
        self.peers.close_late()
        self._bootstrap.tick()
        self._sampler.tick()
        if self.seam.network.version:
            for name, link in self.peers.links.items():  # a peer may have moved
                self._addresses.saw(link.connection.address, name)
        problem = self._identity.problem
        self._identity.reload(clock.utc_now(), self._identity_changed)
        if self._identity.problem not in ("", problem):
            log.warning("keeping the present identity: %s", self._identity.problem)

    def _identity_changed(self, old: Identity, new: Identity) -> None:
        what = what_changed(old, new)
        log.info("new identity in use: %s", what)
        self.ring.add(clock.mono_ns(), EventKind.IDENTITY, detail=what)
        if self._endpoint is not None:
            # Connections of peers that the new bundle does not vouch for are closed here.
            self._endpoint.identity_changed()
        self._bootstrap.identity_changed(what)
        if "leaf" in what:
            self.peers.leaf_changed()


def _peer_state(name: str, connection: Connection) -> PeerState:
    return PeerState(
        name=name,
        connection=connection.id,
        rtt_ms=connection.rtt_s * 1000,
        sent=connection.sent_bytes,
        received=connection.received_bytes,
        address=address_text(*connection.address[:2]),
    )
