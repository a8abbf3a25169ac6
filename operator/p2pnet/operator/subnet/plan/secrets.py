"""The Secrets with leaves of the subnet's own authority, per pod and of the lab, and the lab's token.

Pure but for the keys that are drawn.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from p2pnet.operator.kube.api import SECRET, Object, annotations_of, decoded, encoded
from p2pnet.operator.subnet.context import FORCE_RENEW, Observed, PodPlacement, SubnetContext
from p2pnet.operator.subnet.plan import certmanager, leaves
from p2pnet.operator.subnet.plan.authority import HeldCertificates
from p2pnet.operator.subnet.plan.certmanager import IssuerLeaves

TOKEN_BYTES = 32
RENEWED = "p2pnet.io/renewed"
"""Annotation of a Secret with leaves: the value of `force-renew` that has been obeyed."""


@dataclass
class Issued:
    """Secrets as they should be, the pods whose leaves are all there, and how long the leaves last."""

    bodies: list[Object] = field(default_factory=list)
    complete: set[str] = field(default_factory=set)
    ends: list[datetime] = field(default_factory=list)
    renewals: list[datetime] = field(default_factory=list)
    renewed: int = 0
    issued: int = 0
    """Leaves that are there, of nodes alone."""


def issue(
    context: SubnetContext,
    observed: Observed,
    held: HeldCertificates,
    now: datetime,
    from_issuer: IssuerLeaves | None = None,
) -> Issued:
    """Every Secret with leaves of the subnet's own authority: those that may stay stay, the others are issued.

    With leaves that cert-manager has issued (`gathered`), the lab's leaf is the only one of our own.
    """
    result = Issued() if from_issuer is None else of_cert_manager(context, from_issuer, held)
    for placed in context.placements if from_issuer is None else []:
        wanted = {member: (context.uri(member), context.host(placed.pod)) for member in placed.members}
        _fill(
            context,
            observed.of(SECRET).get(placed.pod),
            held,
            now,
            result=result,
            wanted=_Wanted(placed.pod, wanted, placed),
        )
    lab_host = f"{context.lab}.{context.namespace}.svc"
    beside = from_issuer.authorities if from_issuer else b""
    of_lab = _Wanted(context.lab, {"tls": (context.lab_uri, lab_host)}, beside=beside)
    _fill(context, observed.of(SECRET).get(context.lab), held, now, result=result, wanted=of_lab)
    if from_issuer is not None and not from_issuer.authorities:
        result.complete.discard(context.lab)  # a lab that starts before would wait for its kubelet to bring them
    return result


def of_cert_manager(context: SubnetContext, from_issuer: IssuerLeaves, held: HeldCertificates | None) -> Issued:
    """What cert-manager has issued. Nodes start once they know whom to believe as the lab, too."""
    result = Issued(ends=from_issuer.ends, issued=len(from_issuer.held))
    if held is not None and from_issuer.authorities:
        result.bodies = [certmanager.trust(context, from_issuer, held.bundle)]
    if result.bodies or from_issuer.trusting:
        result.complete = set(from_issuer.complete)
    return result


def standing(
    context: SubnetContext, observed: Observed, now: datetime, from_issuer: IssuerLeaves | None = None
) -> Issued:
    """What there is while nobody can issue: pods whose leaves still hold may come back, and nothing is written."""
    result = Issued() if from_issuer is None else of_cert_manager(context, from_issuer, None)
    places = [
        (placed.pod, {member: context.uri(member) for member in placed.members})
        for placed in (context.placements if from_issuer is None else [])
    ]
    for pod, wanted in [*places, (context.lab, {"tls": context.lab_uri})]:
        stored = decoded(observed.of(SECRET).get(pod))
        found = [leaves.facts(stored.get(f"{stem}.crt", b""), stored.get(f"{stem}.key", b""), stored.get("ca.crt", b""))
                 for stem in wanted]  # fmt: skip
        good = [leaf for leaf, uri in zip(found, wanted.values(), strict=True) if leaf and leaf.uri == uri]
        if pod != context.lab:
            result.issued += len(good)
            result.ends += [leaf.not_after for leaf in good]
        if len(good) == len(wanted) and all(leaf.not_after > now for leaf in good):
            result.complete.add(pod)
    return result


def token(context: SubnetContext, observed: Observed) -> Object | None:
    """The lab's token, when there is none."""
    if decoded(observed.of(SECRET).get(context.token)).get("token"):
        return None
    data = encoded({"token": secrets.token_hex(TOKEN_BYTES).encode()})
    return context.object(SECRET, context.token, type="Opaque", data=data, role="lab")


@dataclass(frozen=True)
class _Wanted:
    secret: str
    leaves: dict[str, tuple[str, str]]
    """File stem -> (URI, DNS name)."""
    placed: PodPlacement | None = None
    beside: bytes = b""
    """Other authorities whose leaves are met."""


def _fill(
    context: SubnetContext,
    existing: Object | None,
    held: HeldCertificates,
    now: datetime,
    *,
    result: Issued,
    wanted: _Wanted,
) -> None:
    forced = context.annotations.get(FORCE_RENEW, "")
    renewed = annotations_of(existing).get(RENEWED, "") if existing else forced
    stored = decoded(existing)
    data = {"ca.crt": held.bundle.pem + wanted.beside}
    for stem, (uri, host) in wanted.leaves.items():
        chain, key = stored.get(f"{stem}.crt", b""), stored.get(f"{stem}.key", b"")
        found = _acceptable(chain, key, uri, held)
        due = found is None or forced not in ("", renewed) or leaves.is_due(found, context.subnet, held.not_after, now)
        if due and held.issuer is not None:
            ttl = timedelta(seconds=context.subnet.spec.identity.ttl.seconds)
            leaf = held.issuer.issue(uri, now=now, ttl=ttl, dns_names=[host])
            chain, key = leaf.chain_pem, leaf.key_pem
            found = leaves.LeafFacts(uri, now, leaf.not_after, leaf.fingerprint)
            result.renewed += 1
        if found is None:
            break  # nobody can issue it now: the pod waits, what stands in its Secret stays
        data |= {f"{stem}.crt": chain, f"{stem}.key": key}
        result.renewals.append(leaves.renew_at(found, context.subnet))
        if wanted.placed is not None:
            result.ends.append(found.not_after)
            result.issued += 1
    else:
        result.complete.add(wanted.secret)
    _keep(context, result, wanted, {**{k: v for k, v in stored.items() if k in _names(wanted)}, **data}, forced)


def _acceptable(chain: bytes, key: bytes, uri: str, held: HeldCertificates) -> leaves.LeafFacts | None:
    """The facts of a leaf that may stay: of the one that issues (or, when none can, of any that is trusted), for this URI."""
    by = held.issuer.certificate_pem if held.issuer is not None else held.bundle.pem
    found = leaves.facts(chain, key, by) if chain and key else None
    return found if found is not None and found.uri == uri else None


def _names(wanted: _Wanted) -> Iterator[str]:
    for stem in wanted.leaves:
        yield f"{stem}.crt"
        yield f"{stem}.key"


def _keep(context: SubnetContext, result: Issued, wanted: _Wanted, data: dict[str, bytes], forced: str) -> None:
    role, group = ("node", wanted.placed.group) if wanted.placed else ("lab", "")
    result.bodies.append(
        context.object(
            SECRET,
            wanted.secret,
            type="Opaque",
            data=encoded(data),
            annotations={RENEWED: forced},
            role=role,
            group=group,
        )
    )
