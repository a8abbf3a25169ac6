"""An identity is three files of one generation, or an error that names the wrong one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.trust import Authority, Identity, sign, signed_by

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
URI = "spiffe://p2pnet/ns/local/subnet/demo/node/node-0"
AUTHORITY = Authority.create("demo", now=NOW)


def new_identity() -> Identity:
    return Identity.of(AUTHORITY.issue(URI, now=NOW, ttl=WEEK), AUTHORITY.certificate_pem)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    identity = new_identity()
    identity.write(tmp_path / "identity")
    again = Identity.read(tmp_path / "identity")
    assert again == identity
    assert (again.uri, again.not_after) == (URI, NOW + WEEK)
    assert again.verify(now=NOW).fingerprint == identity.fingerprint


def test_the_key_is_for_its_owner_only(tmp_path: Path) -> None:
    new_identity().write(tmp_path / "identity")
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "identity" / "tls.key").stat().st_mode & 0o777 == 0o600


def test_writing_over_an_identity_leaves_nothing_else_behind(tmp_path: Path) -> None:
    first, second = new_identity(), new_identity()
    first.write(tmp_path)
    second.write(tmp_path)
    assert Identity.read(tmp_path) == second
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]


def test_an_authority_for_the_lab_alone_is_read_when_it_is_there(tmp_path: Path) -> None:
    plain, own = new_identity(), Authority.create("own", now=NOW)
    apart = Identity(plain.chain_pem, plain.key_pem, plain.bundle_pem, own.certificate_pem)
    apart.write(tmp_path)
    again = Identity.read(tmp_path)
    assert again == apart
    assert again.lab_bundle.fingerprints == (own.fingerprint,)
    assert again.trusted == (AUTHORITY.fingerprint, own.fingerprint)
    plain.write(tmp_path)
    assert Identity.read(tmp_path).lab_bundle.fingerprints == (AUTHORITY.fingerprint,)
    (tmp_path / "lab-ca.crt").write_bytes(b"damaged")
    with pytest.raises(SpecError, match=r"lab-ca\.crt"):
        Identity.read(tmp_path)


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    new_identity().write(tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(SpecError, match=name):
        Identity.read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(SpecError, match=f"{name}: cannot read"):
        Identity.read(tmp_path)


def test_a_key_of_another_leaf_is_refused(tmp_path: Path) -> None:
    new_identity().write(tmp_path)
    (tmp_path / "tls.key").write_bytes(new_identity().key_pem)
    with pytest.raises(SpecError, match=r"tls\.key: is not the key"):
        Identity.read(tmp_path)


def test_a_mounted_secret_is_read_through_its_data_link(tmp_path: Path) -> None:
    """Kubernetes mounts `tls.crt -> ..data/tls.crt` and `..data -> ..2030_01_01`, and swaps the second link."""
    identity = new_identity()
    identity.write(tmp_path / "..2030_01_01")
    (tmp_path / "..data").symlink_to("..2030_01_01")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert Identity.read(tmp_path) == identity


def test_a_link_swapped_in_the_middle_of_a_read_mixes_no_generations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_identity(), new_identity()
    old.write(tmp_path / "..old")
    new.write(tmp_path / "..new")
    (tmp_path / "..data").symlink_to("..old")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    read_bytes = Path.read_bytes

    def read_and_swap(path: Path) -> bytes:
        data = read_bytes(path)
        if path.name == "tls.crt":
            (tmp_path / "..swap").symlink_to("..new")
            (tmp_path / "..swap").replace(tmp_path / "..data")
        return data

    monkeypatch.setattr(Path, "read_bytes", read_and_swap)
    assert Identity.read(tmp_path) == old


SIGNED_AT = datetime(2026, 5, 1, 12, tzinfo=UTC)


SIGNER_AUTHORITY = Authority.create("demo", now=SIGNED_AT, ttl=timedelta(days=1))


def issued(name: str) -> Identity:
    leaf = SIGNER_AUTHORITY.issue(f"spiffe://p2pnet/{name}", now=SIGNED_AT, ttl=timedelta(hours=1))
    return Identity.of(leaf, SIGNER_AUTHORITY.certificate_pem)


def self_signed(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> Identity:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(SIGNED_AT).not_valid_after(SIGNED_AT + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://p2pnet/odd")]), False)
        .sign(key, None)
    ) if isinstance(key, ed25519.Ed25519PrivateKey) else SIGNER_AUTHORITY.certificate  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(certificate.public_bytes(serialization.Encoding.PEM), private, SIGNER_AUTHORITY.certificate_pem)


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
