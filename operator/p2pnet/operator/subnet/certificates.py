"""Who vouches for the nodes: the built-in authority, and its replacement while everybody stays connected.

The authority lives in the Secret `<subnet>-ca`, never mounted, and the phase of a replacement is what that Secret holds,
so a killed operator goes on where it was; each step is one write, refused when somebody else wrote since:

    Steady    ca.crt ca.key                      one authority, it issues, it is the bundle
    Trusting  ca.crt ca.key next.crt next.key    the old one issues, the bundle holds both
    Issuing   ca.crt ca.key previous.crt         the new one issues, the bundle holds both

Where cert-manager issues the nodes' leaves, this authority issues the lab's alone, and nodes judge the lab by it alone.
Trusting ends when every running node and the lab report both authorities; Issuing when all show a leaf of the new one.

What happens to an authority that is
- about to end (30 days) or asked for (annotation `force-replace`): replaced in these phases;
- ended: replaced at once, for nobody trusts it any more;
- deleted, damaged, or another one than the nodes trust, while node pods exist: nothing is issued, and Degraded says
  so; a pod that goes comes back as long as the leaves in its Secret hold. Restore the Secret with its metadata, or set
  `force-replace`: then the nodes learn of the new one first, from their Secrets, beside the old certificate found there.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from p2pnet.model.errors import SpecError
from p2pnet.model.text import some
from p2pnet.operator.kube.api import POD, SECRET, Object, annotations_of, meta
from p2pnet.operator.kube.desired import Action, Create, Patch
from p2pnet.operator.kube.encoding import decoded, encoded
from p2pnet.operator.subnet import leaves
from p2pnet.operator.subnet.context import FORCE_REPLACE, ROLE_LABEL, Observed, SubnetContext
from p2pnet.operator.subnet.reports import lagging_leaves, lagging_trust
from p2pnet.trust import BUNDLE_FILE, LAB_BUNDLE_FILE, Authority, Bundle

MARK = "p2pnet.io/authority"
"""Annotation of the authority's Secret: fingerprint of `ca.crt` as the operator wrote it."""
REPLACED = "p2pnet.io/replaced"
"""Annotation of the authority's Secret: the value of `force-replace` that has been obeyed."""
REPLACE_BEFORE = timedelta(days=30)


class RotationPhase(StrEnum):
    """How far a replacement is."""

    STEADY = "Steady"
    TRUSTING = "Trusting"
    ISSUING = "Issuing"


NEXT = {
    RotationPhase.STEADY: RotationPhase.TRUSTING,
    RotationPhase.TRUSTING: RotationPhase.ISSUING,
    RotationPhase.ISSUING: RotationPhase.STEADY,
}
"""The one order in which phases follow."""


@dataclass(frozen=True)
class HeldCertificates:
    """What the authority's Secret holds. `issuer` is None when its key is lost and the next one is not trusted yet."""

    current_pem: bytes
    issuer: Authority | None
    following: Authority | None = None
    previous_pem: bytes = b""
    replaced: str = ""

    @property
    def phase(self) -> RotationPhase:
        """Told by what is there."""
        if self.following is not None:
            return RotationPhase.TRUSTING
        return RotationPhase.ISSUING if self.previous_pem else RotationPhase.STEADY

    @cached_property
    def bundle(self) -> Bundle:
        """Everything nodes should trust now, the issuer first."""
        following = self.following.certificate_pem if self.following else b""
        return Bundle.from_pem(self.current_pem + following + self.previous_pem)

    @cached_property
    def not_after(self) -> datetime:
        """When the first authority of the bundle ends."""
        return min(one.not_valid_after_utc for one in Bundle.from_pem(self.current_pem).authorities)

    @cached_property
    def fingerprint(self) -> str:
        """Of the authority in `ca.crt`."""
        return Bundle.from_pem(self.current_pem).fingerprints[0]

    def advanced(self, new: Authority | None = None) -> "HeldCertificates":
        """The holdings of the next phase; `new` is the authority a replacement begins with."""
        match self.phase:
            case RotationPhase.STEADY:
                return replace(self, following=new)
            case RotationPhase.TRUSTING:
                return HeldCertificates(
                    self.following.certificate_pem if self.following else b"",
                    self.following, previous_pem=self.current_pem, replaced=self.replaced,
                )  # fmt: skip
            case RotationPhase.ISSUING:
                return replace(self, previous_pem=b"")


@dataclass(frozen=True)
class CertificateDecision:
    """What to issue with, the one write that must come before anything else, and what to tell."""

    holdings: HeldCertificates | None
    write: Action | None = None
    trouble: tuple[str, str] | None = None
    """Reason and message for Degraded."""
    waiting: str = ""
    """What the replacement waits for."""
    note: tuple[str, str] | None = None
    """Reason and message of an event worth telling once."""


def decide(site: SubnetContext, observed: Observed, now: datetime) -> CertificateDecision:
    """What to do about the authority now: at most one step."""
    secret = observed.of(SECRET).get(site.authority)
    asked = site.annotations.get(FORCE_REPLACE, "")
    if secret is None:
        return _without_secret(site, observed, asked, now)
    handled = annotations_of(secret).get(REPLACED, "")
    try:
        holdings = _read(site, secret, observed)
    except SpecError as error:
        if asked in ("", handled):
            return CertificateDecision(None, trouble=("AuthorityDamaged", f"Secret {site.authority}: {error}"))
        return _recovered(site, observed, asked, now, secret)
    if holdings.not_after <= now:
        return _written(site, secret, _fresh(site, now, handled), ("AuthorityReplaced", "the authority had ended"))
    return _step(site, observed, secret, holdings, now)


