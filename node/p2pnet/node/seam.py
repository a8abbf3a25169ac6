"""Where the emulated network acts: between the endpoint and its socket, by peer, for whatever a node sends to peers.

`netem` decides what becomes of a datagram and when; here it is found out whose it is, and what is due is sent in time. The lab is
no peer: its links are never touched, nor is anybody this node does not know.
"""

from collections.abc import Callable

from p2pnet.model.network import PACKET_OVERHEAD_BYTES, NodeNetwork
from p2pnet.netem import Egress, Ingress, LinkCounters, Rng
from p2pnet.node.peer_addresses import PeerAddresses
from p2pnet.node.precise_timer import PreciseTimer, Ring, make_timer
from p2pnet.peering.clock import mono_ns
from p2pnet.quic import Connection, Datagram, Endpoint
from p2pnet.quic.engine import FIXED_BIT

EARLY_NS = 100_000
"""What is due within this time leaves together: each wake-up of the loop costs as much as several datagrams."""
NAMES_MAX = 4_096
"""URIs whose node names are remembered; every peer has one."""


class NetworkSeam:
    """The emulated network of one node. Before the first `apply`, and while nothing is shaped, it costs nothing.

    `name_of`: the node name in a peer's URI, None for the lab. `rng`: 0 <= x < 1, for losses and jitter.
    """

    def __init__(
        self,
        addresses: PeerAddresses,
        name_of: Callable[[str], str | None],
        rng: Rng,
        *,
        clock_ns: Callable[[], int] = mono_ns,
        timer: Callable[[Ring], PreciseTimer] = make_timer,
    ) -> None:
        self.addresses = addresses
        self.network = NodeNetwork()
        """The one in force."""
        self.isolated = False
        """Whether this node and its peers hear nothing of each other: until it is known what the network is like."""
        self.late_ns = 0
        """The longest that datagrams left after their time since somebody set this to 0: the process was starved or paused."""
        self._name_of = name_of
        self._clock_ns = clock_ns
        self._make_timer = timer
        self._timer: PreciseTimer | None = None
        self._armed_ns: int | None = None
        self._closed = False
        self._latest_ns = 0
        self._names: dict[str, str | None] = {}
        self._endpoint: Endpoint | None = None
        self._egress: Egress[Datagram] = Egress(rng)
        self._ingress: Ingress[Datagram] = Ingress()

    def attach(self, endpoint: Endpoint) -> None:
        """Act on this endpoint from now on."""
        self._endpoint = endpoint
        endpoint.egress_holds = lambda: self._egress.next_at() is not None
        self._hook()

    def close(self) -> None:
        """Let go of the timer, and of what is held. The endpoint is closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def apply(self, network: NodeNetwork) -> None:
        """Put this network in force; what waits in queues stays there."""
        now = self._now()
        self.network = network
        self._egress.apply(network, now)
        self._ingress.apply(network, now)
        self._hook()
        self._release()

    def isolate(self, isolated: bool) -> None:
        """Let nothing pass between this node and its peers, or let it pass again."""
        self.isolated = isolated
        if self._endpoint is not None:
            self._endpoint.on_incoming = self._judge_stranger if isolated else None
        self._hook()

    def send_probe(self, peer: str, datagram: Datagram) -> None:
        """Send a datagram of our own to a peer, through the same network as all others."""
        if self._endpoint is not None and (leaving := self._offer(peer, [datagram], counted=False)):
            self._endpoint.transmit_raw(leaving)

    # --- what became of datagrams ---

    def path_counters(self) -> dict[str, LinkCounters]:
        """By peer."""
        return self._egress.counters()

    @property
    def up_counters(self) -> LinkCounters:
        """What became of packets at the uplink."""
        return self._egress.up_counters

    @property
    def down_counters(self) -> LinkCounters:
        """What became of packets at the downlink."""
        return self._ingress.counters

    def queued_bytes(self, peer: str) -> int:
        """Bytes that wait for the bandwidth of the path to this peer."""
        return self._egress.queued_bytes(peer, self._now())

    def up_queued_bytes(self) -> int:
        """Bytes that wait for the uplink."""
        return self._egress.up_queued_bytes(self._now())

    def down_queued_bytes(self) -> int:
        """Bytes that wait for the downlink."""
        return self._ingress.queued_bytes(self._now())

    # --- the endpoint's hooks ---

    def _hook(self) -> None:
        """Ask to see datagrams only as long as any of them may be touched."""
        if (endpoint := self._endpoint) is None:
            return
        network = self.network
        shaped = network.up is not None or any(not network.shapes[index].clear for index in set(network.paths.values()))
        endpoint.egress = self._leaving if shaped or self.isolated else None
        endpoint.ingress = self._arriving if self._ingress.touches() else None

    def _leaving(self, connection: Connection | None, datagrams: list[Datagram]) -> list[Datagram]:
        """See `quic.EgressHook`."""
        if connection is not None:
            return self._offer(self._peer_of(connection), datagrams)
        passed: list[Datagram] = []
        for datagram in datagrams:
            passed += self._offer(self.addresses.peer_at(datagram[1]), [datagram])
        return passed

    def _offer(self, peer: str | None, datagrams: list[Datagram], *, counted: bool = True) -> list[Datagram]:
        """Give datagrams for this peer to the network, if it touches them; what may leave now."""
        egress = self._egress
        if peer is None:
            return datagrams
        if self.isolated:
            return []
        if not egress.touches(peer):
            return datagrams
        now = self._now()
        for datagram in datagrams:
            egress.send(peer, datagram, len(datagram[0]) + PACKET_OVERHEAD_BYTES, now, counted=counted)
        return self._due(now)

    def _arriving(self, datagrams: list[Datagram]) -> list[Datagram]:
        """See `quic.IngressHook`."""
        ingress, now = self._ingress, self._now()
        passed = []
        for datagram in datagrams:
            if self._is_of_peer(datagram):
                # What is none of QUIC's can only be a probe, or noise.
                counted = bool(datagram[0][:1] and datagram[0][0] & FIXED_BIT)
                ingress.send(datagram, len(datagram[0]) + PACKET_OVERHEAD_BYTES, now, counted=counted)
            else:
                passed.append(datagram)
        passed += ingress.due(now)
        self._arm()
        return passed

    def _judge_stranger(self, address: tuple[str, int]) -> str:
        # Not refused: as in a network that carries nothing, the peer goes on trying.
        return "accept" if self.addresses.peer_at(address) is None else "ignore"

    def _is_of_peer(self, datagram: Datagram) -> bool:
        connection = None if self._endpoint is None else self._endpoint.connection_for(datagram[0])
        if connection is None:
            return self.addresses.peer_at(datagram[1]) is not None
        return self._peer_of(connection) is not None

    def _peer_of(self, connection: Connection) -> str | None:
        """The peer at the other end, proven, expected, or known by its address; None: somebody else, or nobody known."""
        if uri := connection.uri:
            return self._name(uri)
        if uri := connection.expected_uri:
            peer = self._name(uri)
            self.addresses.saw(connection.address, peer)  # it answers from there before it has proved anything
            return peer
        return self.addresses.peer_at(connection.raw_address)

    def _name(self, uri: str) -> str | None:
        names = self._names
        if uri not in names:
            if len(names) >= NAMES_MAX:
                names.clear()
            names[uri] = self._name_of(uri)
        return names[uri]

    # --- time ---

    def _now(self) -> int:
        """The time as the network has it. It never goes back: what was released early is not followed by something earlier."""
        now = self._clock_ns()
        if now < self._latest_ns:
            return self._latest_ns
        self._latest_ns = now
        return now

    def _due(self, now: int) -> list[Datagram]:
        """What may leave at once; the timer is set for the rest."""
        at = self._egress.next_at()
        if at is not None and at <= now:
            self.late_ns = max(self.late_ns, now - at)
            due = self._egress.due(now)
        else:
            due = []
        self._arm()
        return due

    def _ring(self) -> None:
        if self._armed_ns is not None:
            self.late_ns = max(self.late_ns, self._clock_ns() - self._armed_ns)
            self._armed_ns = None
        self._release()
        if self._armed_ns is None and self._timer is not None:
            self._timer.clear()

    def _release(self) -> None:
        """Send and take in what is due."""
        self._latest_ns = now = max(self._latest_ns, self._clock_ns() + EARLY_NS)
        if (endpoint := self._endpoint) is not None:
            if leaving := self._egress.due(now):
                endpoint.transmit_raw(leaving)
            if arriving := self._ingress.due(now):
                endpoint.receive_raw(arriving)
        self._arm()

    def _arm(self) -> None:
        """Set the timer for what is due next. One that is set too early stays: it finds nothing due, and is set again."""
        leaves, arrives = self._egress.next_at(), self._ingress.next_at()
        at = leaves if arrives is None else arrives if leaves is None else min(leaves, arrives)
        if at is None or self._closed or (self._armed_ns is not None and at >= self._armed_ns):
            return
        if self._timer is None:
            self._timer = self._make_timer(self._ring)
        self._armed_ns = at
        self._timer.set(at)
