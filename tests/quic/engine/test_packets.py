"""Packets written directly, against aioquic's own builder and cipher contexts."""

import os
from typing import Any

import pytest
from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.buffer import encode_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionError, QuicNetworkPath, QuicReceiveContext
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_ack_frame
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import StreamFinishedError
from aioquic.tls import CipherSuite, Epoch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pnet.quic.engine import Windows
from p2pnet.quic.engine.packets import Sealer, ack_frame, unseal, varint
from p2pnet.quic.engine.short import read_frames
from p2pnet.quic.engine.transport import PacketTransport

SUITES = list(CipherSuite)[:3]
NUMBERS = st.integers(0, (1 << 62) - 1)
CID = b"destined"


def pairs(suite: CipherSuite) -> tuple[CryptoPair, CryptoPair]:
    """Both ends of one connection's keys."""
    one, other = CryptoPair(), CryptoPair()
    size = 48 if suite is CipherSuite.AES_256_GCM_SHA384 else 32
    for sender, receiver in ((one, other), (other, one)):
        secret = os.urandom(size)
        for context in (sender.send, receiver.recv):
            context.setup(cipher_suite=suite, secret=secret, version=QuicProtocolVersion.VERSION_1)
    return one, other


PAIRS = {suite: pairs(suite) for suite in SUITES}


@given(value=st.integers(0, (1 << 62) - 1))
def test_an_integer_is_written_as_aioquic_writes_it(value: int) -> None:
    assert varint(value) == encode_uint_var(value)


@given(suite=st.sampled_from(SUITES), number=NUMBERS, payload=st.binary(min_size=2, max_size=1_400), spin=st.booleans())
def test_a_packet_is_the_one_that_aioquics_builder_makes(
    suite: CipherSuite, number: int, payload: bytes, spin: bool
) -> None:
    crypto, _ = PAIRS[suite]
    builder = QuicPacketBuilder(
        host_cid=b"",
        peer_cid=CID,
        version=QuicProtocolVersion.VERSION_1,
        is_client=True,
        max_datagram_size=1_452,
        packet_number=number,
        spin_bit=spin,
    )
    builder.start_packet(QuicPacketType.ONE_RTT, crypto)
    builder.start_frame(1)
    builder._buffer.seek(builder._buffer.tell() - 1)
    builder._buffer.push_bytes(payload)
    [theirs], _ = builder.flush()
    sealer = Sealer(crypto, CID, spin=spin)
    assert sealer.seal(number, payload) == theirs
    assert len(theirs) == len(payload) + sealer.overhead


@pytest.mark.parametrize("suite", SUITES)
def test_new_keys_are_taken_up_where_an_update_was_asked_for(suite: CipherSuite) -> None:
    one, other = pairs(suite)
    before = Sealer(one, CID, spin=False).seal(7, b"old")
    one.update_key()
    after = Sealer(one, CID, spin=False).seal(8, b"new")
    phases = [other.recv.key_phase]
    assert other.decrypt_packet(before, 1 + len(CID), 7)[1] == b"old"
    assert other.decrypt_packet(after, 1 + len(CID), 8)[1] == b"new"
    assert [*phases, other.recv.key_phase] == [0, 1]
    back = Sealer(other, CID, spin=False).seal(0, b"back")
    assert one.decrypt_packet(back, 1 + len(CID), 0)[1] == b"back"
    assert one.recv.key_phase == 1
    with pytest.raises(CryptoError):
        other.decrypt_packet(before, 1 + len(CID), 7)


@given(
    numbers=st.sets(st.integers(0, 400) | st.integers(1 << 30, (1 << 30) + 200), min_size=1, max_size=100),
    delay=st.integers(0, 1 << 40),
)
def test_an_ack_frame_says_which_packets_came(numbers: set[int], delay: int) -> None:
    ranges = ranges_of(numbers)
    buf = Buffer(data=ack_frame(ranges, delay))
    assert buf.pull_uint_var() == 2
    assert pull_ack_frame(buf) == (ranges, delay)
    assert buf.eof()


@given(
    suite=st.sampled_from(SUITES),
    number=st.integers(0, 1 << 61),
    behind=st.integers(-100, 30_000),
    payload=st.binary(min_size=2, max_size=200),
)
def test_a_sealed_packet_is_opened_again(suite: CipherSuite, number: int, behind: int, payload: bytes) -> None:
    one, other = PAIRS[suite]
    data = Sealer(one, CID, spin=True).seal(number, payload)
    expected = max(0, number - behind)
    assert unseal(other, data, 1 + len(CID), expected)[1:] == other.decrypt_packet(data, 1 + len(CID), expected)[:0:-1]
    assert unseal(other, data, 1 + len(CID), number) == (0x61 | other.recv.key_phase << 2, number, payload)


