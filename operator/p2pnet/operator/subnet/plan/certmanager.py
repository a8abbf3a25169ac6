"""Nodes' leaves of a cert-manager Issuer: the Certificates to request, and what has been issued so far. Pure.

There is one Certificate per member, and a Secret for each, created empty beforehand so that it has owners from the start:
cert-manager fills it and renews it in place. Its owners are the Subnet and the Certificate, so that it is deleted when both
are gone: while the Certificate exists, cert-manager would create it again. Issuers and requests are not managed here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType

from cryptography import x509

from p2pnet.model.errors import SpecError
from p2pnet.operator.kube.api import (
    CERTIFICATE,
    POD,
    SECRET,
    VERSION_LABEL,
    Object,
    decoded,
    encoded,
    meta,
    name_of,
    owned_by,
    parse_time,
    uid_of,
)
from p2pnet.operator.kube.desired import Action, Apply, Create, Delete, Patch, up_to_date, with_hash
from p2pnet.operator.subnet.context import ISSUED_FOR, ROLE_LABEL, Observed, PodPlacement, SubnetContext, SubnetProblem
from p2pnet.operator.subnet.plan import leaves
from p2pnet.operator.subnet.plan.leaves import LeafFacts, lagging_renewals
from p2pnet.trust import BUNDLE_FILE, LAB_BUNDLE_FILE, Bundle

ISSUED_WITHIN = timedelta(minutes=1)
"""A Certificate that is not ready for longer makes the Subnet Degraded: an Issuer that works takes seconds."""
ISSUERS_MAX = 6
"""Limit of authorities of the nodes' present leaves; while the Issuer's authority changes there are two."""
TRUSTED_MAX = 12
"""Limit with those of former leaves; the lab trusts them in addition to the subnet's own, and a bundle holds 16."""
USAGES = ["digital signature", "server auth", "client auth"]
CERT, KEY = "tls.crt", "tls.key"


@dataclass
class IssuerLeaves:
    """What cert-manager has issued, as far as nodes can use it."""

    leaves: dict[str, LeafFacts] = field(default_factory=dict)
    """Member -> its leaf."""
    complete: set[str] = field(default_factory=set)
    """Pods whose members all have a leaf that has not expired."""
    authorities: bytes = b""
    """PEM of the authorities peers are checked against: those of the present leaves, and of former ones still in use."""
    problem: SubnetProblem | None = None
    has_trust: bool = False
    """Whether the Secret with the bundles exists."""
    waiting: str = ""
    """What a change of the Issuer's authority waits for."""

    @property
    def expiries(self) -> list[datetime]:
        """Ends of the leaves."""
        return [one.not_after for one in self.leaves.values()]


def read_leaves(context: SubnetContext, observed: Observed, now: datetime) -> IssuerLeaves:
    """Read what cert-manager has issued from every member's Secret."""
    result = IssuerLeaves(problem=observed.issuer_problem, has_trust=context.trust in observed.of(SECRET))
    found: dict[str, bytes] = {}
    for member in (member for placed in context.placements for member in placed.members):
        data = decoded(observed.of(SECRET).get(context.certificate(member)))
        if not (data.get(CERT) and data.get(KEY)):
            overdue = _overdue(observed.of(CERTIFICATE).get(context.certificate(member)), now)
            result.problem = result.problem or overdue
            continue
        examined = _examined(context, member, data)
        if isinstance(examined, LeafFacts):
            result.leaves[member] = examined
            found |= _authorities(data[BUNDLE_FILE])
        else:
            result.problem = result.problem or examined
    if len(found) > ISSUERS_MAX:
        result.problem = result.problem or SubnetProblem(
            "TooManyAuthorities", f"the nodes' leaves come with {len(found)} authorities, at most {ISSUERS_MAX} are trusted",
        )  # fmt: skip
        # The bundle stays as it is: to drop an authority would cut nodes off.
        result.authorities = b"".join(_trusted(context, observed).values())
        return result
    _settle_trust(context, observed, result, found)
    alive = {member for member, leaf in result.leaves.items() if leaf.not_after > now}
    result.complete = {placed.pod for placed in context.placements if alive.issuperset(placed.members)}
    return result


def wanted(context: SubnetContext) -> dict[str, tuple[Object, Object]]:
    """Name -> (Certificate, its empty Secret) of every member."""
    return {
        context.certificate(member): (certificate(context, placed, member), _empty_secret(context, placed, member))
        for placed in context.placements
        for member in placed.members
    }


