"""The trust bundle, and `verify`: whom a certificate chain identifies, if the bundle vouches for it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from p2pnet.model.errors import SpecError, TrustError

BUNDLE_AUTHORITIES_MAX = 16  # during a rotation it holds two; several handovers in a row never need more
CHAIN_CERTIFICATES_MAX = 5  # leaf and intermediates of one peer
CHAIN_BYTES_MAX = 32 * 1024  # DER of one peer's chain; ours are about 600 bytes
VERIFIED_MAX = 1_024  # chains a bundle remembers, about 500 bytes each: twice the nodes of the largest subnet
_INTERMEDIATES_MAX = 3  # between leaf and authority
_NOTHING: Mapping[str, "Bundle"] = MappingProxyType({})

_USAGES = {ExtendedKeyUsageOID.CLIENT_AUTH: "client", ExtendedKeyUsageOID.SERVER_AUTH: "server"}
PARSING_FAILS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # for damage that is not refused yet; raised where warnings are errors
)
"""What reading a damaged or unusual certificate may raise."""


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """Whom a verified chain identifies: its one URI, the end of validity of the whole chain, the leaf's SHA-256 in hex.

    The fingerprint names the bytes that were shown, not the peer: a signature can be encoded in more than one way.
    """

    uri: str
    not_after: datetime
    fingerprint: str


class Bundle:
    """One or several authorities, all trusted alike: during a rotation the old and the new.

    It remembers the chains it verified: peers dial again far more often than they get a new leaf.
    """

    def __init__(self, authorities: Sequence[x509.Certificate]) -> None:
        if not 1 <= len(authorities) <= BUNDLE_AUTHORITIES_MAX:
            raise SpecError(f"a trust bundle holds 1 to {BUNDLE_AUTHORITIES_MAX} authorities, not {len(authorities)}")
        unique = {one.fingerprint(hashes.SHA256()).hex(): one for one in authorities}
        self.authorities = tuple(unique.values())
        self.fingerprints = tuple(unique)
        """SHA-256 of each authority's DER, in hex, in order."""
        self.store = Store(list(self.authorities))
        self._verified: dict[bytes, tuple[VerifiedPeer, datetime]] = {}
        """By digest of the chain: who it is, and from when it is valid."""

    @classmethod
    def from_pem(cls, pem: bytes) -> "Bundle":
        """The authorities in a PEM text (a `ca.crt`). Raises SpecError for damage, or when there is none."""
        try:
            return cls(x509.load_pem_x509_certificates(pem))
        except PARSING_FAILS as error:
            raise SpecError(f"not a trust bundle: {error}") from error

    @cached_property
    def pem(self) -> bytes:
        """The bundle as a PEM text."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.authorities)

    @property
    def remembered(self) -> int:
        """How many chains it remembers to vouch for, at most VERIFIED_MAX."""
        return len(self._verified)

    def recall(self, digest: bytes, now: datetime) -> VerifiedPeer | None:
        """Whom the chain with this digest identifies, if it was verified before and is valid at `now`; else None."""
        peer, starts = self._verified.get(digest, (None, now))
        return peer if peer is not None and starts < now < peer.not_after else None

    def remember(self, digest: bytes, peer: VerifiedPeer, starts: datetime) -> None:
        """The chain was verified: all of it is valid from `starts` until the peer's `not_after`."""
        while len(self._verified) >= VERIFIED_MAX:  # the oldest goes: dicts keep their order
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = (peer, starts)