@given(
    suite=st.sampled_from(SUITES),
    size=st.integers(1, 4),
    number=st.integers(0, 1 << 40),
    payload=st.binary(min_size=4, max_size=100),
)
def test_numbers_of_any_size_are_read(suite: CipherSuite, size: int, number: int, payload: bytes) -> None:
    one, other = PAIRS[suite]
    short = (number & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    data = one.encrypt_packet(bytes([0x40 | size - 1]) + CID + short, payload, number)
    assert unseal(other, data, 1 + len(CID), number) == (0x40 | size - 1, number, payload)


@given(
    suite=st.sampled_from(SUITES),
    payload=st.binary(min_size=2, max_size=60),
    at=st.integers(),
    flip=st.integers(1, 255),
)
def test_what_was_changed_on_the_way_or_cut_is_not_opened(
    suite: CipherSuite, payload: bytes, at: int, flip: int
) -> None:
    one, other = PAIRS[suite]
    data = Sealer(one, CID, spin=False).seal(5, payload)
    changed = bytearray(data)
    changed[at % len(data)] ^= flip
    for bad in (bytes(changed), data[: at % len(data)]):
        with pytest.raises(CryptoError):
            unseal(other, bad, 1 + len(CID), 5)


@pytest.mark.parametrize("suite", SUITES)
def test_a_packet_under_the_peers_next_keys_makes_them_the_present_ones(suite: CipherSuite) -> None:
    one, other = pairs(suite)
    one.update_key()
    data = Sealer(one, CID, spin=False).seal(3, b"new")
    assert unseal(other, data, 1 + len(CID), 3) == (0x45, 3, b"new")
    assert other.send.key_phase == other.recv.key_phase == 1
    assert unseal(one, Sealer(other, CID, spin=False).seal(9, b"back"), 1 + len(CID), 9) == (0x45, 9, b"back")


# Frames, read here and by aioquic

VARINT = st.integers(0, 63) | st.integers(0, 20_000) | NUMBERS


@st.composite
def varint_of_any_size(draw: st.DrawFn) -> bytes:
    """Not only in the fewest bytes."""
    size = draw(st.integers(0, 3))
    value = draw(st.integers(0, min(1 << (8 << size) - 2, 1 << 16) - 1))
    return (value | size << (8 << size) - 2).to_bytes(1 << size, "big")


def numbered(kind: int, *values: int, rest: bytes = b"") -> bytes:
    """A frame of these numbers."""
    return bytes([kind]) + b"".join(map(encode_uint_var, values)) + rest


STREAM_FRAMES = st.builds(
    lambda kind, stream, offset, size, data: (
        bytes([0x08 | kind])
        + stream
        + (offset if kind & 4 else b"")
        + (size or varint(len(data)) if kind & 2 else b"")
        + data
    ),
    st.integers(0, 7),
    varint_of_any_size() | VARINT.map(varint),
    varint_of_any_size() | VARINT.map(varint),
    st.none() | st.none() | varint_of_any_size(),
    st.binary(max_size=80),
)
ACK_FRAMES = st.builds(
    lambda kind, numbers, gaps, ecn: (
        bytes([kind]) + b"".join(map(varint, numbers)) + varint(len(gaps)) + b"".join(gaps) + ecn
    ),
    st.sampled_from([2, 2, 2, 3]),
    st.tuples(st.integers(0, 1_100), VARINT),
    st.lists(varint_of_any_size(), max_size=9),
    st.sampled_from([b"", b"\x01\x02\x03"]),
)
GOOD_ACKS = st.sets(st.integers(0, 1_000), min_size=1).map(lambda numbers: ack_frame(ranges_of(numbers), 9))
OTHERS = st.sampled_from([b"\x01", bytes(3), numbered(0x10, 1 << 20), numbered(0x14, 5), b"\x40\x01", b"\xff", b"\x30"])
PAYLOADS = st.lists(STREAM_FRAMES | GOOD_ACKS | ACK_FRAMES | OTHERS, max_size=6).map(b"".join) | st.binary(max_size=40)


def ranges_of(numbers: set[int]) -> RangeSet:
    """As a receiver keeps them."""
    ranges = RangeSet()
    for number in numbers:
        ranges.add(number)
    return ranges


def effects(payload: bytes, read: str) -> tuple[list[Any], Any]:
    """What a connection is told of these frames, and how that ended."""
    told: list[Any] = []
    connection: Any = PacketTransport(
        configuration=QuicConfiguration(is_client=True),
        windows=Windows(connection=1 << 20, uni=1 << 16, inbound=1 << 16, reply=1 << 16, streams=10, gaps=100),
        largest_datagram=1_452,
        admit=lambda _chain: None,
        ask_client=False,
        random_bytes=os.urandom,
        reset_token=lambda _cid: bytes(16),
    )
    space = QuicPacketSpace(is_application_data=True)
    connection._spaces = {Epoch.ONE_RTT: space}
    connection.space = space
    connection._packet_number = 1 << 62
    connection._network_paths = [QuicNetworkPath(("", 0), is_validated=True)]

    def on_data(kind: int, stream_id: int, offset: int, data: bytes) -> None:
        told.append((kind, stream_id, offset, data))
        if stream_id % 5 == 4:
            raise StreamFinishedError

    connection.flow.on_data = on_data
    connection._loss.on_ack_received = lambda **what: told.append(
        (list(what["ack_rangeset"]), what["ack_delay"], what["now"])
    )
    try:
        if read == "here":
            return told, read_frames(connection, payload, 7.0)
        context = QuicReceiveContext(Epoch.ONE_RTT, b"", connection._network_paths[0], None, 7.0, None)
        return told, connection._payload_received(context, payload)[0]
    except QuicConnectionError as error:
        return told, (error.error_code, error.frame_type)
    except (AttributeError, KeyError) as error:
        return told, type(error)  # of a frame that needs a handshake


@given(payload=PAYLOADS, cut=st.none() | st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_frames_read_here_have_the_effects_they_have_in_aioquic(payload: bytes, cut: int | None) -> None:
    payload = payload[:cut]
    assert effects(payload, "here") == effects(payload, "in aioquic")
