"""Whom a chain admits: exactly its one URI, only while all of it is valid; a bundle that remembers is no less strict."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError, TrustError
from p2pnet.trust import Authority, Bundle, Identity, VerifiedPeer, bundle, verify

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
URI = "spiffe://p2pnet/ns/local/subnet/demo/node/node-0"
AUTHORITY = Authority.create("demo", now=NOW)
BUNDLE = Bundle.from_pem(AUTHORITY.certificate_pem)
LEAF = AUTHORITY.issue(URI, now=NOW, ttl=WEEK)
CHAIN = list(Identity.of(LEAF, AUTHORITY.certificate_pem).chain_der)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def test_a_reserved_name_is_vouched_for_by_its_own_bundle_alone() -> None:
    other = Authority.create("issuer", now=NOW)
    reserved = {URI: Bundle.from_pem(other.certificate_pem)}
    with pytest.raises(TrustError) as caught:
        verify(CHAIN, BUNDLE, now=NOW, reserved=reserved)
    assert caught.value.kind == "untrusted"
    theirs = chain(other.issue(URI, now=NOW, ttl=WEEK).chain_pem)
    assert verify(theirs, BUNDLE, now=NOW, reserved=reserved).uri == URI
    elsewhere = chain(other.issue(URI + "0", now=NOW, ttl=WEEK).chain_pem)
    with pytest.raises(TrustError):
        verify(elsewhere, BUNDLE, now=NOW, reserved=reserved)
    assert verify(CHAIN, BUNDLE, now=NOW, reserved={URI + "0": reserved[URI]}).uri == URI


def chain(leaf_pem: bytes) -> list[bytes]:
    return [one.public_bytes(serialization.Encoding.DER) for one in x509.load_pem_x509_certificates(leaf_pem)]


def refusal(chain_der: list[bytes], judge: Bundle = BUNDLE, now: datetime = NOW, **reserved: Any) -> str:
    with pytest.raises(TrustError) as caught:
        verify(chain_der, judge, now=now, **reserved)
    return caught.value.kind


def odd_leaf(
    *, uris: tuple[str, ...] = (URI,), usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT, SERVER), ca: bool = False
) -> list[bytes]:
    """A leaf that `Authority.issue` would never make, signed by the real authority."""
    signer = serialization.load_pem_private_key(AUTHORITY.key_pem, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    identifier = AUTHORITY.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")]))
        .issuer_name(AUTHORITY.certificate.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + WEEK)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    builder = builder.add_extension(x509.SubjectAlternativeName([*names, x509.DNSName("a")]), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return [builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)]


def test_a_leaf_of_the_authority_is_its_uri() -> None:
    assert verify(CHAIN, BUNDLE, now=NOW) == VerifiedPeer(URI, NOW + WEEK, LEAF.fingerprint)


def test_the_odd_leaf_of_these_tests_is_admitted_when_nothing_is_odd_about_it() -> None:
    assert verify(odd_leaf(), BUNDLE, now=NOW).uri == URI


def test_no_certificate_is_refused() -> None:
    assert refusal([]) == "no-certificate"


def test_a_leaf_of_another_authority_with_the_same_name_is_untrusted() -> None:
    foreign = Authority.create("demo", now=NOW)
    assert refusal(chain(foreign.issue(URI, now=NOW, ttl=WEEK).chain_pem)) == "untrusted"


def test_a_foreign_authority_in_the_chain_vouches_for_nothing() -> None:
    foreign = Authority.create("demo", now=NOW)
    assert refusal(chain(foreign.issue(URI, now=NOW, ttl=WEEK).chain_pem + foreign.certificate_pem)) == "untrusted"


def test_a_leaf_signed_by_a_leaf_is_untrusted() -> None:
    pretender = Authority(x509.load_pem_x509_certificate(LEAF.chain_pem), _key(LEAF.key_pem))
    forged = pretender.issue(URI, now=NOW, ttl=timedelta(days=1))
    assert refusal(chain(forged.chain_pem + LEAF.chain_pem)) == "untrusted"


def test_the_authority_itself_is_no_peer() -> None:
    assert refusal(chain(AUTHORITY.certificate_pem)) == "wrong-usage"


def test_an_authority_with_a_peers_names_is_no_peer() -> None:
    assert refusal(odd_leaf(ca=True)) == "untrusted"


def test_time_decides() -> None:
    assert verify(CHAIN, BUNDLE, now=NOW - timedelta(minutes=10)).uri == URI
    assert verify(CHAIN, BUNDLE, now=NOW + WEEK).uri == URI
    assert refusal(CHAIN, now=NOW - timedelta(minutes=10, seconds=1)) == "not-yet-valid"
    assert refusal(CHAIN, now=NOW + WEEK + timedelta(seconds=1)) == "expired"


def test_a_leaf_of_an_authority_that_has_ended_is_refused() -> None:
    short = Authority.create("demo", now=NOW, ttl=timedelta(days=1))
    leaf = short.issue(URI, now=NOW, ttl=WEEK)
    assert refusal(chain(leaf.chain_pem), Bundle.from_pem(short.certificate_pem), NOW + timedelta(days=2)) == "expired"


@pytest.mark.parametrize("usages", [(), (CLIENT,), (SERVER,), (ExtendedKeyUsageOID.CODE_SIGNING,)])
def test_both_usages_are_wanted(usages: tuple[x509.ObjectIdentifier, ...]) -> None:
    assert refusal(odd_leaf(usages=usages)) == "wrong-usage"


@pytest.mark.parametrize("uris", [(), (URI, URI), (URI, "spiffe://p2pnet/ns/local/subnet/demo/lab")])
def test_exactly_one_uri_is_wanted(uris: tuple[str, ...]) -> None:
    assert refusal(odd_leaf(uris=uris)) == "wrong-name"


def test_during_a_rotation_leaves_of_both_authorities_are_admitted() -> None:
    new = Authority.create("demo", now=NOW)  # of the same name, as a real rotation makes it
    both = Bundle.from_pem(AUTHORITY.certificate_pem + new.certificate_pem)
    assert verify(CHAIN, both, now=NOW).uri == URI
    assert verify(chain(new.issue(URI, now=NOW, ttl=WEEK).chain_pem), both, now=NOW).uri == URI
    assert refusal(CHAIN, Bundle.from_pem(new.certificate_pem)) == "untrusted"


def test_a_chain_is_bounded_before_it_is_parsed() -> None:
    assert refusal(CHAIN * 6) == "malformed"
    assert refusal([*CHAIN, bytes(33 * 1024)]) == "malformed"


def test_a_changed_signature_is_untrusted() -> None:
    forged = CHAIN[0][:-1] + bytes([CHAIN[0][-1] ^ 1])
    assert refusal([forged]) in {"untrusted", "malformed"}


@given(st.lists(st.binary(max_size=200), max_size=3))
@example([b"\x30\x00"])
def test_any_bytes_give_a_refusal(chain_der: list[bytes]) -> None:
    assert refusal(chain_der) in {"no-certificate", "malformed"}


SIGNED = CHAIN[0].index(x509.load_der_x509_certificate(CHAIN[0]).tbs_certificate_bytes)
SIGNED_END = SIGNED + len(x509.load_der_x509_certificate(CHAIN[0]).tbs_certificate_bytes)
REFUSALS = {"malformed", "untrusted", "expired", "not-yet-valid", "wrong-name", "wrong-usage"}


@settings(max_examples=300)
@example(15, 129)  # a negative serial number: today a warning of cryptography, tomorrow an error
@given(st.integers(SIGNED, SIGNED_END - 1), st.integers(1, 255))
def test_any_damage_to_what_is_signed_gives_a_refusal(position: int, flip: int) -> None:
    damaged = bytearray(CHAIN[0])
    damaged[position] ^= flip
    assert refusal([bytes(damaged)]) in REFUSALS


@settings(max_examples=300)
@given(st.integers(SIGNED_END, len(CHAIN[0]) - 1), st.integers(1, 255))
def test_another_way_to_write_the_signature_makes_nobody_else(position: int, flip: int) -> None:
    """A signature has several encodings (its count of unused bits, for one), so a fingerprint is no name."""
    damaged = bytearray(CHAIN[0])
    damaged[position] ^= flip
    try:
        peer = verify([bytes(damaged)], BUNDLE, now=NOW)
    except TrustError:
        return
    assert (peer.uri, peer.not_after) == (URI, NOW + WEEK)


@given(st.integers(0, len(CHAIN[0]) - 1))
def test_half_a_leaf_is_malformed(cut: int) -> None:
    assert refusal([CHAIN[0][:cut]]) == "malformed"


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_a_bundle_names_each_authority_once_and_is_written_as_it_was_read() -> None:
    one, other = Authority.create("a", now=NOW), Authority.create("b", now=NOW)
    bundle = Bundle.from_pem(one.certificate_pem + other.certificate_pem + one.certificate_pem)
    assert bundle.fingerprints == (one.fingerprint, other.fingerprint)
    assert bundle.pem == one.certificate_pem + other.certificate_pem


@pytest.mark.parametrize("pem", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_a_bundle_without_a_readable_authority_is_an_error(pem: bytes) -> None:
    with pytest.raises(SpecError, match="trust bundle"):
        Bundle.from_pem(pem)


def test_a_bundle_is_bounded() -> None:
    with pytest.raises(SpecError, match="1 to 16"):
        Bundle.from_pem(b"".join(Authority.create("a", now=NOW).certificate_pem for _ in range(17)))


DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


AUTHORITY_DER = AUTHORITY.certificate.public_bytes(Encoding.DER)


def new_chain(uri: str = URI, *, authority: Authority = AUTHORITY, ttl: timedelta = WEEK) -> list[bytes]:
    """A new leaf, as its holder shows it."""
    return list(Identity.of(authority.issue(uri, now=NOW, ttl=ttl), authority.certificate_pem).chain_der)


def fresh(*authorities: Authority) -> Bundle:
    """A bundle that remembers nobody."""
    return Bundle.from_pem(b"".join(one.certificate_pem for one in authorities or (AUTHORITY,)))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The chains whose signatures were looked at."""
    seen: list[Any] = []
    check = bundle.check_chain

    def note(certificates: Any, judge: Bundle, now: datetime) -> Any:
        seen.append(certificates)
        return check(certificates, judge, now)

    monkeypatch.setattr(bundle, "check_chain", note)
    return seen


