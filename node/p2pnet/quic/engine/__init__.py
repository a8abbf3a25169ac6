"""QUIC without sockets and clocks, and the only room that knows aioquic."""

from p2pnet.quic.engine.engine import ERROR_CODE_MAX, Datagram, Engine, failure_of
from p2pnet.quic.engine.flow import Happening, Windows
from p2pnet.quic.engine.gate import Admission, Gate, Incoming, Resets, destination_cid
from p2pnet.quic.engine.streams import Stream
from p2pnet.quic.engine.tls import Configurations

__all__ = [
    "ERROR_CODE_MAX",
    "Admission",
    "Configurations",
    "Datagram",
    "Engine",
    "Gate",
    "Happening",
    "Incoming",
    "Resets",
    "Stream",
    "Windows",
    "destination_cid",
    "failure_of",
]
