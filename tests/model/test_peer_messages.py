import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pnet.model import limits
from p2pnet.model.peer_messages import (
    ANSWER_BYTES_MAX,
    ASK_BYTES_MAX,
    ROUTE_HELLO,
    ROUTE_RECORDS,
    Envelope,
    Record,
    RecordsReply,
    RecordsRequest,
    route_digest,
    route_fetch,
    route_synced,
    route_update,
)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([RecordsRequest, RecordsReply, Envelope, Record]))
def test_any_bytes_give_a_message_of_the_exchange_or_a_decode_error(noise: bytes, shape: type) -> None:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        assert isinstance(msgspec.msgpack.decode(noise, type=shape), shape)


def test_what_is_asked_and_answered_at_most_fits_its_route() -> None:
    known = {f"abcdefghijkl-{number:03}": (1 << 52, 1 << 52) for number in range(limits.RECORDS_MAX)}
    assert len(msgspec.msgpack.encode(RecordsRequest(bytes(limits.RECORD_BYTES_MAX), known))) <= ASK_BYTES_MAX
    full = RecordsReply([bytes(limits.RECORD_BYTES_MAX)] * limits.RECORDS_PER_REPLY, more=True)
    assert len(msgspec.msgpack.encode(full)) <= ANSWER_BYTES_MAX
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(
            msgspec.msgpack.encode(RecordsRequest(b"", known | {"one-more": (0, 0)})), type=RecordsRequest
        )
    over = msgspec.msgpack.encode([[b""] * (limits.RECORDS_PER_REPLY + 1), False])
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(over, type=RecordsReply)


def test_no_two_clients_share_a_route() -> None:
    routes = [
        route(client)
        for client in ("blob", "beacon")
        for route in (route_update, route_fetch, route_synced, route_digest)
    ]
    assert len({ROUTE_HELLO, ROUTE_RECORDS, *routes}) == 2 + len(routes)
