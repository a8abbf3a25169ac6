"""The subnet's own authority, and its replacement in three phases during which all nodes stay connected. Pure.

The authority is in the Secret `<subnet>-ca`, which is never mounted. What that Secret holds is the phase of a replacement,
so that an operator that was killed goes on where it was. Each step is one write, refused when the Secret was written since:

    Steady    ca.crt ca.key                      one authority, it issues, it is the bundle
    Trusting  ca.crt ca.key next.crt next.key    the old one issues, the bundle holds both
    Issuing   ca.crt ca.key previous.crt         the new one issues, the bundle holds both

Trusting ends when every running node and the lab report both authorities; Issuing when all use a leaf of the new one.
With `issuer: certManager` this authority issues the lab's leaf alone, and nodes use it only to check the lab.

An authority that
- expires within 30 days, or is to be replaced (annotation `force-replace`), goes through these phases;
- has expired is replaced at once, for nobody trusts it any more;
- was deleted, is damaged, or is not the one the nodes trust, while node pods exist: nothing is issued, and Degraded says so;
  a pod that is lost comes back while the leaves in its Secret are valid. Remedy: restore the Secret with its metadata, or set
  `force-replace`; then a new authority is distributed beside the old certificate found in the nodes' Secrets.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from p2pnet.model.errors import SpecError
from p2pnet.model.text import some
from p2pnet.operator.kube.api import POD, SECRET, Object, annotations_of, decoded, encoded, meta
from p2pnet.operator.kube.desired import Action, Create, Patch
from p2pnet.operator.subnet.annotations import FORCE_REPLACE, asked_by
from p2pnet.operator.subnet.context import ROLE_LABEL, Observed, SubnetContext, SubnetProblem
from p2pnet.operator.subnet.plan import leaves
from p2pnet.operator.subnet.plan.leaves import lagging_leaves, lagging_trust
from p2pnet.trust import BUNDLE_FILE, LAB_BUNDLE_FILE, Authority, Bundle

MARK = "p2pnet.io/authority"
"""Annotation of the authority's Secret: fingerprint of `ca.crt` as written by the operator."""
REPLACED = "p2pnet.io/replaced"
"""Annotation of the authority's Secret: the value of `force-replace` it was last replaced for."""
REPLACE_BEFORE = timedelta(days=30)
DIGITS_MAX = 18  # of an annotation's value that is counted on


class RotationPhase(StrEnum):
    """The phase of a replacement."""

    STEADY = "Steady"
    TRUSTING = "Trusting"
    ISSUING = "Issuing"


NEXT = {
    RotationPhase.STEADY: RotationPhase.TRUSTING,
    RotationPhase.TRUSTING: RotationPhase.ISSUING,
    RotationPhase.ISSUING: RotationPhase.STEADY,
}
"""The only order of phases."""