def test_a_chain_is_verified_once_and_is_the_same_peer_afterwards(checked: list[Any]) -> None:
    judge, shown = fresh(), new_chain()
    first = verify(shown, judge, now=NOW)
    assert verify(list(shown), judge, now=NOW + DAY) == first
    assert len(checked) == 1


def test_a_chain_that_is_remembered_still_ends_when_its_time_does() -> None:
    judge, shown = fresh(), new_chain(ttl=DAY)
    assert verify(shown, judge, now=NOW).not_after == NOW + DAY
    assert verify(shown, judge, now=NOW + DAY - SECOND).uri == URI
    assert refusal(shown, judge, NOW + DAY + SECOND) == "expired"
    assert verify(shown, judge, now=NOW).uri == URI


def test_a_chain_that_is_remembered_is_not_valid_before_its_time() -> None:
    judge, shown = fresh(), new_chain()
    verify(shown, judge, now=NOW)
    assert refusal(shown, judge, NOW - DAY) == "not-yet-valid"


def test_an_authority_that_has_ended_vouches_for_nobody_it_remembers() -> None:
    short = Authority.create("demo", now=NOW, ttl=DAY)
    judge = fresh(short)
    shown = new_chain(authority=short, ttl=timedelta(hours=23))
    assert verify(shown, judge, now=NOW).uri == URI
    assert refusal(shown, judge, NOW + WEEK) in {"expired", "untrusted"}


