"""Blobs: what is made reads back; what breaks a bound is refused; what expired or comes from the future is not taken."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast import Artifact, BlobClient, Change, Pool, make_blob, read_blob
from p2pnet.broadcast.blob import CLOCK_BOUND_S, KEEP_S_MAX
from p2pnet.broadcast.pool import ChangeKind, HandleInvalid, MoveToValidated, RemoveFromUnvalidated
from p2pnet.model.errors import LimitError, MalformedError
from p2pnet.model.ids import ArtifactId

NONCE = bytes(16)
ID = ArtifactId(bytes(32))


@given(st.text(max_size=60), st.binary(max_size=300), st.floats(0, 2e9), st.floats(0, KEEP_S_MAX / 2))
def test_a_blob_reads_back(name: str, data: bytes, created: float, keep: float) -> None:
    encoded = make_blob(name, data, NONCE, created, created + keep)
    blob = read_blob(encoded)
    assert (blob.name, bytes(blob.data), blob.nonce) == (name, data, NONCE)
    assert (blob.created, blob.expires) == (created, created + keep)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_blob_or_malformed(data: bytes) -> None:
    with suppress(MalformedError):
        read_blob(data)


def test_a_blob_with_bytes_behind_it_is_malformed() -> None:
    with pytest.raises(MalformedError):
        read_blob(make_blob("n", b"d", NONCE, 1, 2) + b"x")


def test_reading_a_large_blob_copies_nothing() -> None:
    encoded = make_blob("n", bytes(100_000), NONCE, 1, 2)
    assert read_blob(encoded).data.obj is encoded


@pytest.mark.parametrize(
    ("name", "nonce", "expires"), [("n", b"short", 2), ("n" * 300, NONCE, 2), ("n", NONCE, 0), ("n", NONCE, 1e9)]
)
def test_a_blob_beyond_a_bound_is_not_made(name: str, nonce: bytes, expires: float) -> None:
    with pytest.raises(LimitError):
        make_blob(name, b"d", nonce, 1, expires)


def test_a_blob_that_never_expires_is_malformed() -> None:
    import msgspec

    with pytest.raises(MalformedError):
        read_blob(msgspec.msgpack.encode((1.0, float("inf"), NONCE, "n", b"d")))
    with pytest.raises(MalformedError):
        read_blob(msgspec.msgpack.encode((float("nan"), 5.0, NONCE, "n", b"d")))


@pytest.mark.parametrize(
    ("created", "expires", "action"),
    [
        (1000.0, 1600.0, MoveToValidated),
        (1000.0 + CLOCK_BOUND_S - 1, 1600.0, MoveToValidated),
        (1000.0 + CLOCK_BOUND_S + 1, 1600.0, HandleInvalid),
        (900.0, 999.0, RemoveFromUnvalidated),
    ],
)
def test_a_blob_is_judged_by_its_times(created: float, expires: float, action: type) -> None:
    client, pool = BlobClient(), Pool()
    data = make_blob("n", b"d", NONCE, created, expires)
    pool.unvalidated[ID] = Artifact(id=ID, data=data, parts=b"", inspected=client.inspect(data), peer="p")
    (done,) = client.on_state_change([Change(ChangeKind.INSERTED, ID)], pool, 1000.0)
    assert type(done) is action


def test_a_change_about_an_artifact_that_left_meanwhile_asks_nothing() -> None:
    assert BlobClient().on_state_change([Change(ChangeKind.INSERTED, ID)], Pool(), 0.0) == []
