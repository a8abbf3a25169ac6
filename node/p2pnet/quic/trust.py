"""The trust policies of an endpoint: who may connect. Certificates are verified in `p2pnet.trust`."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from p2pnet.model.errors import TrustError
from p2pnet.trust import PARSING_FAILS, Bundle, Identity, verify

log = logging.getLogger(__name__)

ALPN = "p2pnet"
SERVER_NAME = "p2pnet"
"""Sent in the handshake, never checked: peers are identified by their URI."""
QP2P_SERVER_NAME = "maidsafe.net"
_SELF_SIGNED_TTL = timedelta(days=365)


class IdentitySource(Protocol):
    """The source of an endpoint's own leaf, key and bundle, which may change over time."""

    @property
    def current(self) -> Identity:
        """The leaf, key and bundle in force now."""

    @property
    def version(self) -> int:
        """Grows with every change of `current`; read at each handshake."""


@dataclass(frozen=True, slots=True)
class FixedIdentity:
    """An IdentitySource whose identity never changes."""

    current: Identity
    version: int = 1


@dataclass(frozen=True, slots=True)
class PeerName:
    """The peer's identity as its certificate proves it; all empty under Trust.anyone."""

    uri: str = ""
    not_after: datetime | None = None
    fingerprint: str = ""


class Trust(ABC):
    """A policy: which identity this end shows, whether it asks for the peer's, and whom it admits."""

    kind = "subnet"
    alpn: tuple[str, ...] | None = (ALPN,)
    server_name = SERVER_NAME
    asks_client = True
    """Whether a server end asks for, and requires, the client's certificate."""

    def __init__(self, identity: IdentitySource) -> None:
        self._identity = identity

    @property
    def identity(self) -> Identity:
        """The identity shown from the next handshake on."""
        return self._identity.current

    @property
    def version(self) -> int:
        """A number that changes whenever `identity` does."""
        return self._identity.version

    @property
    def secret(self) -> bytes | None:
        """Bytes that only this identity knows, the same after a restart; None where there is no lasting identity."""
        return self.identity.key_pem

    @abstractmethod
    def admit(self, chain_der: list[bytes], *, expect: str | None, dialled: bool, now: datetime) -> PeerName:
        """Verify the peer's chain (DER, leaf first); the identity it proves. Raises TrustError when it is not admitted.

        `expect`: the exact URI that the dialer wants to reach. `dialled`: whether this end dialled.
        """

    @staticmethod
    def subnet(
        identity: IdentitySource, admits: Callable[[str], str | None] = lambda _uri: None, *, lab: str = ""
    ) -> "Trust":
        """Mutual TLS under the identity's bundle. `admits(uri)` returns None, or the reason to refuse that peer.

        `lab`: the URI that only the identity's lab bundle may vouch for.
        """
        return _Subnet(identity, admits, lab)

    @staticmethod
    def pinned(identity: IdentitySource, fingerprints: Iterable[str]) -> "Trust":
        """Mutual TLS with pre-agreed leaves, whoever issued them. `fingerprints`: SHA-256 in hex, colons allowed."""
        return _Pinned(identity, fingerprints)

    @staticmethod
    def authority(bundle: Bundle, identity: IdentitySource | None = None) -> "Trust":
        """Servers are verified against `bundle`, clients show no certificate. An end that is dialled needs an `identity`."""
        return _Servers(bundle, identity)

    @staticmethod
    def anyone() -> "Trust":
        """Encryption without authentication, as qp2p has it. For interoperability only."""
        log.warning("Trust.anyone: peers are not authenticated; anybody may read and pose as anybody")
        return _Anyone()