def _without_secret(site: SubnetContext, observed: Observed, asked: str, now: datetime) -> CertificateDecision:
    if not _node_pods(observed):
        holdings = _fresh(site, now, asked)  # nobody trusts anything yet
        return CertificateDecision(holdings, Create(SECRET, _body(site, holdings)))
    if asked not in ("", str((observed.status.get("authority") or {}).get("replaced", ""))):
        return _recovered(site, observed, asked, now, None)
    return CertificateDecision(
        None, trouble=("AuthorityLost", f"Secret {site.authority} is gone while nodes trust it: restore it")
    )


def _step(
    site: SubnetContext, observed: Observed, secret: Object, holdings: HeldCertificates, now: datetime
) -> CertificateDecision:
    match holdings.phase:
        case RotationPhase.STEADY:
            asked = site.annotations.get(FORCE_REPLACE, "")
            if asked in ("", holdings.replaced) and holdings.not_after - now > REPLACE_BEFORE:
                return CertificateDecision(holdings)
            begun = replace(holdings, replaced=asked or holdings.replaced).advanced(
                Authority.create(_common_name(site), now=now)
            )
            return _written(site, secret, begun, ("AuthorityReplacing", "nodes learn of the new authority"))
        case RotationPhase.TRUSTING:
            behind = lagging_trust(site, observed, holdings.bundle)
            told = "all trust the new authority"
        case RotationPhase.ISSUING:
            behind = lagging_leaves(site, observed, holdings.current_pem)
            told = "all show leaves of the new authority"
    if behind:
        return CertificateDecision(
            holdings, waiting=f"replacing the authority ({holdings.phase}): waiting for {some(behind, 5)}"
        )
    return _written(site, secret, holdings.advanced(), ("AuthorityReplacing", told))


def _recovered(
    site: SubnetContext, observed: Observed, asked: str, now: datetime, secret: Object | None
) -> CertificateDecision:
    """A new authority where the old one's key is lost: beside the certificate the nodes still trust, if one is found."""
    known = _trusted_by_nodes(site, observed)
    new = Authority.create(_common_name(site), now=now)
    holdings = (
        HeldCertificates(known, None, new, replaced=asked)
        if known
        else HeldCertificates(new.certificate_pem, new, replaced=asked)
    )
    note = ("AuthorityReplacing", "the old authority's key is lost; a new one was made")
    if secret is None:
        return CertificateDecision(holdings, Create(SECRET, _body(site, holdings)), note=note)
    return _written(site, secret, holdings, note)


def _read(site: SubnetContext, secret: Object, observed: Observed) -> HeldCertificates:
    """What the Secret holds. Raises SpecError when it cannot be used."""
    data = decoded(secret)
    current = data.get("ca.crt", b"")
    fingerprints = Bundle.from_pem(current).fingerprints
    following = Authority.load(data["next.crt"], data.get("next.key", b"")) if data.get("next.crt") else None
    issuer = Authority.load(current, data.get("ca.key", b"")) if data.get("ca.key") or following is None else None
    known = _trusted_by_nodes(site, observed)
    marked = annotations_of(secret).get(MARK, "") == fingerprints[0]
    if known and not marked and fingerprints[0] not in Bundle.from_pem(known).fingerprints:
        raise SpecError("holds another authority than the nodes trust")
    previous = data.get("previous.crt", b"")
    if previous:
        Bundle.from_pem(previous)
    return HeldCertificates(current, issuer, following, previous, annotations_of(secret).get(REPLACED, ""))


def _written(
    site: SubnetContext, secret: Object, holdings: HeldCertificates, note: tuple[str, str]
) -> CertificateDecision:
    body = _body(site, holdings)
    gone = {key: None for key in decoded(secret) if key not in body["data"]}
    metadata = {"annotations": body["metadata"]["annotations"], "resourceVersion": meta(secret).get("resourceVersion")}
    patch = Patch(SECRET, site.authority, {"metadata": metadata, "data": {**body["data"], **gone}})
    return CertificateDecision(holdings, patch, note=note)


def _body(site: SubnetContext, holdings: HeldCertificates) -> Object:
    data = {"ca.crt": holdings.current_pem}
    if holdings.issuer is not None:
        data["ca.key"] = holdings.issuer.key_pem
    if holdings.following is not None:
        data |= {"next.crt": holdings.following.certificate_pem, "next.key": holdings.following.key_pem}
    if holdings.previous_pem:
        data["previous.crt"] = holdings.previous_pem
    annotations = {MARK: holdings.fingerprint, REPLACED: holdings.replaced}
    return site.object(
        SECRET, site.authority, type="Opaque", annotations=annotations, data=encoded(data), role="authority"
    )


def _fresh(site: SubnetContext, now: datetime, replaced: str) -> HeldCertificates:
    authority = Authority.create(_common_name(site), now=now)
    return HeldCertificates(authority.certificate_pem, authority, replaced=replaced)


def _common_name(site: SubnetContext) -> str:
    return f"p2pnet {site.namespace}/{site.name}"


def _node_pods(observed: Observed) -> list[Object]:
    return [pod for pod in observed.of(POD).values() if (meta(pod).get("labels") or {}).get(ROLE_LABEL) == "node"]


def _trusted_by_nodes(site: SubnetContext, observed: Observed) -> bytes:
    """Every authority that nodes judge the lab by and that can be read in their Secrets."""
    role, file = ("trust", LAB_BUNDLE_FILE) if site.cert_manager else ("node", BUNDLE_FILE)
    found: dict[bytes, None] = {}
    for secret in observed.of(SECRET).values():
        if (meta(secret).get("labels") or {}).get(ROLE_LABEL) == role:
            found.setdefault(decoded(secret).get(file, b""))
    return leaves.readable_authorities(found)
