"""The qp2p layer: QUIC endpoints for peers, with mutual TLS, one message per stream, and bounds on everything.

Used by nodes and labs, and a library by itself: whatever its public functions take, return or raise is exported here. It is the
only importer of aioquic, and nothing of aioquic shows through.
"""

from p2pnet.model.errors import LimitError, LocalError, MalformedError, P2pnetError, RemoteError, TrustError
from p2pnet.model.network import LinkShape
from p2pnet.quic.addresses import Address
from p2pnet.quic.bootstrap_cache import BootstrapCache, Connector
from p2pnet.quic.connection import Connection
from p2pnet.quic.dispatch import EgressHook, ForeignHook, IngressHook
from p2pnet.quic.endpoint import Endpoint, OnMessage, OnRefused
from p2pnet.quic.engine import Datagram
from p2pnet.quic.errors import (
    BadAddress,
    CloseCode,
    CloseKind,
    CloseReason,
    ConnectionLost,
    EndpointClosed,
    EndpointError,
    FrameError,
    FrameFault,
    HandshakeFailed,
    HandshakeFailure,
    MessageTooLarge,
    QuicError,
    RequestTimeout,
    Reset,
    StreamCode,
    StreamLost,
)
from p2pnet.quic.framing import Parts
from p2pnet.quic.memory import Deadlock, MemoryNetwork, MemoryTransport, OnSend, VirtualLoop, run_virtual
from p2pnet.quic.message import Message, Source
from p2pnet.quic.once import AtLeastOnce, DeliveryFailed
from p2pnet.quic.reachability import Reachability
from p2pnet.quic.requests import Done, Exchange, ReceiveStream, Sending, SendStream
from p2pnet.quic.retry import Retry, worth_retrying
from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import OnDatagrams, OnTooBig, Transport, UdpSocket
from p2pnet.quic.trust import FixedIdentity, IdentitySource, PeerName, Trust
from p2pnet.trust import Bundle, Identity

__all__ = [
    "Address",
    "AtLeastOnce",
    "BadAddress",
    "BootstrapCache",
    "Bundle",
    "CloseCode",
    "CloseKind",
    "CloseReason",
    "Connection",
    "ConnectionLost",
    "Connector",
    "Datagram",
    "Deadlock",
    "DeliveryFailed",
    "Done",
    "EgressHook",
    "Endpoint",
    "EndpointClosed",
    "EndpointError",
    "Exchange",
    "FixedIdentity",
    "ForeignHook",
    "FrameError",
    "FrameFault",
    "HandshakeFailed",
    "HandshakeFailure",
    "Identity",
    "IdentitySource",
    "IngressHook",
    "LimitError",
    "LinkShape",
    "LocalError",
    "MalformedError",
    "MemoryNetwork",
    "MemoryTransport",
    "Message",
    "MessageTooLarge",
    "OnDatagrams",
    "OnMessage",
    "OnRefused",
    "OnSend",
    "OnTooBig",
    "P2pnetError",
    "Parts",
    "PeerName",
    "QuicError",
    "Reachability",
    "ReceiveStream",
    "RemoteError",
    "RequestTimeout",
    "Reset",
    "Retry",
    "SendStream",
    "Sending",
    "Settings",
    "Source",
    "StreamCode",
    "StreamLost",
    "Transport",
    "Trust",
    "TrustError",
    "UdpSocket",
    "VirtualLoop",
    "run_virtual",
    "worth_retrying",
]
