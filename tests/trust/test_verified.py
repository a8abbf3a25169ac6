"""A bundle remembers whom it vouched for, and is never less strict for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from p2pnet.model.errors import TrustError
from p2pnet.trust import Authority, Bundle, Identity, bundle, verify

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
DAY, WEEK, SECOND = timedelta(days=1), timedelta(days=7), timedelta(seconds=1)
URI = "spiffe://p2pnet/ns/local/subnet/demo/node/node-0"
AUTHORITY = Authority.create("demo", now=NOW)
AUTHORITY_DER = AUTHORITY.certificate.public_bytes(Encoding.DER)


def chain(uri: str = URI, *, authority: Authority = AUTHORITY, ttl: timedelta = WEEK) -> list[bytes]:
    """A new leaf, as its holder shows it."""
    return list(Identity.of(authority.issue(uri, now=NOW, ttl=ttl), authority.certificate_pem).chain_der)


def fresh(*authorities: Authority) -> Bundle:
    """A bundle that remembers nobody."""
    return Bundle.from_pem(b"".join(one.certificate_pem for one in authorities or (AUTHORITY,)))


def refusal(chain_der: list[bytes], judge: Bundle, now: datetime, **reserved: Any) -> str:
    with pytest.raises(TrustError) as caught:
        verify(chain_der, judge, now=now, **reserved)
    return caught.value.kind


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The chains whose signatures were looked at."""
    seen: list[Any] = []
    check = bundle._check_chain

    def note(certificates: Any, judge: Bundle, now: datetime) -> Any:
        seen.append(certificates)
        return check(certificates, judge, now)

    monkeypatch.setattr(bundle, "_check_chain", note)
    return seen


def test_a_chain_is_verified_once_and_is_the_same_peer_afterwards(checked: list[Any]) -> None:
    judge, shown = fresh(), chain()
    first = verify(shown, judge, now=NOW)
    assert verify(list(shown), judge, now=NOW + DAY) == first
    assert len(checked) == 1


def test_a_chain_that_is_remembered_still_ends_when_its_time_does() -> None:
    judge, shown = fresh(), chain(ttl=DAY)
    assert verify(shown, judge, now=NOW).not_after == NOW + DAY
    assert verify(shown, judge, now=NOW + DAY - SECOND).uri == URI
    assert refusal(shown, judge, NOW + DAY + SECOND) == "expired"
    assert verify(shown, judge, now=NOW).uri == URI


def test_a_chain_that_is_remembered_is_not_valid_before_its_time() -> None:
    judge, shown = fresh(), chain()
    verify(shown, judge, now=NOW)
    assert refusal(shown, judge, NOW - DAY) == "not-yet-valid"


def test_an_authority_that_has_ended_vouches_for_nobody_it_remembers() -> None:
    short = Authority.create("demo", now=NOW, ttl=DAY)
    judge = fresh(short)
    shown = chain(authority=short, ttl=timedelta(hours=23))
    assert verify(shown, judge, now=NOW).uri == URI
    assert refusal(shown, judge, NOW + WEEK) in {"expired", "untrusted"}


def test_no_bundle_knows_what_another_has_verified(checked: list[Any]) -> None:
    shown, other = chain(), Authority.create("other", now=NOW)
    verify(shown, fresh(), now=NOW)
    verify(shown, fresh(AUTHORITY, other), now=NOW)
    assert len(checked) == 2
    assert refusal(shown, fresh(other), NOW) == "untrusted"


def test_a_name_that_is_reserved_later_is_judged_by_its_own_bundle(checked: list[Any]) -> None:
    judge, other, shown = fresh(), Authority.create("issuer", now=NOW), chain()
    verify(shown, judge, now=NOW)
    own = fresh(other)
    assert refusal(shown, judge, NOW, reserved={URI: own}) == "untrusted"
    theirs = chain(authority=other)
    for _ in range(2):
        assert verify(theirs, judge, now=NOW, reserved={URI: own}).uri == URI
    assert len(checked) == 3
    assert refusal(theirs, judge, NOW) == "untrusted"


def test_a_refused_chain_is_refused_as_often_as_it_is_shown(checked: list[Any]) -> None:
    judge, shown = fresh(), chain(authority=Authority.create("demo", now=NOW))
    for _ in range(3):
        assert refusal(shown, judge, NOW) == "untrusted"
    assert len(checked) == 3


def test_the_same_bytes_cut_elsewhere_are_another_chain(checked: list[Any]) -> None:
    judge, shown = fresh(), chain()
    both = [shown[0], AUTHORITY_DER]
    assert verify(both, judge, now=NOW).uri == URI
    assert refusal([shown[0] + AUTHORITY_DER], judge, NOW) == "malformed"
    assert refusal([b"", shown[0], AUTHORITY_DER], judge, NOW) == "malformed"
    assert refusal([AUTHORITY_DER, shown[0]], judge, NOW) == "wrong-usage"
    assert len(checked) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, checked: list[Any]) -> None:
    monkeypatch.setattr(bundle, "VERIFIED_MAX", 4)
    judge = fresh()
    shown = [chain(f"{URI}{number}") for number in range(6)]
    for one in shown:
        verify(one, judge, now=NOW)
    assert len(judge._verified) == 4
    verify(shown[5], judge, now=NOW)
    assert len(checked) == 6
    verify(shown[0], judge, now=NOW)
    assert len(checked) == 7
    assert len(judge._verified) == 4
