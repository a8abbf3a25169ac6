from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import MS, S, patient

from p2pnet.netem import AccessShape
from p2pnet.netem.pipe import Pipe

MBIT = 8_000_000  # bits per second: a byte takes a microsecond


def pipe(bandwidth_bps: float = MBIT, **shape: object) -> Pipe:
    return Pipe(AccessShape(bandwidth_bps=bandwidth_bps, **shape))


def test_a_piece_takes_as_long_as_its_bits():
    assert pipe().cross(1_000, 1_000, 0, 0, 0) == (MS, MS, 0)


def test_the_first_packet_of_a_piece_is_through_while_the_others_are_in_service():
    assert pipe().cross(10_000, 1_000, 0, 0, 0) == (MS, 10 * MS, 0)


def test_pieces_are_served_in_the_order_of_the_calls():
    one = pipe()
    one.cross(10_000, 1_000, 0, 0, 0)
    assert one.cross(5_000, 1_000, 0, 0, 0) == (11 * MS, 15 * MS, 0)


def test_a_piece_that_comes_in_slowly_ends_with_its_last_packet_and_keeps_nobody_from_the_pipe():
    one = pipe()
    assert one.cross(10_000, 1_000, 0, 0, 100 * MS) == (MS, 101 * MS, 0)
    assert one.cross(1_000, 1_000, 20 * MS, 20 * MS, 20 * MS) == (21 * MS, 21 * MS, 0)


def test_what_finds_no_room_in_the_queue_is_dropped_in_whole_packets():
    one = pipe(queue_bytes=4_500)
    _, ends, dropped = one.cross(10_000, 1_000, 0, 0, 0)
    assert (ends, dropped) == (5 * MS, 5_000)
    assert one.waiting_bytes(0) == 5_000
    assert one.cross(1_000, 1_000, 0, 0, 0)[2] == 1_000
    assert one.cross(1_000, 1_000, 3 * MS, 3 * MS, 3 * MS)[2] == 0


def test_codel_bounds_the_wait_however_large_the_queue():
    one = pipe(queue_bytes=1 << 20, queue_kind="codel")
    one.cross(1 << 20, 1_000, 0, 0, 0)
    assert one.wait_ns(0) < 110 * MS


def test_a_change_of_bandwidth_changes_the_wait_of_later_pieces():
    one = pipe()
    one.cross(100_000, 1_000, 0, 0, 0)
    one.reshape(AccessShape(bandwidth_bps=2 * MBIT), 50 * MS)
    assert one.wait_ns(50 * MS) == 25 * MS
    one.reshape(AccessShape(bandwidth_bps=MBIT), 200 * MS)
    assert one.wait_ns(200 * MS) == 0


@patient
@given(
    bandwidth_bps=st.floats(1e4, 1e9),
    pieces=st.lists(st.tuples(st.integers(28, 70_000), st.integers(0, 20 * MS), st.integers(0, 5 * MS)), max_size=40),
    queue_bytes=st.integers(0, 1 << 18),
)
def test_no_more_is_through_at_any_time_than_the_bandwidth_carries(bandwidth_bps, pieces, queue_bytes):
    one, now, through = pipe(bandwidth_bps, queue_bytes=queue_bytes), 0, []
    for size, pause, spread in pieces:
        now += pause
        first, last, dropped = one.cross(size, 1_500, now, now, now + spread)
        assert now <= first <= last
        assert dropped == size or now < first
        assert 0 <= dropped <= size
        through.append((last, size - dropped))
    for end, _ in through:
        assert sum(size for at, size in through if at <= end) <= end * bandwidth_bps / 8 / S + 1
