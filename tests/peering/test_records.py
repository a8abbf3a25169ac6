"""The store of records: what is taken, what is refused, what ends; whatever comes and in whatever order."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.peering.recordkit import AUTHORITY, BUNDLE, NOW, NOW_S, SCOPE, identity, record, uri

from p2pnet.model import limits
from p2pnet.model.errors import LimitError, MalformedError, RemoteError, SpecError, TrustError
from p2pnet.model.ids import member_uri
from p2pnet.model.peer_messages import (
    RECORD_CONTEXT,
    Envelope,
    Record,
)
from p2pnet.peering.discovery import RecordDirectory
from p2pnet.peering.records import AHEAD_S, OwnRecord, RecordRefusedError, RecordStore, read_record, write_record
from p2pnet.trust import BACKDATE, Authority, Identity, sign

AUTHORITY_OF_LONG = Authority.create("p2pnet " + "n" * 57, now=NOW, ttl=timedelta(days=30))
FOREIGN = Authority.create("foreign", now=NOW, ttl=timedelta(days=30))
NAMES = [f"node-{number}" for number in range(6)]


def store(name: str = "node-0") -> RecordStore:
    return RecordDirectory(name, *SCOPE).records


# --- what is taken ---


ORDERS = st.tuples(st.sampled_from(NAMES), st.integers(1, 3), st.integers(0, 4))


@settings(max_examples=50, deadline=None)
@given(st.lists(ORDERS, max_size=12))
def test_whatever_the_order_the_highest_incarnation_and_sequence_counts(offers: list[tuple[str, int, int]]) -> None:
    held = store("node-9")
    best: dict[str, tuple[int, int]] = {}
    for name, incarnation, sequence in offers:
        news = held.offer(record(name, sequence, incarnation=incarnation), BUNDLE, now=NOW)
        assert bool(news) == ((incarnation, sequence) > best.get(name, (-1, -1)))
        best[name] = max(best.get(name, (-1, -1)), (incarnation, sequence))
    assert held.known() == best


def test_ones_own_record_is_not_kept_and_a_newer_one_under_ones_name_is_outdone() -> None:
    held = store("node-0")
    own = OwnRecord(["127.0.0.1:4100"], 600, NOW - timedelta(hours=1))
    own.sign(identity("node-0"), NOW, held.echo)
    assert not own.due(NOW, held.echo)
    # what a former life left behind, whose clock was ahead
    former = record("node-0", 3, incarnation=int((NOW_S + 99) * 1000))
    assert held.offer(former, BUNDLE, now=NOW) == ""
    assert held.names == frozenset()
    assert own.due(NOW, held.echo)
    own.sign(identity("node-0"), NOW, held.echo)
    assert own.order > ((NOW_S + 99) * 1000, 3)
    assert not own.due(NOW, held.echo)
    assert store("node-1").offer(own.envelope, BUNDLE, now=NOW) == "node-0"


def test_ones_own_record_is_due_at_half_its_life_and_never_longer_than_allowed() -> None:
    own = OwnRecord(["127.0.0.1:4100"], limits.RECORD_S, NOW)
    own.sign(identity("node-0"), NOW, (0, -1))
    assert not own.due(NOW + timedelta(minutes=4, seconds=59), (0, -1))
    assert own.due(NOW + timedelta(minutes=5), (0, -1))
    assert own.due(NOW - timedelta(seconds=1), (0, -1)), "the clock was put back"
    signed = read_record(own.envelope, BUNDLE, now=NOW)
    assert signed.record.expiry <= NOW_S + 600
    assert signed.record.order == (NOW_S * 1000, 0)
    own.sign(identity("node-0"), NOW + timedelta(minutes=5), (0, -1))
    assert read_record(own.envelope, BUNDLE, now=NOW).record.order == (NOW_S * 1000, 1)


# --- what is refused ---


def forged(name: str, **changes: Any) -> bytes:
    """A record of `name` with some parts exchanged."""
    parts = msgspec.msgpack.decode(record(name), type=Envelope)
    return msgspec.msgpack.encode(msgspec.structs.replace(parts, **changes))


def other_body() -> bytes:
    return msgspec.msgpack.encode(Record(9, 9, NOW_S + 60, ["10.6.6.6:4100"]))


REFUSED: dict[str, tuple[Callable[[], bytes], type[RemoteError], str]] = {
    "changed in its body": (lambda: forged("node-1", body=other_body()), RecordRefusedError, "not signed"),
    "under somebody else's chain": (
        lambda: forged("node-1", chain=list(identity("node-2").chain_der)), RecordRefusedError, "not signed"
    ),
    "signed for another use": (
        lambda: forged("node-1", body=other_body(), signature=sign(identity("node-1"), other_body())),
        RecordRefusedError, "not signed",
    ),
    "of another authority": (lambda: record("node-1", authority=FOREIGN), TrustError, "vouches"),
    "without a chain": (lambda: forged("node-1", chain=[]), TrustError, "no certificate"),
    "ended": (lambda: record("node-1", life_s=0), RecordRefusedError, "has ended"),
    "that lives too long": (lambda: record("node-1", life_s=AHEAD_S + 1), RecordRefusedError, "ends in more than"),
    "with a byte too many": (lambda: record("node-1") + b"\x00", MalformedError, "not a record"),
    "too long": (lambda: bytes(limits.RECORD_BYTES_MAX + 1), MalformedError, "at most 1024"),
    "without addresses": (
        lambda: forged("node-1", body=msgspec.msgpack.encode([1, 1, NOW_S, []])), MalformedError, "length >= 1"
    ),
    "with too many addresses": (
        lambda: forged("node-1", body=msgspec.msgpack.encode([1, 1, NOW_S, ["a:1"] * 5])), MalformedError, "length <= 4"
    ),
    "with a negative sequence": (
        lambda: forged("node-1", body=msgspec.msgpack.encode([1, -1, NOW_S, ["a:1"]])), MalformedError, ">= 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_a_record_is_refused(why: str) -> None:
    make, error, words = REFUSED[why]
    held = store()
    with pytest.raises(error, match=words):
        held.offer(make(), BUNDLE, now=NOW)
    assert held.known() == {}


@pytest.mark.parametrize(
    "foreign",
    [
        member_uri("p2pnet", "local", "other", "node-1"),
        member_uri("else", "local", "demo", "node-1"),
        "spiffe://p2pnet/ns/local/subnet/demo/lab",
    ],
)
def test_records_of_other_subnets_and_of_the_lab_are_refused(foreign: str) -> None:
    leaf = Identity.of(AUTHORITY.issue(foreign, now=NOW, ttl=timedelta(hours=1)), AUTHORITY.certificate_pem)
    envelope = write_record(Record(1, 0, NOW_S + 60, ["10.0.0.1:4100"]), leaf)
    with pytest.raises(RecordRefusedError, match="in place of"):
        store().offer(envelope, BUNDLE, now=NOW)


def test_a_record_in_place_of_the_peers_own_is_refused() -> None:
    with pytest.raises(RecordRefusedError, match="in place of one of node-2"):
        store().offer(record("node-1"), BUNDLE, now=NOW, of="node-2")


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=1100), st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=4))))
def test_any_bytes_give_a_record_or_a_typed_error_and_leave_no_trace(noise: Any) -> None:
    if isinstance(noise, tuple):  # a good record with some bytes overwritten
        place, piece = noise
        good = record("node-1")
        noise = good[:place] + piece + good[place + len(piece) :]
    held = store()
    try:
        name = held.offer(noise, BUNDLE, now=NOW)
    except RemoteError:
        assert held.known() == {}
    else:
        # an ECDSA signature can be written in more than one way, a chain too; what it says cannot be changed
        assert (name, held.record("node-1")) == ("node-1", read_record(record("node-1"), BUNDLE, now=NOW).record)


# --- sizes ---


def test_the_longest_names_of_a_cluster_fit_a_record() -> None:
    namespace, subnet, node = "n" * 63, "s" * 40, "g" * 12 + "-499"
    pod = f"{subnet}-{node}"
    leaf = AUTHORITY_OF_LONG.issue(
        member_uri("p2pnet", namespace, subnet, node), now=NOW, ttl=timedelta(days=7),
        dns_names=[f"{pod}.{subnet}-nodes.{namespace}.svc"],
    )  # fmt: skip
    longest = Record((1 << 53) - 1, (1 << 53) - 1, NOW_S, ["255.255.255.255:65535"])
    envelope = write_record(longest, Identity.of(leaf, AUTHORITY_OF_LONG.certificate_pem))
    assert len(envelope) <= limits.RECORD_BYTES_MAX


def test_a_chain_that_does_not_fit_is_a_limit_said_aloud() -> None:
    leaf = AUTHORITY.issue(
        uri("node-1"), now=NOW, ttl=timedelta(days=1), dns_names=[f"{'x' * 60}.{'y' * 60}.n{n}" for n in range(4)]
    )
    with pytest.raises(LimitError, match=r"allows 1024. Issue an ECDSA P-256 leaf"):
        write_record(Record(1, 0, NOW_S, ["a:1"]), Identity.of(leaf, AUTHORITY.certificate_pem))


def test_a_key_that_cannot_sign_records_is_named() -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    odd = Identity(identity("node-1").chain_pem, key, AUTHORITY.certificate_pem)
    with pytest.raises(SpecError, match="neither of an elliptic curve nor Ed25519"):
        write_record(Record(1, 0, NOW_S, ["a:1"]), odd)


# --- time ---


@given(st.floats(-2000, 2000))
@settings(deadline=None, max_examples=60)
def test_a_record_counts_until_it_ends_and_its_signers_clock_may_be_ahead_by_what_a_leaf_allows(life_s: float) -> None:
    held = store()
    try:
        taken = held.offer(record("node-1", life_s=life_s), BUNDLE, now=NOW) == "node-1"
    except RecordRefusedError:
        taken = False
    assert taken == (0 < int(NOW_S + life_s) - NOW_S <= limits.RECORD_S + BACKDATE.total_seconds())


def test_records_end_with_their_time_or_with_their_leaf_and_are_remembered_as_lost() -> None:
    held = store()
    short = identity("node-2", life=timedelta(seconds=100))
    held.offer(record("node-1", life_s=300), BUNDLE, now=NOW)
    held.offer(write_record(Record(1, 0, NOW_S + 300, ["a:1"]), short), BUNDLE, now=NOW)
    assert held.expire(NOW + timedelta(seconds=99)) == []
    assert held.expire(NOW + timedelta(seconds=100)) == ["node-2"]
    assert held.expire(NOW + timedelta(seconds=300)) == ["node-1"]
    assert held.lost == {"node-1", "node-2"}
    held.offer(record("node-1", 1), BUNDLE, now=NOW)
    held.deny([uri("node-2")])
    assert held.lost == set()


def test_a_record_that_has_ended_is_not_handed_on() -> None:
    held = store()
    held.offer(record("node-1", life_s=60), BUNDLE, now=NOW)
    assert held.newer({}, NOW + timedelta(seconds=59), 0.0) == ([record("node-1", life_s=60)], False)
    assert held.newer({}, NOW + timedelta(seconds=60), 0.0) == ([], False)


def test_another_bundle_drops_whom_it_does_not_vouch_for() -> None:
    held = store()
    both = Identity.of(
        AUTHORITY.issue(uri("node-0"), now=NOW, ttl=timedelta(hours=1)),
        AUTHORITY.certificate_pem + FOREIGN.certificate_pem,
    ).bundle
    held.offer(record("node-1"), both, now=NOW)
    held.offer(record("node-2", authority=FOREIGN), both, now=NOW)
    assert held.recheck(BUNDLE, now=NOW) == ["node-2"]
    assert held.names == {"node-1"}


# --- bounds ---


def test_the_store_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_MAX", 3)
    held = store("node-9")
    for name in NAMES[:3]:
        held.offer(record(name), BUNDLE, now=NOW)
    with pytest.raises(RecordRefusedError, match="no room for the record of node-3: 3 are kept"):
        held.offer(record("node-3"), BUNDLE, now=NOW)
    assert held.offer(record("node-0", 1), BUNDLE, now=NOW) == "node-0"
    held.expire(NOW + timedelta(hours=1))
    for number in range(3):
        held.offer(record(NAMES[number + 3]), BUNDLE, now=NOW)
    held.expire(NOW + timedelta(hours=1))
    assert len(held.lost) == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_pages_bring_an_asker_everything_it_lacks_and_end(seed: int, per_reply: int) -> None:
    rng = random.Random(seed).random
    full, asker = store("node-9"), store("node-8")
    for name in NAMES:
        full.offer(record(name, 1), BUNDLE, now=NOW)
        if rng() < 0.3:
            asker.offer(record(name), BUNDLE, now=NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "RECORDS_PER_REPLY", per_reply)
        asked, more = 0, True
        while more:
            asked += 1
            assert asked <= -(-len(NAMES) // (per_reply - 1))
            page, more = full.newer(asker.known(), NOW, rng())
            assert len(page) <= per_reply - 1
            assert all(asker.offer(envelope, BUNDLE, now=NOW) for envelope in page)
    assert asker.known() == full.known()


# --- who belongs ---


def test_the_context_keeps_other_signatures_out() -> None:
    body = other_body()
    mine = identity("node-1")
    right = msgspec.msgpack.encode(Envelope(body, sign(mine, RECORD_CONTEXT + body), list(mine.chain_der)))
    assert store().offer(right, BUNDLE, now=NOW) == "node-1"
