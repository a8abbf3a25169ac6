"""What nodes and lab report about their identities, against what their Secrets hold: the gates of a replacement. Pure."""

from collections.abc import Mapping

from p2pnet.model.report import MemberStatus
from p2pnet.operator.kube.api import POD, SECRET, decoded
from p2pnet.operator.subnet.context import Observed, SubnetContext
from p2pnet.operator.subnet.plan.leaves import Facts, facts, short
from p2pnet.trust import BUNDLE_FILE, LAB_BUNDLE_FILE, Bundle

LAB = "the lab"


def lagging_trust(site: SubnetContext, observed: Observed, bundle: Bundle) -> list[str]:
    """Who does not trust the whole bundle yet: a Secret without it, or a running node or lab that does not report it."""
    wanted = {short(one) for one in bundle.fingerprints}
    told = _by_member(observed)
    behind = [
        member
        for placed in site.placement
        for member in placed.members
        if _stale(site, observed, placed.pod, bundle)
        or (_started(observed, placed.pod) and not (member in told and wanted <= set(told[member].trusted)))
    ]
    if _started(observed, site.lab) and not (observed.lab and wanted <= set(observed.lab.trusted)):
        behind.append(LAB)
    return behind


def lagging_leaves(site: SubnetContext, observed: Observed, issuer_pem: bytes) -> list[str]:
    """Who should show a leaf of this authority and does not yet, in its Secret or, when running, in its own words."""
    told = {name: status.leaf for name, status in _by_member(observed).items()}
    behind = []
    for placed in [] if site.cert_manager else site.placement:
        for member in placed.members:
            leaf = _leaf(observed, placed.pod, member, issuer_pem)
            shown = not _started(observed, placed.pod) or (leaf and told.get(member) == short(leaf.fingerprint))
            if leaf is None or leaf.uri != site.uri(member) or not shown:
                behind.append(member)
    lab = _leaf(observed, site.lab, "tls", issuer_pem)
    if lab is None or (
        _started(observed, site.lab) and not (observed.lab and observed.lab.leaf == short(lab.fingerprint))
    ):
        behind.append(LAB)
    return behind


def lagging_renewals(site: SubnetContext, observed: Observed, held: Mapping[str, Facts]) -> list[str]:
    """Which running members do not show the leaf that their Secret holds."""
    told = {name: status.leaf for name, status in _by_member(observed).items()}
    return [
        member
        for placed in site.placement
        if _started(observed, placed.pod)
        for member in placed.members
        if member not in held or told.get(member) != short(held[member].fingerprint)
    ]


def _leaf(observed: Observed, secret: str, stem: str, issuer_pem: bytes) -> Facts | None:
    data = decoded(observed.of(SECRET).get(secret))
    return facts(data.get(f"{stem}.crt", b""), data.get(f"{stem}.key", b""), issuer_pem)


def _started(observed: Observed, pod: str) -> bool:
    """Whether the pod's processes may hold an older identity. One that is still pending reads the newest when it starts."""
    found = observed.of(POD).get(pod)
    return found is not None and (found.get("status") or {}).get("phase") == "Running"


def _stale(site: SubnetContext, observed: Observed, pod: str, bundle: Bundle) -> bool:
    secret, file = (site.trust, LAB_BUNDLE_FILE) if site.cert_manager else (pod, BUNDLE_FILE)
    found = observed.of(SECRET).get(secret)
    return found is not None and decoded(found).get(file) != bundle.pem


def _by_member(observed: Observed) -> dict[str, MemberStatus]:
    return {one.name: one for one in observed.lab.members} if observed.lab else {}
