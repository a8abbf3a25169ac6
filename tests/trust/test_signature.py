"""Signatures with a leaf's key: made and checked, and never an exception for bytes that are none."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.trust import Authority, Identity, sign, signed_by

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
AUTHORITY = Authority.create("demo", now=NOW, ttl=timedelta(days=1))


def issued(name: str) -> Identity:
    leaf = AUTHORITY.issue(f"spiffe://p2pnet/{name}", now=NOW, ttl=timedelta(hours=1))
    return Identity.of(leaf, AUTHORITY.certificate_pem)


def self_signed(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> Identity:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://p2pnet/odd")]), False)
        .sign(key, None)
    ) if isinstance(key, ed25519.Ed25519PrivateKey) else AUTHORITY.certificate  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(certificate.public_bytes(serialization.Encoding.PEM), private, AUTHORITY.certificate_pem)


ONE, OTHER = issued("one"), issued("other")
EDWARDS = self_signed(ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize("identity", [ONE, EDWARDS], ids=["P-256", "Ed25519"])
def test_a_signature_holds_for_its_leaf_and_its_bytes_alone(identity: Identity) -> None:
    signature = sign(identity, b"words")
    assert signed_by(identity.chain_der[0], b"words", signature)
    assert not signed_by(identity.chain_der[0], b"other words", signature)
    assert not signed_by(OTHER.chain_der[0], b"words", signature)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes_are_a_signature_or_not(leaf: bytes, signature: bytes) -> None:
    assert not signed_by(ONE.chain_der[0], b"words", signature)
    assert not signed_by(EDWARDS.chain_der[0], b"words", signature)
    assert not signed_by(leaf, b"words", signature)


def test_a_key_of_another_kind_does_not_sign() -> None:
    identity = ONE.__class__(ONE.chain_pem, self_signed(rsa.generate_private_key(65537, 2048)).key_pem, ONE.bundle_pem)
    with pytest.raises(SpecError, match="neither of an elliptic curve nor Ed25519"):
        sign(identity, b"words")