def test_no_bundle_knows_what_another_has_verified(checked: list[Any]) -> None:
    shown, other = new_chain(), Authority.create("other", now=NOW)
    verify(shown, fresh(), now=NOW)
    verify(shown, fresh(AUTHORITY, other), now=NOW)
    assert len(checked) == 2
    assert refusal(shown, fresh(other), NOW) == "untrusted"


def test_a_name_that_is_reserved_later_is_judged_by_its_own_bundle(checked: list[Any]) -> None:
    judge, other, shown = fresh(), Authority.create("issuer", now=NOW), new_chain()
    verify(shown, judge, now=NOW)
    own = fresh(other)
    assert refusal(shown, judge, NOW, reserved={URI: own}) == "untrusted"
    theirs = new_chain(authority=other)
    for _ in range(2):
        assert verify(theirs, judge, now=NOW, reserved={URI: own}).uri == URI
    assert len(checked) == 3
    assert refusal(theirs, judge, NOW) == "untrusted"


def test_a_refused_chain_is_refused_as_often_as_it_is_shown(checked: list[Any]) -> None:
    judge, shown = fresh(), new_chain(authority=Authority.create("demo", now=NOW))
    for _ in range(3):
        assert refusal(shown, judge, NOW) == "untrusted"
    assert len(checked) == 3


def test_the_same_bytes_cut_elsewhere_are_another_new_chain(checked: list[Any]) -> None:
    judge, shown = fresh(), new_chain()
    both = [shown[0], AUTHORITY_DER]
    assert verify(both, judge, now=NOW).uri == URI
    assert refusal([shown[0] + AUTHORITY_DER], judge, NOW) == "malformed"
    assert refusal([b"", shown[0], AUTHORITY_DER], judge, NOW) == "malformed"
    assert refusal([AUTHORITY_DER, shown[0]], judge, NOW) == "wrong-usage"
    assert len(checked) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, checked: list[Any]) -> None:
    monkeypatch.setattr(bundle, "VERIFIED_MAX", 4)
    judge = fresh()
    shown = [new_chain(f"{URI}{number}") for number in range(6)]
    for one in shown:
        verify(one, judge, now=NOW)
    assert judge.remembered == 4
    verify(shown[5], judge, now=NOW)
    assert len(checked) == 6
    verify(shown[0], judge, now=NOW)
    assert len(checked) == 7
    assert judge.remembered == 4
