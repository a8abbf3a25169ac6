"""An authority makes itself and issues leaves that say exactly who they are for."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from p2pnet.model.errors import SpecError
from p2pnet.trust import Authority, Identity

NOW = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
URI = "spiffe://p2pnet/ns/local/subnet/demo/node/node-0"


def certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_a_leaf_starts_ten_minutes_in_the_past_and_ends_after_its_ttl() -> None:
    leaf = Authority.create("demo", now=NOW).issue(URI, now=NOW, ttl=timedelta(days=7))
    assert leaf.not_before == datetime(2030, 1, 1, 11, 50, tzinfo=UTC)
    assert leaf.not_after == datetime(2030, 1, 8, 12, 0, tzinfo=UTC)


def test_a_leaf_carries_its_uri_both_usages_and_an_ec_p256_key() -> None:
    leaf = Authority.create("demo", now=NOW).issue(URI, now=NOW, ttl=timedelta(days=7))
    extensions = certificate(leaf.chain_pem).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(URI)]
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {usage.dotted_string for usage in usages} == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
    key = serialization.load_pem_private_key(leaf.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_dns_names_and_addresses_stand_beside_the_uri() -> None:
    leaf = Authority.create("demo", now=NOW).issue(
        URI, now=NOW, ttl=timedelta(days=7), dns_names=["demo-node-0.demo-nodes"], ip_addresses=["10.0.0.1", "::1"]
    )
    names = certificate(leaf.chain_pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["demo-node-0.demo-nodes"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]


def test_a_leaf_never_outlives_its_authority() -> None:
    authority = Authority.create("demo", now=NOW, ttl=timedelta(days=1))
    assert authority.issue(URI, now=NOW, ttl=timedelta(days=7)).not_after == authority.not_after


def test_an_authority_that_has_ended_issues_nothing() -> None:
    authority = Authority.create("demo", now=NOW, ttl=timedelta(days=1))
    with pytest.raises(SpecError, match="rotate"):
        authority.issue(URI, now=NOW + timedelta(days=2), ttl=timedelta(days=7))


@pytest.mark.parametrize("wrong", [{"ip_addresses": ["300.1.1.1"]}, {"dns_names": ["bücher"]}])
def test_a_name_that_cannot_be_written_is_the_callers_error(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(SpecError, match="node-0"):
        Authority.create("demo", now=NOW).issue(URI, now=NOW, ttl=timedelta(days=7), **wrong)


def test_every_leaf_has_a_key_of_its_own() -> None:
    authority = Authority.create("demo", now=NOW)
    first, second = (authority.issue(URI, now=NOW, ttl=timedelta(days=7)) for _ in range(2))
    assert first.key_pem != second.key_pem
    assert first.fingerprint != second.fingerprint


def test_an_authority_loaded_again_is_the_same_and_still_issues() -> None:
    made = Authority.create("demo", now=NOW)
    loaded = Authority.load(made.certificate_pem, made.key_pem)
    assert loaded.fingerprint == made.fingerprint
    leaf = loaded.issue(URI, now=NOW, ttl=timedelta(days=7))
    assert Identity.of(leaf, made.certificate_pem).verify(now=NOW).uri == URI


def test_a_key_of_another_authority_is_refused() -> None:
    one, other = Authority.create("a", now=NOW), Authority.create("b", now=NOW)
    with pytest.raises(SpecError, match="do not match"):
        Authority.load(one.certificate_pem, other.key_pem)


def test_a_leaf_is_no_authority() -> None:
    leaf = Authority.create("demo", now=NOW).issue(URI, now=NOW, ttl=timedelta(days=7))
    with pytest.raises(SpecError, match="is a leaf"):
        Authority.load(leaf.chain_pem, leaf.key_pem)


def test_damage_and_other_kinds_of_keys_are_refused() -> None:
    made = Authority.create("demo", now=NOW)
    edward = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for cert_pem, key_pem in ((b"", made.key_pem), (made.certificate_pem, b"x"), (made.certificate_pem, edward)):
        with pytest.raises(SpecError, match="not an authority"):
            Authority.load(cert_pem, key_pem)
