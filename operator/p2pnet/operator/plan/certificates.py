"""The Secrets with leaves, one per pod and one of the lab, and the lab's token. Pure but for the keys that are drawn."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from p2pnet.operator import leaves
from p2pnet.operator.api import SECRET, Object, annotations_of
from p2pnet.operator.certificates import Holdings
from p2pnet.operator.encoding import decoded, encoded
from p2pnet.operator.site import FORCE_RENEW, Observed, Placed, Site

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


def issue(site: Site, observed: Observed, holdings: Holdings, now: datetime) -> Issued:
    """Every Secret with leaves: those that may stay stay, missing, foreign and due ones are issued."""
    result = Issued()
    for placed in site.placement:
        wanted = {member: (site.uri(member), site.host(placed.pod)) for member in placed.members}
        _fill(
            site,
            observed.of(SECRET).get(placed.pod),
            holdings,
            now,
            result=result,
            wanted=_Wanted(placed.pod, wanted, placed),
        )
    lab_host = f"{site.lab}.{site.namespace}.svc"
    of_lab = _Wanted(site.lab, {"tls": (site.lab_uri, lab_host)})
    _fill(site, observed.of(SECRET).get(site.lab), holdings, now, result=result, wanted=of_lab)
    return result


def token(site: Site, observed: Observed) -> Object | None:
    """The lab's token, when there is none."""
    if decoded(observed.of(SECRET).get(site.token)).get("token"):
        return None
    data = encoded({"token": secrets.token_hex(TOKEN_BYTES).encode()})
    return site.object(SECRET, site.token, type="Opaque", data=data, role="lab")


@dataclass(frozen=True)
class _Wanted:
    secret: str
    leaves: dict[str, tuple[str, str]]
    """File stem -> (URI, DNS name)."""
    placed: Placed | None = None


def _fill(
    site: Site, existing: Object | None, holdings: Holdings, now: datetime, *, result: Issued, wanted: _Wanted
) -> None:
    forced = site.annotations.get(FORCE_RENEW, "")
    renewed = annotations_of(existing).get(RENEWED, "") if existing else forced
    held = decoded(existing)
    data = {"ca.crt": holdings.bundle.pem}
    for stem, (uri, host) in wanted.leaves.items():
        chain, key = held.get(f"{stem}.crt", b""), held.get(f"{stem}.key", b"")
        found = _acceptable(chain, key, uri, holdings)
        due = found is None or forced not in ("", renewed) or leaves.is_due(found, site.subnet, holdings.not_after, now)
        if due and holdings.issuer is not None:
            ttl = timedelta(seconds=site.subnet.spec.identity.ttl.seconds)
            leaf = holdings.issuer.issue(uri, now=now, ttl=ttl, dns_names=[host])
            chain, key = leaf.chain_pem, leaf.key_pem
            found = leaves.Facts(uri, now, leaf.not_after, leaf.fingerprint)
            result.renewed += 1
        if found is None:
            break  # nobody can issue it now: the pod waits, what stands in its Secret stays
        data |= {f"{stem}.crt": chain, f"{stem}.key": key}
        result.renewals.append(leaves.renew_at(found, site.subnet))
        if wanted.placed is not None:
            result.ends.append(found.not_after)
            result.issued += 1
    else:
        result.complete.add(wanted.secret)
    _keep(site, result, wanted, {**{k: v for k, v in held.items() if k in _names(wanted)}, **data}, forced)


def _acceptable(chain: bytes, key: bytes, uri: str, holdings: Holdings) -> leaves.Facts | None:
    """The facts of a leaf that may stay: of the one that issues (or, when none can, of any that is trusted), for this URI."""
    by = holdings.issuer.certificate_pem if holdings.issuer is not None else holdings.bundle.pem
    found = leaves.facts(chain, key, by) if chain and key else None
    return found if found is not None and found.uri == uri else None


def _names(wanted: _Wanted) -> Iterator[str]:
    for stem in wanted.leaves:
        yield f"{stem}.crt"
        yield f"{stem}.key"


def _keep(site: Site, result: Issued, wanted: _Wanted, data: dict[str, bytes], forced: str) -> None:
    role, group = ("node", wanted.placed.group) if wanted.placed else ("lab", "")
    result.bodies.append(
        site.object(
            SECRET,
            wanted.secret,
            type="Opaque",
            data=encoded(data),
            annotations={RENEWED: forced},
            role=role,
            group=group,
        )
    )
