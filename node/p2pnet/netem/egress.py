"""The network of one node: its uplink and the path to each peer for what leaves it, its downlink for what reaches it."""

from typing import Generic, TypeVar

from p2pnet.model.network import AccessShape, NodeNetwork
from p2pnet.netem.agenda import BYTES_HELD_MAX, PACKETS_HELD_MAX, Agenda
from p2pnet.netem.counters import LinkCounters, Rng
from p2pnet.netem.path import Path
from p2pnet.netem.queue import Queue

P = TypeVar("P")

PATHS_KEPT_MAX = 4_096
"""Paths to peers that the network names no more, kept for their counters: more than a subnet has nodes."""


class Egress(Generic[P]):
    """The outgoing half of a node: its uplink, then a path to each peer. Packets may be anything; sizes are bytes of IP packets.

    Call `due` at `next_at`, and after `apply`. Times are ns of one clock that never goes back.
    """

    def __init__(self, rng: Rng, *, packets_max: int = PACKETS_HELD_MAX, bytes_max: int = BYTES_HELD_MAX) -> None:
        self.up_counters = LinkCounters()
        """What became of packets at the uplink, as long as there was one."""
        self._uncounted = LinkCounters()
        self._rng = rng
        self._agenda: Agenda[P] = Agenda(packets_max, bytes_max)
        self._services = self._agenda.services
        self._paths: dict[str, Path[P]] = {}
        self._shaped: frozenset[str] = frozenset()
        self._others: Path[P] = Path(self._agenda, rng)
        """The path to peers that the network does not name: clear."""
        self._up: Queue[tuple[Path[P], P]] | None = None

    def apply(self, network: NodeNetwork, now_ns: int) -> None:
        """Put this network in force. What waits stays in its queue and is served at the new bandwidth, what is under way keeps
        its departure, and paths whose shape is the same go on as if nothing had been said.
        """
        self._agenda.advance(now_ns)
        for peer in network.paths.keys() - self._paths.keys():
            self._paths[peer] = Path(self._agenda, self._rng)
        for peer, path in self._paths.items():
            path.reshape(network.shape(peer), now_ns)
        self._shape_uplink(network.up, now_ns)
        self._forget_unnamed(network)
        named = [path for peer, path in self._paths.items() if peer in network.paths]
        self._shaped = frozenset(peer for peer in network.paths if not network.shape(peer).clear)
        self._agenda.floor_ns = min(
            (path.floor_ns for path in named if path.queue is not None or self._up is not None), default=0
        )
        queues = [path.queue for path in named if path.queue is not None]
        self._agenda.serve_only([*queues, self._up] if self._up is not None else queues)

    def touches(self, peer: str) -> bool:
        """Whether packets for this peer have to be given to `send`; if not, they pass as if there were no model at all."""
        return self._up is not None or peer in self._shaped

    def send(self, peer: str, packet: P, size: int, now_ns: int, *, counted: bool = True) -> None:
        """Take in a packet of `size` bytes for this peer. One that is not counted shows in no counters, only in what waits."""
        if self._services:
            self._agenda.advance(now_ns)
        path = self._paths.get(peer)
        if path is None:
            path = self._others
            self._agenda.floor_ns = 0  # this one departs as soon as it is served
        if self._up is None:
            path.enter(packet, size, now_ns, path.counters if counted else self._uncounted)
        else:
            self._up.put((path, packet), size, now_ns, self.up_counters if counted else self._uncounted)

    def due(self, now_ns: int) -> list[P]:
        """Packets that have departed by now, in the order of their departures. Each is given once (twice if duplicated)."""
        return self._agenda.due(now_ns)

    def next_at(self) -> int | None:
        """When `due` may have a packet next; None: none is on its way."""
        return self._agenda.next_at()

    @property
    def held(self) -> tuple[int, int]:
        """Packets that wait or are under way, and their bytes."""
        return self._agenda.packets_held, self._agenda.bytes_held

    def counters(self) -> dict[str, LinkCounters]:
        """What became of packets on the path to each peer that a network has named, since it was first."""
        return {peer: path.counters for peer, path in self._paths.items()}

    def queued_bytes(self, peer: str, now_ns: int) -> int:
        """Bytes that wait now for the bandwidth of the path to this peer."""
        self._agenda.advance(now_ns)
        path = self._paths.get(peer)
        return 0 if path is None or path.queue is None else path.queue.waiting_bytes

    def up_queued_bytes(self, now_ns: int) -> int:
        """Bytes that wait now for the uplink."""
        self._agenda.advance(now_ns)
        return 0 if self._up is None else self._up.waiting_bytes

    def _shape_uplink(self, shape: AccessShape | None, now_ns: int) -> None:
        up = self._up
        if shape is None:
            if up is not None:
                self._up = None
                up.release(now_ns)
        elif up is None:
            self._up = Queue(shape, agenda=self._agenda, leaves=self._left_uplink)
        else:
            up.reshape(shape, now_ns)

    def _left_uplink(self, packet: tuple[Path[P], P], size: int, at_ns: int, counters: LinkCounters) -> None:
        counters.passed += 1
        counters.bytes_passed += size
        path = packet[0]
        path.enter(packet[1], size, at_ns, path.counters if counters is self.up_counters else counters)

    def _forget_unnamed(self, network: NodeNetwork) -> None:
        """Drop paths that have long been clear, the oldest first; nothing waits on those."""
        unnamed = [peer for peer in self._paths if peer not in network.paths]
        for peer in unnamed[: max(0, len(unnamed) - PATHS_KEPT_MAX)]:
            del self._paths[peer]