def certificate(context: SubnetContext, placed: PodPlacement, member: str) -> Object:
    """The Certificate of a member: for exactly its URI, with an EC P-256 key that changes with every renewal."""
    identity = context.subnet.spec.identity
    name = context.certificate(member)
    labels = context.all_labels("node", placed.group)
    labels.pop(VERSION_LABEL, None)  # another image would be an edit of every Certificate, which cert-manager acts on
    spec = {
        "secretName": name,
        "secretTemplate": {"labels": labels, "annotations": {ISSUED_FOR: context.uid}},
        "issuerRef": {
            "name": identity.issuer_ref.name if identity.issuer_ref else "", "kind": "Issuer", "group": CERTIFICATE.group,
        },
        "uris": [context.uri(member)],
        "dnsNames": [context.host(placed.pod)],
        "usages": USAGES,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
        "duration": go_duration(identity.ttl.seconds),
        "renewBefore": go_duration(identity.renew_before_seconds),
        "revisionHistoryLimit": 1,  # else cert-manager keeps every CertificateRequest
    }  # fmt: skip
    return context.object(CERTIFICATE, name, spec=spec, role="node", group=placed.group)


def actions(context: SubnetContext, observed: Observed) -> list[Action]:
    """Create and update Secrets, then Certificates: cert-manager would overwrite a Secret of somebody else with that name."""
    secrets: list[Action] = []
    asked: list[Action] = []
    for name, (body, secret) in wanted(context).items():
        there = observed.of(CERTIFICATE).get(name)
        held = observed.of(SECRET).get(name)
        if held is None:
            secrets.append(Create(SECRET, secret))
        elif owners := _missing_owners(context, held, there):
            metadata = {"ownerReferences": owners, "resourceVersion": meta(held).get("resourceVersion")}
            secrets.append(Patch(SECRET, name, {"metadata": metadata}))
        if not up_to_date(with_hash(body), there):
            asked.append(Apply(CERTIFICATE, with_hash(body)))
    return secrets + asked if observed.issuer_problem is None else []


def orphans(secrets: Iterable[Object]) -> list[Object]:
    """Those of a Subnet that is gone which cert-manager has made anew without owners, for it was issuing just then."""
    return [
        one for one in secrets if ISSUED_FOR in (meta(one).get("annotations") or {}) and not meta(one).get("ownerReferences")
    ]  # fmt: skip


def leftovers(context: SubnetContext, observed: Observed) -> list[Action]:
    """Delete Certificates of former members, and their Secrets once no pod mounts them and no Certificate brings them back."""
    names = wanted(context)
    certificates = observed.of(CERTIFICATE)
    mounted = {name for pod in observed.of(POD).values() for name in mounted_by(pod)}
    gone: list[Action] = [
        Delete(CERTIFICATE, name, uid_of(one), "its member is gone")
        for name, one in certificates.items()
        if name not in names and not meta(one).get("deletionTimestamp")
    ]
    gone += [
        Delete(SECRET, name, uid_of(one), "its pod is gone")
        for name, one in observed.of(SECRET).items()
        if (meta(one).get("labels") or {}).get(ROLE_LABEL) == "node"
        and name not in names.keys() | certificates.keys() | mounted
    ]
    return gone


def trust(context: SubnetContext, from_issuer: IssuerLeaves, own: Bundle) -> Object:
    """The Secret with both bundles: the Issuer's authorities to check peers against, and the subnet's own to check the lab."""
    data = encoded({BUNDLE_FILE: from_issuer.authorities, LAB_BUNDLE_FILE: own.pem})
    return context.object(SECRET, context.trust, type="Opaque", data=data, role="trust")


def volume_sources(context: SubnetContext, placed: PodPlacement) -> list[Object]:
    """The Secrets that a pod's identity folder is projected from, with the same file names as with the builtin issuer."""
    bundles = [{"key": file, "path": file} for file in (BUNDLE_FILE, LAB_BUNDLE_FILE)]
    return [
        {"secret": {"name": context.trust, "items": bundles}},
        *({"secret": {"name": context.certificate(member), "items": [
            {"key": CERT, "path": f"{member}.crt"}, {"key": KEY, "path": f"{member}.key"},
        ]}} for member in placed.members),
    ]  # fmt: skip


def mounted_by(pod: Object) -> list[str]:
    """Names of the Secrets that a pod mounts as a projected volume."""
    volumes = (pod.get("spec") or {}).get("volumes") or []
    sources = [source for volume in volumes for source in (volume.get("projected") or {}).get("sources") or []]
    return [source["secret"]["name"] for source in sources if "secret" in source]


