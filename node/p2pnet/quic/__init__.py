"""The qp2p layer: QUIC endpoints for peers, with mutual TLS, one message per stream, and bounds on everything.

Called by node and lab. The only importer of aioquic; nothing of aioquic shows through.
"""

from p2pnet.quic.addresses import Address
from p2pnet.quic.connection import Connection
from p2pnet.quic.contacts import Contacts
from p2pnet.quic.endpoint import Endpoint
from p2pnet.quic.errors import (
    BadAddress,
    CloseCode,
    CloseReason,
    ConnectionLost,
    EndpointClosed,
    EndpointError,
    FrameError,
    HandshakeFailed,
    MessageTooLarge,
    QuicError,
    RequestTimeout,
    Reset,
    StreamCode,
    StreamLost,
)
from p2pnet.quic.message import Message
from p2pnet.quic.reach import Reach
from p2pnet.quic.requests import Exchange, ReceiveStream, Sending, SendStream
from p2pnet.quic.retry import Retry
from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import Transport, UdpSocket
from p2pnet.quic.trust import FixedIdentity, IdentitySource, PeerName, Trust

__all__ = [
    "Address",
    "BadAddress",
    "CloseCode",
    "CloseReason",
    "Connection",
    "ConnectionLost",
    "Contacts",
    "Endpoint",
    "EndpointClosed",
    "EndpointError",
    "Exchange",
    "FixedIdentity",
    "FrameError",
    "HandshakeFailed",
    "IdentitySource",
    "Message",
    "MessageTooLarge",
    "PeerName",
    "QuicError",
    "Reach",
    "ReceiveStream",
    "RequestTimeout",
    "Reset",
    "Retry",
    "SendStream",
    "Sending",
    "Settings",
    "StreamCode",
    "StreamLost",
    "Transport",
    "Trust",
    "UdpSocket",
]