class Ingress(Generic[P]):
    """The incoming half of a node: its downlink, shared by all peers. As `Egress`, without peers."""

    def __init__(self, *, packets_max: int = PACKETS_HELD_MAX, bytes_max: int = BYTES_HELD_MAX) -> None:
        self.counters = LinkCounters()
        self._uncounted = LinkCounters()
        self._agenda: Agenda[P] = Agenda(packets_max, bytes_max)
        self._down: Queue[P] | None = None

    def apply(self, network: NodeNetwork, now_ns: int) -> None:
        """Put this network's downlink in force; what waits stays."""
        self._agenda.advance(now_ns)
        down = self._down
        if network.down is None:
            self._down = None
            if down is not None:
                down.release(now_ns)
        elif down is None:
            self._down = Queue(network.down, agenda=self._agenda, leaves=self._left)
        else:
            down.reshape(network.down, now_ns)
        self._agenda.serve_only([] if self._down is None else [self._down])

    def touches(self) -> bool:
        """Whether packets have to be given to `send`."""
        return self._down is not None

    def send(self, packet: P, size: int, now_ns: int, *, counted: bool = True) -> None:
        """Take in a packet of `size` bytes that has reached the downlink; see `Egress.send`."""
        self._agenda.advance(now_ns)
        counters = self.counters if counted else self._uncounted
        if self._down is None:
            self._left(packet, size, now_ns, counters)
        else:
            self._down.put(packet, size, now_ns, counters)

    def due(self, now_ns: int) -> list[P]:
        """Packets that have passed the downlink by now, in order."""
        return self._agenda.due(now_ns)

    def next_at(self) -> int | None:
        """When `due` may have a packet next; None: none is on its way."""
        return self._agenda.next_at()

    @property
    def held(self) -> tuple[int, int]:
        """Packets that wait or are about to be taken by `due`, and their bytes."""
        return self._agenda.packets_held, self._agenda.bytes_held

    def queued_bytes(self, now_ns: int) -> int:
        """Bytes that wait now for the downlink."""
        self._agenda.advance(now_ns)
        return 0 if self._down is None else self._down.waiting_bytes

    def _left(self, packet: P, size: int, at_ns: int, counters: LinkCounters) -> None:
        self._agenda.depart(at_ns, packet, size, counters)