def go_duration(seconds: float) -> str:
    """A duration as Go prints it, so that the API server keeps what was sent: 90 minutes are `1h30m0s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}h{minutes % 60}m{rest}s"


def _empty_secret(context: SubnetContext, placed: PodPlacement, member: str) -> Object:
    body = context.object(
        SECRET, context.certificate(member), type="kubernetes.io/tls", data={CERT: "", KEY: ""},
        annotations={ISSUED_FOR: context.uid}, role="node", group=placed.group,
    )  # fmt: skip
    body["metadata"]["ownerReferences"] = [_not_controller(context.owner)]
    return body


def _not_controller(owner: Object) -> Object:
    """An owner that is not the controller: a cert-manager that owns its Secrets makes its Certificate the controller."""
    return {**owner, "controller": False, "blockOwnerDeletion": False}


def _missing_owners(context: SubnetContext, secret: Object, there: Object | None) -> list[Object]:
    """All owners the Secret should have if one of them is missing, else nothing."""
    owners = list(meta(secret).get("ownerReferences") or [])
    add = [] if owned_by(secret, context.uid) else [_not_controller(context.owner)]
    if there is not None and not owned_by(secret, uid_of(there)):
        # The Certificate was created anew: the reference to its predecessor is void.
        owners = [one for one in owners if one.get("kind") != CERTIFICATE.kind]
        add.append(
            _not_controller({
                "apiVersion": CERTIFICATE.api, "kind": CERTIFICATE.kind, "name": name_of(there), "uid": uid_of(there),
            })
        )  # fmt: skip
    return owners + add if add else []


def _examined(context: SubnetContext, member: str, data: Mapping[str, bytes]) -> LeafFacts | SubnetProblem:
    """The leaf in a member's Secret, or why no node can use it."""
    secret, issuer = context.certificate(member), context.subnet.spec.identity.issuer_ref
    if not _authorities(data.get(BUNDLE_FILE, b"")):
        return SubnetProblem(
            "IssuerWithoutAuthority",
            f"Secret {secret}: Issuer {issuer.name if issuer else ''} gives no ca.crt with an authority to check peers"
            " against; Issuers of kind ca and vault do, acme and selfSigned do not",
        )
    found = leaves.examined(data[CERT], data[KEY], data[BUNDLE_FILE])
    if isinstance(found, str):
        return SubnetProblem("LeafUnfit", f"Secret {secret}: {found}")
    if found.uri != context.uri(member):
        return SubnetProblem("LeafUnfit", f"Secret {secret}: is for {found.uri} instead of {context.uri(member)}")
    return found


@lru_cache(maxsize=64)  # all Secrets of a subnet hold the same one or two texts
def _authorities(pem: bytes) -> Mapping[str, bytes]:
    """Fingerprint -> PEM of the authorities in a PEM text; a self-signed leaf is none."""
    try:
        bundle = Bundle.from_pem(pem)
    except SpecError:
        return MappingProxyType({})
    found = {
        fingerprint: Bundle([one]).pem
        for fingerprint, one in zip(bundle.fingerprints, bundle.authorities, strict=True)
        if _is_authority(one)
    }
    return MappingProxyType(found)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _settle_trust(context: SubnetContext, observed: Observed, result: IssuerLeaves, found: dict[str, bytes]) -> None:
    """Set the bundle for peers: an authority of former leaves stays in it until every running node uses its present leaf."""
    former = {one: pem for one, pem in _trusted(context, observed).items() if one not in found}
    behind = lagging_renewals(context, observed, result.leaves) if former else []
    missing = len(result.leaves) < len(context.members)
    if former and (behind or missing):
        result.waiting = "the Issuer's authority changes: waiting for new leaves" + (
            f" of {behind[0]}" if behind else ""
        )
        found = {**dict(list(former.items())[: TRUSTED_MAX - len(found)]), **found}
    # Sorted: the same set gives the same text, and the Secret is not written again.
    result.authorities = b"".join(found[one] for one in sorted(found))


def _trusted(context: SubnetContext, observed: Observed) -> Mapping[str, bytes]:
    """The authorities that nodes check peers against now, by fingerprint."""
    return _authorities(decoded(observed.of(SECRET).get(context.trust)).get(BUNDLE_FILE, b""))


def _overdue(there: Object | None, now: datetime) -> SubnetProblem | None:
    """Why a Certificate has not been issued for longer than ISSUED_WITHIN."""
    if there is None:
        return None
    conditions = {one.get("type"): one for one in (there.get("status") or {}).get("conditions") or []}
    ready = conditions.get("Ready") or {}
    failed = (conditions.get("Issuing") or {}).get("status") == "False"
    last = conditions["Issuing"] if failed else ready
    since = parse_time(ready.get("lastTransitionTime") or meta(there).get("creationTimestamp"))
    if since is None or now - since < ISSUED_WITHIN:
        return None
    said = f"{last.get('message') or last.get('reason')}" if last else "cert-manager says nothing: does it run?"
    issuer = ((there.get("spec") or {}).get("issuerRef") or {}).get("name")
    return SubnetProblem(
        "CertificateNotIssued",
        f"Certificate {name_of(there)}: not issued for {ISSUED_WITHIN.total_seconds():.0f} s: {said}; is there an Issuer"
        f" {issuer} in this namespace, and ready? kubectl describe issuer,certificaterequest tells",
    )
