"""Packets written directly, against aioquic's own builder and cipher contexts."""

import os

import pytest
from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.buffer import encode_uint_var
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_ack_frame
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.rangeset import RangeSet
from aioquic.tls import CipherSuite
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.quic.engine.packets import Sealer, ack_frame, varint

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
    ranges = RangeSet()
    for number in numbers:
        ranges.add(number)
    buf = Buffer(data=ack_frame(ranges, delay))
    assert buf.pull_uint_var() == 2
    assert pull_ack_frame(buf) == (ranges, delay)
    assert buf.eof()
