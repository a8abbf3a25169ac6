"""The message frame: golden bytes, every cut, every broken rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.quic.errors import FrameError, MessageTooLarge
from p2pnet.quic.framing import HEAD, MessageReader, encode, whole

parts = st.binary(max_size=300)


def assembler(cap: int = 1 << 20, *, empty_payload: bool = True, **caps: int) -> MessageReader:
    table = {name.encode(): value for name, value in caps.items()}
    return MessageReader(
        lambda header: table.get(header, cap),
        announced_max=max([cap, *table.values()]),
        header_max=1024,
        empty_payload=empty_payload,
    )


def test_the_frame_is_qp2ps_to_the_byte() -> None:
    expected = bytes.fromhex("0002 00000001 00000002 00000003 0000 68 6464 707070")
    assert b"".join(encode(b"h", b"dd", b"ppp")) == expected


@given(header=parts, dst=parts, payload=st.binary(min_size=1, max_size=40_000), cuts=st.lists(st.integers(1, 5000)))
def test_a_message_survives_any_cut(header: bytes, dst: bytes, payload: bytes, cuts: list[int]) -> None:
    data = b"".join(encode(header, dst, payload))
    one = assembler()
    position = 0
    for cut in [*cuts, len(data)]:
        if position < len(data):
            one.feed(data[position : position + cut])
        position += cut
    assert one.finish() == (header, dst, payload)


@given(header=parts, dst=parts, pieces=st.lists(parts, min_size=1, max_size=4).filter(any))
def test_a_payload_in_pieces_is_one_payload(header: bytes, dst: bytes, pieces: list[bytes]) -> None:
    one = assembler()
    for piece in encode(header, dst, pieces):
        one.feed(piece)
    assert one.finish() == (header, dst, b"".join(pieces))


def test_every_truncation_is_a_typed_error() -> None:
    data = b"".join(encode(b"head", b"dst", b"payload"))
    for length in range(len(data)):
        one = assembler()
        if length:
            one.feed(data[:length])
        with pytest.raises(FrameError) as error:
            one.finish()
        assert error.value.kind == "truncated"


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(1, 50), max_size=10))
def test_any_bytes_give_a_message_or_a_typed_error(data: bytes, cuts: list[int]) -> None:
    one = assembler()
    position = 0
    try:
        for cut in [*cuts, len(data)]:
            if data[position : position + cut]:
                one.feed(data[position : position + cut])
            position += cut
        header, dst, payload = one.finish()
    except (FrameError, MessageTooLarge):
        return
    assert b"".join(encode(header, dst, payload)) == data


numbers = st.sampled_from([0, 1, 2, 3, 5, 99, 100, 101, 1023, 1024, 1025, 1 << 31, (1 << 32) - 1])
heads = st.builds(
    lambda version, lengths, reserved: HEAD.pack(version, *lengths, reserved),
    st.sampled_from([2, 2, 2, 2, 0, 1, 3, 0x0200]),
    st.tuples(numbers, numbers, numbers),
    st.sampled_from([0, 0, 0, 1, 0xFFFF]),
)


def outcome(pieces: list[bytes], *, reply: bool, empty_payload: bool) -> tuple[bytes, bytes, bytes] | str:
    """The message in these pieces, or the name of what is wrong with it; what it holds never exceeds what came."""
    one = MessageReader(
        lambda header: 3 if header == b"b" else 100,
        announced_max=100,
        header_max=1024,
        empty_payload=empty_payload,
        reply=reply,
    )
    fed = 0
    try:
        for piece in pieces:
            fed += len(piece)
            one.feed(piece)
            assert sum(map(len, one._pieces)) + len(one._loose) <= fed
            assert one.total <= 16 + 1024 + 1024 + 100
        return one.finish()
    except FrameError as error:
        return error.kind
    except MessageTooLarge:
        return "too large"


@given(
    head=heads,
    body=st.binary(max_size=150) | st.just(b"a" * 1200),
    cut=st.integers(0, 16),
    reply=st.booleans(),
    empty_payload=st.booleans(),
    steps=st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
def test_a_message_is_judged_alike_whole_byte_by_byte_and_in_any_pieces(
    head: bytes, body: bytes, cut: int, reply: bool, empty_payload: bool, steps: list[int]
) -> None:
    data = (head + body)[: 16 - cut if cut else None]
    pieces, position = [], 0
    for step in steps * (len(data) // sum(steps) + 1):
        pieces.append(data[position : position + step])
        position += step
    whole = outcome([data], reply=reply, empty_payload=empty_payload)
    crumbs = outcome([data[i : i + 1] for i in range(len(data))], reply=reply, empty_payload=empty_payload)
    some = outcome([one for one in pieces if one], reply=reply, empty_payload=empty_payload)
    assert whole == crumbs == some
    if not isinstance(whole, str):
        header, dst, payload = whole
        assert HEAD.pack(2, len(header), len(dst), len(payload), 0) + header + dst + payload == data


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ((1, 0, 0, 1, 0), "version"),
        ((3, 0, 0, 1, 0), "version"),
        ((2, 0, 0, 1, 7), "reserved"),
        ((2,) + (0,) * 4, "empty"),
    ],
)
def test_a_broken_head_is_refused_before_anything_follows(head: tuple[int, ...], kind: str) -> None:
    with pytest.raises(FrameError) as error:
        assembler().feed(HEAD.pack(*head))
    assert error.value.kind == kind


def test_two_messages_on_one_stream_are_refused() -> None:
    data = b"".join(encode(b"", b"", b"one"))
    with pytest.raises(FrameError) as error:
        assembler().feed(data + data)
    assert error.value.kind == "trailing"


def test_a_length_no_route_takes_is_refused_at_the_head() -> None:
    with pytest.raises(MessageTooLarge):
        assembler(cap=100, big=1000).feed(HEAD.pack(2, 3, 0, 1001, 0))


def test_a_length_over_its_routes_cap_is_refused_at_the_route() -> None:
    one = assembler(cap=100, big=1000)
    one.feed(HEAD.pack(2, 3, 0, 1000, 0) + b"bi")
    with pytest.raises(MessageTooLarge):
        one.feed(b"t")
    other = assembler(cap=100, big=1000)
    other.feed(HEAD.pack(2, 3, 0, 1000, 0) + b"big")


def test_a_forged_header_length_is_refused_at_the_head() -> None:
    with pytest.raises(MessageTooLarge):
        assembler().feed(HEAD.pack(2, 1025, 0, 1, 0))


def test_an_empty_payload_is_refused_where_qp2ps_rule_holds() -> None:
    with pytest.raises(FrameError, match="payload"):
        encode(b"h", b"", b"", empty_payload=False)
    with pytest.raises(FrameError, match="payload"):
        assembler(empty_payload=False).feed(HEAD.pack(2, 1, 0, 0, 0))


def test_an_empty_payload_passes_where_it_is_allowed() -> None:
    one = assembler()
    one.feed(b"".join(encode(b"/synced", b"", b"")))
    assert one.finish() == (b"/synced", b"", b"")


def test_a_flood_of_tiny_pieces_is_gathered() -> None:
    one = assembler()
    one.feed(HEAD.pack(2, 0, 0, 100_000, 0))
    for _ in range(100_000):
        one.feed(b"x")
    assert len(one._pieces) < 10
    assert one.finish()[2] == b"x" * 100_000


@given(
    data=st.binary(max_size=60)
    | st.builds(
        lambda head, rest: HEAD.pack(*head) + rest,
        st.tuples(
            st.sampled_from([2, 2, 2, 1]),
            st.integers(0, 9),
            st.integers(0, 9),
            st.integers(0, 40),
            st.sampled_from([0, 0, 0, 1]),
        ),
        st.binary(max_size=60),
    )
    | st.builds(lambda header, dst, payload: b"".join(encode(header, dst, payload)), parts, parts, parts.filter(bool)),
    cap=st.integers(0, 60),
    header_max=st.integers(0, 60),
)
def test_a_message_in_one_piece_is_judged_as_one_that_is_assembled(data: bytes, cap: int, header_max: int) -> None:
    one = MessageReader(lambda header: cap + len(header), announced_max=cap + 5, header_max=header_max)
    try:
        one.feed(data)
        assembled = one.finish()
    except (FrameError, MessageTooLarge):
        assembled = None
    at_once = whole(data, lambda header: cap + len(header), announced_max=cap + 5, header_max=header_max)
    assert at_once == assembled or (at_once is None and assembled is not None and not assembled[2])
