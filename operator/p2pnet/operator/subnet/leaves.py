"""Leaves in Secrets: whose they are, whether they may stay, when the next one is due. Pure; `now` is an argument."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from p2pnet.model.errors import SpecError, TrustError
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import BACKDATE, Bundle, Identity

FINGERPRINT_CHARS = 16  # of SHA-256 in hex, in reports: enough to tell leaves of one subnet apart
JITTER = 0.1  # of renewBefore, either way: leaves issued together do not come due together
_SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a leaf says, once it is known to be of its issuer and to fit its key."""

    uri: str
    issued: datetime
    not_after: datetime
    fingerprint: str


def facts(chain_pem: bytes, key_pem: bytes, issuer_pem: bytes) -> Facts | None:
    """The facts of a leaf that one of these authorities issued, whatever the time is; None for anything else."""
    found = examined(chain_pem, key_pem, issuer_pem)
    return found if isinstance(found, Facts) else None


@lru_cache(maxsize=8192)  # 500 leaves are parsed once, not every time somebody looks
def examined(chain_pem: bytes, key_pem: bytes, issuer_pem: bytes) -> Facts | str:
    """The facts of a leaf that one of these authorities issued, whatever the time is, or what is wrong with it."""
    identity = Identity(chain_pem, key_pem, issuer_pem)
    try:
        identity.check()
        peer = identity.verify(now=identity.not_after - timedelta(seconds=1))
    except (SpecError, TrustError) as error:
        return str(error)
    issued = identity.certificates[0].not_valid_before_utc + BACKDATE
    return Facts(peer.uri, issued, identity.not_after, identity.fingerprint)


def renew_at(leaf: Facts, subnet: Subnet) -> datetime:
    """When a leaf is due: `renewBefore` before its end, sooner or later by up to a tenth of that, by its own chance."""
    before = subnet.spec.identity.renew_before_seconds
    chance = int(hashlib.sha256(leaf.fingerprint.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    due = leaf.not_after - timedelta(seconds=before * (1 + JITTER * (2 * chance - 1)))
    # Never in the first half of the time it has until then, or a long renewBefore would renew for ever.
    plain = leaf.not_after - timedelta(seconds=before)
    return max(due, leaf.issued + (plain - leaf.issued) / 2)


def is_due(leaf: Facts, subnet: Subnet, authority_end: datetime, now: datetime) -> bool:
    """Whether to issue another one now: it is time, or `ttl` was made shorter than what is left of it.

    Not if the next one could not live longer: an authority's end is every leaf's end.
    """
    ttl = timedelta(seconds=subnet.spec.identity.ttl.seconds)
    if leaf.not_after > now + ttl + _SLACK:
        return True
    return now >= renew_at(leaf, subnet) and leaf.not_after + _SLACK < min(now + ttl, authority_end)


def readable_authorities(pems: Iterable[bytes]) -> bytes:
    """The different authorities in these texts as one bundle; damaged texts are left out."""
    found: dict[str, bytes] = {}
    for pem in pems:
        try:
            bundle = Bundle.from_pem(pem)
        except SpecError:
            continue
        for fingerprint, authority in zip(bundle.fingerprints, bundle.authorities, strict=True):
            found.setdefault(fingerprint, Bundle([authority]).pem)
    return b"".join(list(found.values())[:8])


def short(fingerprint: str) -> str:
    """A fingerprint as reports carry it."""
    return fingerprint[:FINGERPRINT_CHARS]
