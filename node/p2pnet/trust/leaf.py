"""A leaf: the certificate of one node or lab, with its key, as an authority has just issued it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

BACKDATE = timedelta(minutes=10)
"""Leaves and authorities start this long in the past: clocks of a cluster differ by seconds, of laptops by minutes."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """PEM texts and what they say. `chain_pem` holds the leaf first; the key is unencrypted PKCS 8."""

    chain_pem: bytes
    key_pem: bytes
    uri: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256 of the leaf's DER, in hex."""
