"""What is remembered of packets: enough to tell a duplicate, and no more the longer it goes on."""

from __future__ import annotations

import sys
from typing import Any

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.recovery import QuicPacketNumberWindow, QuicPacketSpace
from aioquic.tls import Epoch
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.quic.engine.mtu import BASE, PathMtu
from p2pnet.quic.engine.recovery import QUIET_PACKETS_MAX, ReceivedNumbers, Recovery

STEPS = st.lists(st.one_of(st.integers(-300, 300), st.integers(0, 1 << 40)), max_size=60)


@given(STEPS)
def test_numbers_count_as_received_as_they_do_in_aioquic(steps: list[int]) -> None:
    ours, theirs = ReceivedNumbers(), QuicPacketNumberWindow()
    number = 0
    for step in steps:
        number = max(0, number + step)
        for near in (number, number + 1, max(0, number - 1), max(0, number - 127), max(0, number - 128)):
            assert (near in ours) == (near in theirs)
        ours.add(number)
        theirs.add(number)
        assert number in ours


def test_numbers_take_no_more_memory_the_more_there_are() -> None:
    numbers: Any = ReceivedNumbers()
    for number in range(0, 100_000, 3):
        numbers.add(number)
    assert sys.getsizeof(numbers._bits) < 64
    numbers.add(1 << 62)
    assert sys.getsizeof(numbers._bits) < 64
    assert 99_999 in numbers
    assert (1 << 62) - 1 not in numbers


def recovery() -> Any:
    return Recovery(
        congestion="reno",
        initial_rtt=0.1,
        datagram_bytes=BASE,
        peer_completed_address_validation=True,
        send_probe=lambda: None,
        mtu=PathMtu(largest=BASE),
        quic_logger=None,
    )


def acknowledgement(number: int, epoch: Epoch) -> QuicSentPacket:
    """A packet that asks for nothing."""
    return QuicSentPacket(
        epoch=epoch,
        in_flight=False,
        is_ack_eliciting=False,
        is_crypto_packet=False,
        packet_number=number,
        packet_type=QuicPacketType.ONE_RTT,
        sent_time=1.0,
        sent_bytes=40,
    )


def test_few_of_the_packets_that_nobody_need_acknowledge_are_remembered() -> None:
    loss, space = recovery(), QuicPacketSpace(is_application_data=True)
    for number in range(1_000):
        loss.on_packet_sent(packet=acknowledgement(number, Epoch.ONE_RTT), space=space)
    assert list(space.sent_packets) == list(range(1_000 - QUIET_PACKETS_MAX, 1_000))


def test_what_was_sent_in_a_space_that_is_over_is_forgotten() -> None:
    loss, before, space = recovery(), QuicPacketSpace(), QuicPacketSpace(is_application_data=True)
    loss.spaces = [before, space]
    loss.on_packet_sent(packet=acknowledgement(0, Epoch.HANDSHAKE), space=before)
    loss.on_packet_sent(packet=acknowledgement(1, Epoch.ONE_RTT), space=space)
    loss.keep_only(space)
    assert loss.spaces == [space]
    assert loss._quiet == [(space, 1)]