class _Subnet(Trust):
    def __init__(self, identity: IdentitySource, admits: Callable[[str], str | None], lab: str) -> None:
        super().__init__(identity)
        self._admits = admits
        self._lab = lab

    def admit(self, chain_der: list[bytes], *, expect: str | None, dialled: bool, now: datetime) -> PeerName:
        identity = self.identity
        reserved = {self._lab: identity.lab_bundle} if self._lab else {}
        peer = verify(chain_der, identity.bundle, now=now, reserved=reserved)
        if dialled and expect is not None and peer.uri != expect:
            raise TrustError("wrong-name", f"{peer.uri} answered instead of {expect}")
        if reason := self._admits(peer.uri):
            raise TrustError("wrong-name", f"{peer.uri} is not admitted: {reason}")
        return PeerName(peer.uri, peer.not_after, peer.fingerprint)


class _Pinned(Trust):
    kind = "pinned"

    def __init__(self, identity: IdentitySource, fingerprints: Iterable[str]) -> None:
        super().__init__(identity)
        self._fingerprints = frozenset(one.replace(":", "").lower() for one in fingerprints)

    def admit(self, chain_der: list[bytes], *, expect: str | None, dialled: bool, now: datetime) -> PeerName:
        if not chain_der:
            raise TrustError("no-certificate", "the peer showed no certificate")
        fingerprint = hashlib.sha256(
            chain_der[0]
        ).hexdigest()  # checked before anything of an unauthenticated peer is parsed
        if fingerprint not in self._fingerprints:
            raise TrustError("untrusted", f"the peer's certificate {fingerprint[:16]} is none of the agreed ones")
        try:
            leaf = x509.load_der_x509_certificate(chain_der[0])
            name = PeerName(_uri(leaf), leaf.not_valid_after_utc, fingerprint)
            starts = leaf.not_valid_before_utc
        except PARSING_FAILS as error:
            raise TrustError("malformed", f"the peer's certificate cannot be read: {error}") from error
        if not starts <= now <= leaf.not_valid_after_utc:
            raise TrustError(
                "expired" if now > starts else "not-yet-valid", "the peer's certificate is out of its time"
            )
        if dialled and expect is not None and name.uri != expect:
            raise TrustError("wrong-name", f"{name.uri or name.fingerprint} answered instead of {expect}")
        return name


class _Servers(Trust):
    kind = "authority"
    asks_client = False

    def __init__(self, bundle: Bundle, identity: IdentitySource | None) -> None:
        super().__init__(identity or FixedIdentity(_self_signed(bundle.pem)))
        self._bundle = bundle
        self._lasting = identity is not None

    @property
    def secret(self) -> bytes | None:
        """See `Trust.secret`; None without an identity of its own."""
        return super().secret if self._lasting else None

    def admit(self, chain_der: list[bytes], *, expect: str | None, dialled: bool, now: datetime) -> PeerName:
        if not dialled:
            return PeerName()
        peer = verify(chain_der, self._bundle, now=now)
        if expect is not None and peer.uri != expect:
            raise TrustError("wrong-name", f"{peer.uri} answered instead of {expect}")
        return PeerName(peer.uri, peer.not_after, peer.fingerprint)


class _Anyone(Trust):
    kind = "anyone"
    alpn = None  # qp2p negotiates none
    server_name = QP2P_SERVER_NAME
    asks_client = False

    def __init__(self) -> None:
        super().__init__(FixedIdentity(_self_signed(b"")))

    @property
    def secret(self) -> bytes | None:
        """See `Trust.secret`; there is none."""
        return None

    def admit(self, chain_der: list[bytes], *, expect: str | None, dialled: bool, now: datetime) -> PeerName:
        del chain_der, expect, dialled, now
        return PeerName()


def _uri(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if len(uris) == 1 else ""


def _self_signed(bundle_pem: bytes) -> Identity:
    """A fresh self-signed certificate for qp2p's server name, as every qp2p endpoint makes one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, QP2P_SERVER_NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + _SELF_SIGNED_TTL)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(QP2P_SERVER_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(certificate.public_bytes(serialization.Encoding.PEM), private, bundle_pem)
