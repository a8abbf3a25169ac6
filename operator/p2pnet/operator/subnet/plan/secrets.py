"""The Secrets of pods: leaves of the subnet's own authority, and the lab's token. Pure but for the keys that are generated.

With `issuer: certManager` the nodes' leaves come from `certmanager`, and the lab's leaf is the only one issued here.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from p2pnet.operator.kube.api import SECRET, Object, annotations_of, decoded, encoded
from p2pnet.operator.subnet.annotations import FORCE_RENEW, asked_by
from p2pnet.operator.subnet.context import Observed, PodPlacement, SubnetContext
from p2pnet.operator.subnet.plan import certmanager, leaves
from p2pnet.operator.subnet.plan.authority import HeldCertificates
from p2pnet.operator.subnet.plan.certmanager import IssuerLeaves

TOKEN_BYTES = 32
RENEWED = "p2pnet.io/renewed"
"""Annotation of a Secret with leaves: the value of `force-renew` they were last renewed for."""


@dataclass
class IssuedSecrets:
    """The desired Secrets with leaves, and what is known of the leaves."""

    bodies: list[Object] = field(default_factory=list)
    complete: set[str] = field(default_factory=set)
    """Pods all of whose leaves exist: they may be created."""
    expiries: list[datetime] = field(default_factory=list)
    """Ends of the nodes' leaves, once the bodies are written."""
    stored: list[datetime] = field(default_factory=list)
    """Ends of the nodes' leaves as they are in their Secrets, those that are to be renewed, too."""
    renewals: list[datetime] = field(default_factory=list)
    """When leaves are due to be renewed."""
    renewed: int = 0
    """Leaves issued just now."""
    issued: int = 0
    """Nodes that have a leaf."""


@dataclass(frozen=True)
class _LeafSecret:
    """A Secret with leaves, as it should be: of a node pod (`placed`) or the lab."""

    name: str
    leaves: dict[str, tuple[str, str]]
    """File stem -> (URI, DNS name)."""
    placed: PodPlacement | None = None
    also_trusted: bytes = b""
    """PEM of authorities besides the subnet's own."""

    @property
    def files(self) -> set[str]:
        """Keys of the Secret with certificates and private keys."""
        return {f"{stem}.{suffix}" for stem in self.leaves for suffix in ("crt", "key")}


def issue(
    context: SubnetContext, observed: Observed, held: HeldCertificates, now: datetime, from_issuer: IssuerLeaves | None = None
) -> IssuedSecrets:  # fmt: skip
    """The Secrets with leaves of the subnet's own authority: leaves that may stay are kept, the others issued anew."""
    result = IssuedSecrets() if from_issuer is None else _from_issuer(context, from_issuer, held)
    wanted = [] if from_issuer is not None else [_node_secret(context, placed) for placed in context.placements]
    wanted.append(_lab_secret(context, from_issuer.authorities if from_issuer else b""))
    for secret in wanted:
        _add(context, observed.of(SECRET).get(secret.name), held, now, secret=secret, result=result)
    if from_issuer is not None and not from_issuer.authorities:
        # A lab that started now would get the Issuer's authorities only when its kubelet updates the mounted files.
        result.complete.discard(context.lab)
    return result


def keep(
    context: SubnetContext, observed: Observed, now: datetime, from_issuer: IssuerLeaves | None = None
) -> IssuedSecrets:
    """What there is while no authority can issue: pods whose leaves are valid may be created again; nothing is written."""
    result = IssuedSecrets() if from_issuer is None else _from_issuer(context, from_issuer, None)
    wanted = [] if from_issuer is not None else [_node_secret(context, placed) for placed in context.placements]
    for secret in (*wanted, _lab_secret(context)):
        stored = decoded(observed.of(SECRET).get(secret.name))
        valid = [
            leaf for stem, (uri, _) in secret.leaves.items()
            if (leaf := _leaf(stored, stem, stored.get("ca.crt", b""))) is not None and leaf.uri == uri
        ]  # fmt: skip
        if secret.placed is not None:
            result.issued += len(valid)
            result.expiries += [leaf.not_after for leaf in valid]
            result.stored += [leaf.not_after for leaf in valid]
        if len(valid) == len(secret.leaves) and all(leaf.not_after > now for leaf in valid):
            result.complete.add(secret.name)
    return result