def verify(
    chain_der: Sequence[bytes], bundle: Bundle, *, now: datetime, reserved: Mapping[str, Bundle] = _NOTHING
) -> VerifiedPeer:
    """Whom this chain (leaf first) identifies, if the bundle vouches for it at `now` (aware). Raises TrustError for all else.

    The leaf must carry both extended key usages and exactly one URI. A URI in `reserved` is vouched for by the bundle
    named there, and by that one alone. The x509 *client* verifier serves in both directions: peers are known by
    their URI, which the server verifier does not look at.

    A chain that the same bundle has verified is not verified again while all of it is valid: only time could change the
    answer.
    """
    if not chain_der:
        raise TrustError("no-certificate", "the peer showed no certificate")
    if len(chain_der) > CHAIN_CERTIFICATES_MAX or sum(map(len, chain_der)) > CHAIN_BYTES_MAX:
        raise TrustError(
            "malformed", f"the peer's chain is longer than {CHAIN_CERTIFICATES_MAX} certificates or 32 KiB"
        )
    # Before parsing: a peer that dials again costs one SHA-256, not a verification.
    digest = _digest(chain_der)
    for judge in (bundle, *reserved.values()):
        known = judge.recall(digest, now)
        if known is not None and reserved.get(known.uri, bundle) is judge:
            return known
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain_der]
        uri = _check_leaf(certificates[0])
        # The name alone decides who must vouch for it; whether somebody does is checked next.
        judge = reserved.get(uri, bundle)
        chain = check_chain(certificates, judge, now.astimezone(UTC))
        starts, ends = max(one.not_valid_before_utc for one in chain), min(one.not_valid_after_utc for one in chain)
        peer = VerifiedPeer(uri, ends, certificates[0].fingerprint(hashes.SHA256()).hex())
    except PARSING_FAILS as error:
        raise TrustError("malformed", f"the peer's certificate cannot be read: {error}") from error
    judge.remember(digest, peer, starts)
    return peer


def ended_at(chain_der: Sequence[bytes]) -> datetime:
    """When the leaf of a chain ends (aware, UTC). Raises TrustError for one that cannot be read."""
    try:
        return x509.load_der_x509_certificate(chain_der[0]).not_valid_after_utc
    except (IndexError, *PARSING_FAILS) as error:
        raise TrustError("malformed", f"the peer's certificate cannot be read: {error}") from error


def _digest(chain_der: Sequence[bytes]) -> bytes:
    """SHA-256 over the bytes and over where each certificate ends: a chain cut elsewhere is another chain."""
    sizes = b"".join(len(der).to_bytes(4, "big") for der in chain_der)
    return hashlib.sha256(len(chain_der).to_bytes(1, "big") + sizes + b"".join(chain_der)).digest()


def _check_leaf(leaf: x509.Certificate) -> str:
    """The leaf's one URI. Raises TrustError for wrong usages or another number of URIs."""
    try:
        usages = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = set()
    missing = [word for oid, word in _USAGES.items() if oid not in usages]
    if missing:
        raise TrustError("wrong-usage", f"the peer's certificate is not for use as {' and '.join(missing)}")
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise TrustError("wrong-name", "the peer's certificate names nobody") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise TrustError("wrong-name", f"the peer's certificate must carry exactly one URI, it has {len(uris)}")
    return uris[0]


def check_chain(certificates: list[x509.Certificate], bundle: Bundle, now: datetime) -> list[x509.Certificate]:
    """The verified chain from leaf to authority. Raises TrustError: expired or not-yet-valid if the leaf is, else untrusted."""
    verifier = PolicyBuilder().store(bundle.store).time(now).max_chain_depth(_INTERMEDIATES_MAX).build_client_verifier()
    try:
        return verifier.verify(certificates[0], certificates[1:]).chain
    except VerificationError as error:
        # The texts of the verifier's errors are no contract, so the leaf's dates decide which refusal it is.
        leaf = certificates[0]
        if now > leaf.not_valid_after_utc:
            ended = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S}"
            raise TrustError("expired", f"the peer's certificate expired at {ended} UTC") from error
        if now < leaf.not_valid_before_utc:
            starts = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S}"
            raise TrustError("not-yet-valid", f"the peer's certificate is valid from {starts} UTC on") from error
        raise TrustError("untrusted", f"no authority of the bundle vouches for the peer: {error}") from error
