"""The certificate authority of a subnet, and the leaves it issues. Its key never leaves lab or operator."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pnet.model.errors import SpecError

BACKDATE = timedelta(minutes=10)
"""Leaves and authorities start this long in the past: clocks of a cluster differ by seconds, of laptops by minutes."""


AUTHORITY_TTL = timedelta(days=3650)
"""Life of an authority made by lab or operator: longer than any testnet, for rotating one is a deliberate act."""

_COMMON_NAME_CHARS_MAX = 64  # X.520: ub-common-name
# Every node is client and server at once.
_BOTH_USAGES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificate of one node or lab with its key, as just issued. `chain_pem`: leaf first; `key_pem`: unencrypted PKCS 8."""

    chain_pem: bytes
    key_pem: bytes
    uri: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256 of the leaf's DER, in hex."""


class Authority:
    """An EC P-256 certificate authority of path length 0, able to issue leaves."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def create(cls, common_name: str, *, now: datetime, ttl: timedelta = AUTHORITY_TTL) -> "Authority":
        """A new self-signed authority, valid from 10 minutes before `now` (aware) until `now + ttl`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _common_name(common_name)
        # Path length 0: no other authority below this one.
        builder = (
            _validity(_builder(name, name, key.public_key()), now, now + ttl)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, cert_pem: bytes, key_pem: bytes) -> "Authority":
        """The authority in two PEM texts. Raises SpecError when they are damaged, no authority, or do not match."""
        try:
            certificate = x509.load_pem_x509_certificate(cert_pem)
            key = serialization.load_pem_private_key(key_pem, None)
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
            raise SpecError(f"not an authority: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SpecError("not an authority: its key is no elliptic curve key")
        if not constraints.ca:
            raise SpecError("not an authority: the certificate is a leaf")
        if key.public_key() != certificate.public_key():
            raise SpecError("not an authority: key and certificate do not match")
        return cls(certificate, key)

    @cached_property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM, as a bundle holds it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Unencrypted PKCS 8: a 0700 directory or a Secret guards it."""
        return _key_pem(self._key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER, in hex, as in `Bundle.fingerprints`."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def not_after(self) -> datetime:
        """When the authority, and with it every leaf it issued, ends (aware, UTC)."""
        return self.certificate.not_valid_after_utc

    def issue(
        self,
        uri: str,
        *,
        now: datetime,
        ttl: timedelta,
        dns_names: Iterable[str] = (),
        ip_addresses: Iterable[str] = (),
    ) -> Leaf:
        """A leaf with a key of its own for exactly `uri`, from 10 minutes before `now` until `now + ttl`.

        It never outlives its authority. Raises SpecError for a bad URI, address or an authority that has ended.
        """
        # Without a fraction, as X.509 times are: what is reported is what the certificate says.
        not_after = min(now + ttl, self.not_after).replace(microsecond=0)
        if not_after <= now:
            raise SpecError(f"the authority ended at {self.not_after:%Y-%m-%d %H:%M:%S} UTC: rotate it")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            # The node's name, for people who read certificates; only the URI counts.
            _validity(
                _builder(_common_name(uri.rpartition("/")[2]), self.certificate.subject, key.public_key()),
                now,
                not_after,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(_BOTH_USAGES, critical=False)
            .add_extension(_alternative_names(uri, dns_names, ip_addresses), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Leaf(
            chain_pem=certificate.public_bytes(serialization.Encoding.PEM),
            key_pem=_key_pem(key),
            uri=uri,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        )

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """Lets a verifier tell two authorities of one name apart while both are in a bundle (RFC 5280, 4.2.1.1)."""
        subject_key = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key.value)


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _validity(builder: x509.CertificateBuilder, now: datetime, not_after: datetime) -> x509.CertificateBuilder:
    start = (now - BACKDATE).replace(microsecond=0)
    return builder.not_valid_before(start).not_valid_after(not_after.replace(microsecond=0))


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_COMMON_NAME_CHARS_MAX] or "p2pnet")])


def _alternative_names(uri: str, dns_names: Iterable[str], ip_addresses: Iterable[str]) -> x509.SubjectAlternativeName:
    try:
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        names += [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
    except ValueError as error:
        raise SpecError(f"{uri}: cannot issue a leaf: {error}") from error
    return x509.SubjectAlternativeName(names)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
