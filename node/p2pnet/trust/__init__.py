"""Authorities, leaves and bundles: issue, name and verify. `now` is an argument; nothing here reads a clock or a socket.

Called by quic (verify, Identity), node (Identity), and by lab and operator (Authority), who alone hold authority keys.
"""

from p2pnet.trust.authority import AUTHORITY_TTL, BACKDATE, Authority, Leaf
from p2pnet.trust.bundle import PARSING_FAILS, Bundle, VerifiedPeer, ended_at, verify
from p2pnet.trust.identity import (
    BUNDLE_FILE,
    CHAIN_FILE,
    KEY_FILE,
    LAB_BUNDLE_FILE,
    Identity,
    identity_files,
    sign,
    signed_by,
)

__all__ = [
    "AUTHORITY_TTL",
    "BACKDATE",
    "BUNDLE_FILE",
    "CHAIN_FILE",
    "KEY_FILE",
    "LAB_BUNDLE_FILE",
    "PARSING_FAILS",
    "Authority",
    "Bundle",
    "Identity",
    "Leaf",
    "VerifiedPeer",
    "ended_at",
    "identity_files",
    "sign",
    "signed_by",
    "verify",
]