def token(context: SubnetContext, observed: Observed) -> Object | None:
    """The Secret with a new token for the lab, when there is none."""
    if decoded(observed.of(SECRET).get(context.token)).get("token"):
        return None
    data = encoded({"token": secrets.token_hex(TOKEN_BYTES).encode()})
    return context.object(SECRET, context.token, type="Opaque", data=data, role="lab")


def _from_issuer(context: SubnetContext, from_issuer: IssuerLeaves, held: HeldCertificates | None) -> IssuedSecrets:
    """The nodes' leaves of cert-manager. Pods may start once the Secret with both bundles is there or planned, too."""
    result = IssuedSecrets(expiries=from_issuer.expiries, stored=from_issuer.expiries, issued=len(from_issuer.leaves))
    if held is not None and from_issuer.authorities:
        result.bodies = [certmanager.trust(context, from_issuer, held.bundle)]
    if result.bodies or from_issuer.has_trust:
        result.complete = set(from_issuer.complete)
    return result


def _node_secret(context: SubnetContext, placed: PodPlacement) -> _LeafSecret:
    wanted = {member: (context.uri(member), context.host(placed.pod)) for member in placed.members}
    return _LeafSecret(placed.pod, wanted, placed)


def _lab_secret(context: SubnetContext, also_trusted: bytes = b"") -> _LeafSecret:
    host = f"{context.lab}.{context.namespace}.svc"
    return _LeafSecret(context.lab, {"tls": (context.lab_uri, host)}, also_trusted=also_trusted)


def _add(
    context: SubnetContext, existing: Object | None, held: HeldCertificates, now: datetime,
    *, secret: _LeafSecret, result: IssuedSecrets,
) -> None:  # fmt: skip
    """Add one Secret to the result: its leaves as they are stored, or new ones where they are due."""
    forced = asked_by(context.annotations, FORCE_RENEW)
    renewed = annotations_of(existing).get(RENEWED, "") if existing else forced
    stored = decoded(existing)
    data = {"ca.crt": held.bundle.pem + secret.also_trusted}
    for stem, (uri, host) in secret.leaves.items():
        chain, key = stored.get(f"{stem}.crt", b""), stored.get(f"{stem}.key", b"")
        found = _acceptable(stored, stem, uri, held)
        before = found or _leaf(stored, stem, held.bundle.pem)
        if before is not None and secret.placed is not None:
            result.stored.append(before.not_after)
        due = found is None or forced not in ("", renewed) or leaves.is_due(found, context.subnet, held.not_after, now)
        if due and held.issuer is not None:
            ttl = timedelta(seconds=context.subnet.spec.identity.ttl.seconds)
            leaf = held.issuer.issue(uri, now=now, ttl=ttl, dns_names=[host])
            chain, key = leaf.chain_pem, leaf.key_pem
            found = leaves.LeafFacts(uri, now, leaf.not_after, leaf.fingerprint)
            result.renewed += 1
        if found is None:
            break  # it cannot be issued now: the pod waits, and what is in its Secret stays
        data |= {f"{stem}.crt": chain, f"{stem}.key": key}
        result.renewals.append(leaves.renew_at(found, context.subnet))
        if secret.placed is not None:
            result.expiries.append(found.not_after)
            result.issued += 1
    else:
        result.complete.add(secret.name)
    kept = {name: value for name, value in stored.items() if name in secret.files}
    result.bodies.append(_body(context, secret, {**kept, **data}, forced))


def _acceptable(stored: dict[str, bytes], stem: str, uri: str, held: HeldCertificates) -> leaves.LeafFacts | None:
    """The leaf that is stored, if it may stay: of the authority that issues (when none can, of any trusted one), for this URI."""
    by = held.issuer.certificate_pem if held.issuer is not None else held.bundle.pem
    found = _leaf(stored, stem, by)
    return found if found is not None and found.uri == uri else None


def _leaf(stored: dict[str, bytes], stem: str, issuer_pem: bytes) -> leaves.LeafFacts | None:
    chain, key = stored.get(f"{stem}.crt", b""), stored.get(f"{stem}.key", b"")
    return leaves.facts(chain, key, issuer_pem) if chain and key else None


def _body(context: SubnetContext, secret: _LeafSecret, data: dict[str, bytes], forced: str) -> Object:
    role, group = ("node", secret.placed.group) if secret.placed else ("lab", "")
    return context.object(
        SECRET, secret.name, type="Opaque", data=encoded(data), annotations={RENEWED: forced}, role=role, group=group
    )
