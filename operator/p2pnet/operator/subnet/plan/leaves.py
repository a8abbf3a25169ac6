"""Leaves in Secrets: whose they are, when they are due for renewal, and which pods do not use them yet. Pure.

Before each step of an authority's replacement, what nodes and lab report of their identities is compared with what their
Secrets hold: the `lagging_*` functions name who is behind.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from p2pnet.model.errors import SpecError, TrustError
from p2pnet.model.report import MemberStatus
from p2pnet.operator.kube.api import POD, SECRET, decoded
from p2pnet.operator.subnet.context import Observed, SubnetContext
from p2pnet.subnet.spec import Subnet
from p2pnet.trust import BACKDATE, BUNDLE_FILE, LAB_BUNDLE_FILE, Bundle, Identity

FINGERPRINT_CHARS = 16  # of SHA-256 in hex, as nodes report it: enough to tell leaves of one subnet apart
JITTER = 0.1  # share of renewBefore, either way: leaves issued together are not renewed together
READABLE_MAX = 8  # a bundle holds 16, and a new authority must find room beside these
LAB = "the lab"
"""The lab among the names of who is behind."""
_SLACK = timedelta(minutes=1)  # differences below are rounding, not an edit of the ttl


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What a leaf says; it is known to be of its issuer and to fit its key."""

    uri: str
    issued: datetime
    not_after: datetime
    fingerprint: str


def facts(chain_pem: bytes, key_pem: bytes, issuer_pem: bytes) -> LeafFacts | None:
    """The facts of a leaf that one of these authorities issued, expired or not; None for anything else."""
    found = examined(chain_pem, key_pem, issuer_pem)
    return found if isinstance(found, LeafFacts) else None


@lru_cache(maxsize=8192)  # for 500 leaves and their successors: each is parsed once, not with every reconciliation
def examined(chain_pem: bytes, key_pem: bytes, issuer_pem: bytes) -> LeafFacts | str:
    """The facts of a leaf that one of these authorities issued, expired or not, or else what is wrong with it."""
    identity = Identity(chain_pem, key_pem, issuer_pem)
    try:
        identity.check()
        # At its last second, so that expired leaves are examined, too.
        peer = identity.verify(now=identity.not_after - timedelta(seconds=1))
    except (SpecError, TrustError) as error:
        return str(error)
    # Leaves start in the past, for nodes whose clocks are slow.
    issued = identity.certificates[0].not_valid_before_utc + BACKDATE
    return LeafFacts(peer.uri, issued, identity.not_after, identity.fingerprint)


def renew_at(leaf: LeafFacts, subnet: Subnet) -> datetime:
    """When to renew a leaf: `renewBefore` before its end, give or take a tenth of that, derived from its fingerprint."""
    before = subnet.spec.identity.renew_before_seconds
    spread = int(hashlib.sha256(leaf.fingerprint.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    due = leaf.not_after - timedelta(seconds=before * (1 + JITTER * (2 * spread - 1)))
    # Never in the first half of the time until then: with a long renewBefore each new leaf would be due at once.
    plain = leaf.not_after - timedelta(seconds=before)
    return max(due, leaf.issued + (plain - leaf.issued) / 2)


def is_due(leaf: LeafFacts, subnet: Subnet, authority_end: datetime, now: datetime) -> bool:
    """Whether to renew a leaf now: it is time, or `ttl` was made shorter than what the leaf has left.

    Not if a new one could not last longer: no leaf outlives its authority.
    """
    ttl = timedelta(seconds=subnet.spec.identity.ttl.seconds)
    if leaf.not_after > now + ttl + _SLACK:
        return True
    return now >= renew_at(leaf, subnet) and leaf.not_after + _SLACK < min(now + ttl, authority_end)


def readable_authorities(pems: Iterable[bytes]) -> bytes:
    """The distinct authorities in these PEM texts as one bundle, at most 8; damaged texts are left out."""
    found: dict[str, bytes] = {}
    for pem in pems:
        try:
            bundle = Bundle.from_pem(pem)
        except SpecError:
            continue
        for fingerprint, authority in zip(bundle.fingerprints, bundle.authorities, strict=True):
            found.setdefault(fingerprint, Bundle([authority]).pem)
    return b"".join(list(found.values())[:READABLE_MAX])


def short(fingerprint: str) -> str:
    """A fingerprint as nodes and lab report it."""
    return fingerprint[:FINGERPRINT_CHARS]


def lagging_trust(context: SubnetContext, observed: Observed, bundle: Bundle) -> list[str]:
    """Members (or the lab) that do not trust the whole bundle yet: by their Secret, or by their report while they run."""
    wanted = {short(one) for one in bundle.fingerprints}
    reported = _by_member(observed)
    behind = [
        member
        for placed in context.placements
        for member in placed.members
        if _lacks_bundle(context, observed, placed.pod, bundle)
        or (_started(observed, placed.pod) and not (member in reported and wanted <= set(reported[member].trusted)))
    ]
    if _started(observed, context.lab) and not (observed.lab and wanted <= set(observed.lab.trusted)):
        behind.append(LAB)
    return behind


def lagging_leaves(context: SubnetContext, observed: Observed, issuer_pem: bytes) -> list[str]:
    """Members (or the lab) without a leaf of this authority: in their Secret, or in their report while they run."""
    reported = {name: status.leaf for name, status in _by_member(observed).items()}
    behind = []
    for placed in [] if context.cert_manager else context.placements:
        for member in placed.members:
            leaf = _leaf(observed, placed.pod, member, issuer_pem)
            in_use = not _started(observed, placed.pod) or (leaf and reported.get(member) == short(leaf.fingerprint))
            if leaf is None or leaf.uri != context.uri(member) or not in_use:
                behind.append(member)
    lab = _leaf(observed, context.lab, "tls", issuer_pem)
    if lab is None or (
        _started(observed, context.lab) and not (observed.lab and observed.lab.leaf == short(lab.fingerprint))
    ):
        behind.append(LAB)
    return behind


def lagging_renewals(context: SubnetContext, observed: Observed, held: Mapping[str, LeafFacts]) -> list[str]:
    """Running members that do not use the leaf in their Secret (`held`, by member)."""
    reported = {name: status.leaf for name, status in _by_member(observed).items()}
    return [
        member
        for placed in context.placements
        if _started(observed, placed.pod)
        for member in placed.members
        if member not in held or reported.get(member) != short(held[member].fingerprint)
    ]


def _leaf(observed: Observed, secret: str, stem: str, issuer_pem: bytes) -> LeafFacts | None:
    data = decoded(observed.of(SECRET).get(secret))
    return facts(data.get(f"{stem}.crt", b""), data.get(f"{stem}.key", b""), issuer_pem)


def _started(observed: Observed, pod: str) -> bool:
    """Whether the pod runs, with whatever identity it has read. A pending one reads the newest when it starts."""
    found = observed.of(POD).get(pod)
    return found is not None and (found.get("status") or {}).get("phase") == "Running"


def _lacks_bundle(context: SubnetContext, observed: Observed, pod: str, bundle: Bundle) -> bool:
    secret, file = (context.trust, LAB_BUNDLE_FILE) if context.cert_manager else (pod, BUNDLE_FILE)
    found = observed.of(SECRET).get(secret)
    return found is not None and decoded(found).get(file) != bundle.pem


def _by_member(observed: Observed) -> dict[str, MemberStatus]:
    return {one.name: one for one in observed.lab.members} if observed.lab else {}
