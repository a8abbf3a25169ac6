"""How a node is, in one look: the answer to the lab, and what `/metrics` reads."""

import os

from p2pnet.model.control import PeersReply, PeerState
from p2pnet.model.text import address_text
from p2pnet.node.events import EventRing
from p2pnet.peering.clock import cpu_s
from p2pnet.peering.discovery import PeerDirectory, in_order
from p2pnet.peering.peers import Peers
from p2pnet.quic import Connection
from p2pnet.trust import Identity

_FINGERPRINT_CHARS = 16


def describe(
    name: str,
    *,
    ring: EventRing,
    registry: PeerDirectory,
    peers: Peers,
    identity: Identity,
    started_ns: int,
    ready: bool,
    pool: dict[str, int],
    address: tuple[str, int],
) -> PeersReply:
    """The state of the node `name` now."""
    sent, received = peers.udp_bytes()
    return PeersReply(
        name=name,
        incarnation=ring.incarnation,
        boot_id=ring.boot_id,
        pid=os.getpid(),
        registry_version=registry.version,
        wanted=registry.wanted,
        peers=[_peer(other, peers.links[other].connection) for other in in_order(set(peers.links))],
        udp_sent=sent,
        udp_received=received,
        cpu_s=cpu_s(),
        cert_not_after=identity.not_after.timestamp(),
        started_mono_ns=started_ns,
        event_cursor=ring.cursor,
        ready=ready,
        pool=pool,
        address=address_text(*address),
        trusted=[fingerprint[:_FINGERPRINT_CHARS] for fingerprint in identity.trusted],
        leaf=identity.fingerprint[:_FINGERPRINT_CHARS],
    )


def _peer(name: str, connection: Connection) -> PeerState:
    return PeerState(
        name=name,
        connection=connection.id,
        rtt_ms=connection.rtt_s * 1000,
        sent=connection.sent_bytes,
        received=connection.received_bytes,
        address=address_text(*connection.address[:2]),
    )
