"""Leaves in Secrets: whose they are, whether they may stay, when the next one is due, and which pods do not show them yet.

What nodes and lab report of their identities, against what their Secrets hold, gates each step of an authority's
replacement. Pure; `now` is an argument.
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

FINGERPRINT_CHARS = 16  # of SHA-256 in hex, in reports: enough to tell leaves of one subnet apart
JITTER = 0.1  # of renewBefore, either way: leaves issued together do not come due together
_SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What a leaf says, once it is known to be of its issuer and to fit its key."""

    uri: str
    issued: datetime
    not_after: datetime
    fingerprint: str


def facts(chain_pem: bytes, key_pem: bytes, issuer_pem: bytes) -> LeafFacts | None:
    """The facts of a leaf that one of these authorities issued, whatever the time is; None for anything else."""
    found = examined(chain_pem, key_pem, issuer_pem)
    return found if isinstance(found, LeafFacts) else None


@lru_cache(maxsize=8192)  # 500 leaves are parsed once, not every time somebody looks
def examined(chain_pem: bytes, key_pem: bytes, issuer_pem: bytes) -> LeafFacts | str:
    """The facts of a leaf that one of these authorities issued, whatever the time is, or what is wrong with it."""
    identity = Identity(chain_pem, key_pem, issuer_pem)
    try:
        identity.check()
        peer = identity.verify(now=identity.not_after - timedelta(seconds=1))
    except (SpecError, TrustError) as error:
        return str(error)
    issued = identity.certificates[0].not_valid_before_utc + BACKDATE
    return LeafFacts(peer.uri, issued, identity.not_after, identity.fingerprint)


def renew_at(leaf: LeafFacts, subnet: Subnet) -> datetime:
    """When a leaf is due: `renewBefore` before its end, sooner or later by up to a tenth of that, by its own chance."""
    before = subnet.spec.identity.renew_before_seconds
    chance = int(hashlib.sha256(leaf.fingerprint.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    due = leaf.not_after - timedelta(seconds=before * (1 + JITTER * (2 * chance - 1)))
    # Never in the first half of the time it has until then, or a long renewBefore would renew for ever.
    plain = leaf.not_after - timedelta(seconds=before)
    return max(due, leaf.issued + (plain - leaf.issued) / 2)


def is_due(leaf: LeafFacts, subnet: Subnet, authority_end: datetime, now: datetime) -> bool:
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


LAB = "the lab"


def lagging_trust(context: SubnetContext, observed: Observed, bundle: Bundle) -> list[str]:
    """Who does not trust the whole bundle yet: a Secret without it, or a running node or lab that does not report it."""
    wanted = {short(one) for one in bundle.fingerprints}
    told = _by_member(observed)
    behind = [
        member
        for placed in context.placements
        for member in placed.members
        if _stale(context, observed, placed.pod, bundle)
        or (_started(observed, placed.pod) and not (member in told and wanted <= set(told[member].trusted)))
    ]
    if _started(observed, context.lab) and not (observed.lab and wanted <= set(observed.lab.trusted)):
        behind.append(LAB)
    return behind


def lagging_leaves(context: SubnetContext, observed: Observed, issuer_pem: bytes) -> list[str]:
    """Who should show a leaf of this authority and does not yet, in its Secret or, when running, in its own words."""
    told = {name: status.leaf for name, status in _by_member(observed).items()}
    behind = []
    for placed in [] if context.cert_manager else context.placements:
        for member in placed.members:
            leaf = _leaf(observed, placed.pod, member, issuer_pem)
            shown = not _started(observed, placed.pod) or (leaf and told.get(member) == short(leaf.fingerprint))
            if leaf is None or leaf.uri != context.uri(member) or not shown:
                behind.append(member)
    lab = _leaf(observed, context.lab, "tls", issuer_pem)
    if lab is None or (
        _started(observed, context.lab) and not (observed.lab and observed.lab.leaf == short(lab.fingerprint))
    ):
        behind.append(LAB)
    return behind


def lagging_renewals(context: SubnetContext, observed: Observed, held: Mapping[str, LeafFacts]) -> list[str]:
    """Which running members do not show the leaf that their Secret holds."""
    told = {name: status.leaf for name, status in _by_member(observed).items()}
    return [
        member
        for placed in context.placements
        if _started(observed, placed.pod)
        for member in placed.members
        if member not in held or told.get(member) != short(held[member].fingerprint)
    ]


def _leaf(observed: Observed, secret: str, stem: str, issuer_pem: bytes) -> LeafFacts | None:
    data = decoded(observed.of(SECRET).get(secret))
    return facts(data.get(f"{stem}.crt", b""), data.get(f"{stem}.key", b""), issuer_pem)


def _started(observed: Observed, pod: str) -> bool:
    """Whether the pod's processes may hold an older identity. One that is still pending reads the newest when it starts."""
    found = observed.of(POD).get(pod)
    return found is not None and (found.get("status") or {}).get("phase") == "Running"


def _stale(context: SubnetContext, observed: Observed, pod: str, bundle: Bundle) -> bool:
    secret, file = (context.trust, LAB_BUNDLE_FILE) if context.cert_manager else (pod, BUNDLE_FILE)
    found = observed.of(SECRET).get(secret)
    return found is not None and decoded(found).get(file) != bundle.pem


def _by_member(observed: Observed) -> dict[str, MemberStatus]:
    return {one.name: one for one in observed.lab.members} if observed.lab else {}
