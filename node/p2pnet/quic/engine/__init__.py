"""QUIC without sockets and clocks (sans-IO), and the only package that imports aioquic."""

from p2pnet.quic.engine.later import import_aioquic

import_aioquic()  # before all that imports it

from p2pnet.quic.engine.engine import ERROR_CODE_MAX, Datagram, Engine, failure_of
from p2pnet.quic.engine.flow import FlowEvent, Windows
from p2pnet.quic.engine.gate import (
    FIXED_BIT,
    RESET_TOKEN_BYTES,
    Admission,
    Admittance,
    Gate,
    Resets,
    destination_cid,
)
from p2pnet.quic.engine.streams import Stream
from p2pnet.quic.engine.tls import Configurations

__all__ = [
    "ERROR_CODE_MAX",
    "FIXED_BIT",
    "RESET_TOKEN_BYTES",
    "Admission",
    "Admittance",
    "Configurations",
    "Datagram",
    "Engine",
    "FlowEvent",
    "Gate",
    "Resets",
    "Stream",
    "Windows",
    "destination_cid",
    "failure_of",
]