@dataclass(frozen=True)
class HeldCertificates:
    """What the authority's Secret holds. `issuer` is None while the key is lost and the next authority is not trusted yet."""

    current_pem: bytes
    issuer: Authority | None
    following: Authority | None = None
    previous_pem: bytes = b""
    replaced: str = ""

    @property
    def phase(self) -> RotationPhase:
        """The phase, which follows from what is there."""
        if self.following is not None:
            return RotationPhase.TRUSTING
        return RotationPhase.ISSUING if self.previous_pem else RotationPhase.STEADY

    @cached_property
    def bundle(self) -> Bundle:
        """All authorities that nodes should trust now, the issuer first."""
        following = self.following.certificate_pem if self.following else b""
        return Bundle.from_pem(self.current_pem + following + self.previous_pem)

    @cached_property
    def not_after(self) -> datetime:
        """When the current authority expires."""
        return min(one.not_valid_after_utc for one in Bundle.from_pem(self.current_pem).authorities)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 fingerprint of the authority in `ca.crt`."""
        return Bundle.from_pem(self.current_pem).fingerprints[0]

    def advanced(self, new: Authority | None = None) -> "HeldCertificates":
        """The content of the Secret in the next phase; `new` is the authority that a replacement begins with."""
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
    """The authority to issue with, the one write that must come first, and what status and events say."""

    held: HeldCertificates | None
    write: Action | None = None
    problem: SubnetProblem | None = None
    waiting: str = ""
    """What the next phase of a replacement waits for."""
    note: tuple[str, str] | None = None
    """Reason and message of an event."""


def decide(context: SubnetContext, observed: Observed, now: datetime) -> CertificateDecision:
    """What to do about the authority now: at most one step of a replacement."""
    secret = observed.of(SECRET).get(context.authority)
    asked = asked_by(context.annotations, FORCE_REPLACE)
    if secret is None:
        return _without_secret(context, observed, asked, now)
    handled = annotations_of(secret).get(REPLACED, "")
    try:
        held = _read(context, secret, observed)
    except SpecError as error:
        if asked in ("", handled):
            damage = f"Secret {context.authority}: {error}; {_remedies(context, handled)}"
            return CertificateDecision(None, problem=SubnetProblem("AuthorityDamaged", damage))
        return _recovered(context, observed, asked, now, secret)
    if held.not_after <= now:
        return _written(
            context, secret, _fresh(context, now, handled), ("AuthorityReplaced", "the authority had ended")
        )
    return _step(context, observed, secret, held, now)


def _without_secret(context: SubnetContext, observed: Observed, asked: str, now: datetime) -> CertificateDecision:
    if not _node_pods(observed):
        held = _fresh(context, now, asked)  # no node trusts an authority yet
        return CertificateDecision(held, Create(SECRET, _body(context, held)))
    handled = str((observed.status.get("authority") or {}).get("replaced", ""))
    if asked not in ("", handled):
        return _recovered(context, observed, asked, now, None)
    loss = f"Secret {context.authority} is gone while nodes trust it; {_remedies(context, handled)}"
    return CertificateDecision(None, problem=SubnetProblem("AuthorityLost", loss))


def _remedies(context: SubnetContext, handled: str) -> str:
    """What a person may do. `handled` is the value of the annotation that was obeyed last: the same again would do nothing."""
    # A value may be as long as an annotation, and int() refuses what is far shorter than that.
    counted = handled.isdecimal() and len(handled) <= DIGITS_MAX
    value = int(handled) + 1 if counted else 1
    return (
        "restore it from a backup with its annotations, or have a new authority take its place while nodes stay connected:"
        f" kubectl annotate --overwrite subnet {context.name} -n {context.namespace} {FORCE_REPLACE}={value}"
    )


def _step(
    context: SubnetContext, observed: Observed, secret: Object, held: HeldCertificates, now: datetime
) -> CertificateDecision:
    match held.phase:
        case RotationPhase.STEADY:
            asked = asked_by(context.annotations, FORCE_REPLACE)
            if asked in ("", held.replaced) and held.not_after - now > REPLACE_BEFORE:
                return CertificateDecision(held)
            begun = replace(held, replaced=asked or held.replaced).advanced(
                Authority.create(_common_name(context), now=now)
            )
            return _written(context, secret, begun, ("AuthorityReplacing", "nodes learn of the new authority"))
        case RotationPhase.TRUSTING:
            behind = lagging_trust(context, observed, held.bundle)
            done = ("AuthorityReplacing", "all trust the new authority")
        case RotationPhase.ISSUING:
            behind = lagging_leaves(context, observed, held.current_pem)
            done = ("AuthorityReplaced", "all show leaves of the new authority; nobody trusts the old one any more")
    if behind:
        return CertificateDecision(
            held, waiting=f"replacing the authority ({held.phase}): waiting for {some(behind, 5)}"
        )
    return _written(context, secret, held.advanced(), done)


def _recovered(
    context: SubnetContext, observed: Observed, asked: str, now: datetime, secret: Object | None
) -> CertificateDecision:
    """A new authority in place of one whose key is lost, beside the certificate that nodes still trust, if one is found."""
    known = _trusted_by_nodes(context, observed)
    new = Authority.create(_common_name(context), now=now)
    held = (
        HeldCertificates(known, None, new, replaced=asked)
        if known
        else HeldCertificates(new.certificate_pem, new, replaced=asked)
    )
    note = ("AuthorityReplacing", "the old authority's key is lost; a new one was made")
    if secret is None:
        return CertificateDecision(held, Create(SECRET, _body(context, held)), note=note)
    return _written(context, secret, held, note)


def _read(context: SubnetContext, secret: Object, observed: Observed) -> HeldCertificates:
    """What the Secret holds. Raises SpecError when it cannot be used."""
    data = decoded(secret)
    current = data.get("ca.crt", b"")
    fingerprints = Bundle.from_pem(current).fingerprints
    following = Authority.load(data["next.crt"], data.get("next.key", b"")) if data.get("next.crt") else None
    issuer = Authority.load(current, data.get("ca.key", b"")) if data.get("ca.key") or following is None else None
    known = _trusted_by_nodes(context, observed)
    # A Secret somebody restored from elsewhere carries no mark of ours: then it must match what nodes trust.
    marked = annotations_of(secret).get(MARK, "") == fingerprints[0]
    if known and not marked and fingerprints[0] not in Bundle.from_pem(known).fingerprints:
        raise SpecError("holds another authority than the nodes trust")
    previous = data.get("previous.crt", b"")
    if previous:
        Bundle.from_pem(previous)
    return HeldCertificates(current, issuer, following, previous, annotations_of(secret).get(REPLACED, ""))


def _written(
    context: SubnetContext, secret: Object, held: HeldCertificates, note: tuple[str, str]
) -> CertificateDecision:
    body = _body(context, held)
    gone = {key: None for key in decoded(secret) if key not in body["data"]}  # in a merge patch null removes a key
    metadata = {"annotations": body["metadata"]["annotations"], "resourceVersion": meta(secret).get("resourceVersion")}
    patch = Patch(SECRET, context.authority, {"metadata": metadata, "data": {**body["data"], **gone}})
    return CertificateDecision(held, patch, note=note)


def _body(context: SubnetContext, held: HeldCertificates) -> Object:
    data = {"ca.crt": held.current_pem}
    if held.issuer is not None:
        data["ca.key"] = held.issuer.key_pem
    if held.following is not None:
        data |= {"next.crt": held.following.certificate_pem, "next.key": held.following.key_pem}
    if held.previous_pem:
        data["previous.crt"] = held.previous_pem
    annotations = {MARK: held.fingerprint, REPLACED: held.replaced}
    return context.object(
        SECRET, context.authority, type="Opaque", annotations=annotations, data=encoded(data), role="authority"
    )


def _fresh(context: SubnetContext, now: datetime, replaced: str) -> HeldCertificates:
    authority = Authority.create(_common_name(context), now=now)
    return HeldCertificates(authority.certificate_pem, authority, replaced=replaced)


def _common_name(context: SubnetContext) -> str:
    return f"p2pnet {context.namespace}/{context.name}"


def _node_pods(observed: Observed) -> list[Object]:
    return [pod for pod in observed.of(POD).values() if (meta(pod).get("labels") or {}).get(ROLE_LABEL) == "node"]


def _trusted_by_nodes(context: SubnetContext, observed: Observed) -> bytes:
    """PEM of the authorities in the nodes' Secrets against which they check the lab."""
    role, file = ("trust", LAB_BUNDLE_FILE) if context.cert_manager else ("node", BUNDLE_FILE)
    found: dict[bytes, None] = {}
    for secret in observed.of(SECRET).values():
        if (meta(secret).get("labels") or {}).get(ROLE_LABEL) == role:
            found.setdefault(decoded(secret).get(file, b""))
    return leaves.readable_authorities(found)
